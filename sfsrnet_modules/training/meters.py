"""What is measured while training, without holding it up."""

from time import perf_counter
from typing import Any

import torch
from torch import Tensor


class Figures:
    """Figures of steps, left on the device until they are read, all of them in one transfer.

    Example
    -------
    >>> figures = Figures()
    >>> for step in (1, 2):
    ...     figures.add(step, {"loss": torch.tensor(0.5 * step)})
    >>> figures.read(), figures.read()
    ([(1, {'loss': 0.5}), (2, {'loss': 1.0})], [])
    """

    def __init__(self):
        self._names: list[tuple[Any, list[str]]] = []
        self._values: list[Tensor] = []

    def add(self, about: Any, figures: dict[str, Tensor]) -> None:
        """Keep what scalars are now, and what they are about."""
        self._names.append((about, list(figures)))
        self._values.append(torch.stack([value.detach().float() for value in figures.values()]))

    def read(self) -> list[tuple[Any, dict[str, float]]]:
        """Return what was kept since the last time, in its order."""
        values = iter(torch.cat(self._values).tolist() if self._values else [])
        read = [(about, {n: next(values) for n in names}) for about, names in self._names]
        self.__init__()
        return read


class Throughput:
    """Counts items and samples, and the seconds in which the loop waits for the next batch.

    Between :meth:`waits` and :meth:`takes` there is the loader alone: optimizer, average and
    checkpoints come before.
    """

    def __init__(self):
        self.num_items, self.num_samples, self.waited = 0, 0, 0.0
        self.started = self.last = perf_counter()

    def waits(self) -> None:
        """Note that a step and all that follows it are over."""
        self.last = perf_counter()

    def takes(self, num_items: int, num_samples: int) -> None:
        """Note that the next batch is here, of so many items with so many samples each."""
        self.waited += perf_counter() - self.last
        self.num_items += num_items
        self.num_samples += num_items * num_samples

    def speed(self) -> dict[str, float]:
        """Return items and samples a second and the share of the time that was waited."""
        seconds = perf_counter() - self.started
        return {
            "items_per_second": self.num_items / seconds,
            "samples_per_second": self.num_samples / seconds,
            "data_wait": self.waited / seconds,
        }
