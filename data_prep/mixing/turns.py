"""Who speaks when in a mixture: all voices throughout, some with a pause, fewer, or none."""

from collections.abc import Mapping

import numpy as np

PAUSE = (0.2, 0.7)  # of the mixture's duration, the length of a pause
FADE = 0.02  # s, into a pause and out of it: no click


class Turns:
    """Draws which voices of a mixture speak, and when.

    Arguments
    ---------
    sample_rate : int
        Hz.
    fewer_voices : dict
        Number of voices: share of the mixtures that have so many; the others have all. The sources
        beyond are silent.
    pause_share : float
        Share of the mixtures whose voices pause once each, so that they overlap only partly. A
        pause can lie partly before the mixture or behind it.

    Raises
    ------
    ValueError
        Shares that are none.

    Example
    -------
    >>> turns = Turns(8000, fewer_voices={1: 1.0})
    >>> turns.draw(np.random.default_rng(0), num_spks=2, num_samples=4)
    array([[1., 1., 1., 1.],
           [0., 0., 0., 0.]], dtype=float32)
    """

    def __init__(
        self,
        sample_rate: int,
        fewer_voices: Mapping[int, float] | None = None,
        pause_share: float = 0.0,
    ):
        shares = {} if fewer_voices is None else fewer_voices
        if not isinstance(shares, Mapping) or not _are_shares(shares):
            raise ValueError(
                f"fewer_voices is {shares}: give numbers of voices and their shares of the "
                "mixtures, 1 together at most"
            )
        if not 0 <= pause_share <= 1:
            raise ValueError(f"pause_share is {pause_share}: set it to a share from 0 to 1")
        self.sample_rate = sample_rate
        self.numbers = np.array(list(shares), np.int64)
        self.bounds = np.cumsum(list(shares.values()))  # of the shares, laid end to end
        self.pause_share = pause_share

    def draw(self, rng: np.random.Generator, num_spks: int, num_samples: int) -> np.ndarray:
        """Draw the gain of each voice over time, from 0 to 1: float32 [C, T]."""
        gains = np.ones((num_spks, num_samples), np.float32)
        if rng.random() < self.pause_share:
            gains = self._pauses(rng, num_spks, num_samples)
        place = np.searchsorted(self.bounds, rng.random(), side="right")
        if place < len(self.numbers):
            gains[self.numbers[place] :] = 0
        return gains

    def _pauses(self, rng: np.random.Generator, num_spks: int, num_samples: int) -> np.ndarray:
        centers = rng.uniform(0, num_samples, (num_spks, 1))
        lengths = num_samples * rng.uniform(*PAUSE, (num_spks, 1))
        beyond = np.abs(np.arange(num_samples) - centers) - lengths / 2  # [C, T], from the pause
        return (beyond / (FADE * self.sample_rate)).clip(0, 1).astype(np.float32)


def _are_shares(shares: Mapping) -> bool:
    numbers = [*shares, *shares.values()]
    is_number = all(isinstance(number, int | float) for number in numbers)
    return is_number and min(numbers, default=0) >= 0 and sum(shares.values()) <= 1
