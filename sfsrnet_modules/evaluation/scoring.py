"""Scores the items of a test in other processes, while the next ones are separated."""

import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from pathlib import Path
from threading import Thread

import pandas as pd
import torch
from speechbrain.utils.logger import get_logger
from torch import Tensor

from sfsrnet_modules.common.mixture_level import at_mixture_level
from sfsrnet_modules.common.preemption import SIGNALS
from sfsrnet_modules.common.writing import write_whole
from sfsrnet_modules.evaluation.metrics import (
    band_si_snr_i,
    in_order,
    perceptual,
    perceptual_measures,
    score_all,
)
from sfsrnet_modules.evaluation.silence import has_silence, score_silence
from sfsrnet_modules.models.conditioning import Conditioning

logger = get_logger(__name__)

BEFORE_SR = "_before_sr"  # what the columns of the separator's own answer end in
BACKLOG = 8  # items a process that wait to be scored: separation may not fill the memory


class Scoring:
    """Collects the rows of ``test_results.csv``.

    Arguments
    ---------
    sample_rate : int
        Hz.
    num_workers : int
        Processes, each with one thread; 0 scores in this one.
    bands : bool
        Whether each row has SI-SNRi in bands of 1 kHz as well.
    measures : tuple of str, optional
        Which of "pesq" and "stoi" each row has. Default: those that can be had.

    Example
    -------
    >>> scoring = Scoring(sample_rate=8000)
    >>> sources = torch.randn(4000, 2)
    >>> scoring.add("a", sources.sum(1), sources, {"": sources, "_before_sr": sources + 0.5})
    >>> list(scoring.rows()[0])[:4]
    ['id', 'duration', 'si_snr', 'si_snr_i']
    """

    def __init__(
        self,
        sample_rate: int,
        num_workers: int = 0,
        bands: bool = False,
        measures: tuple[str, ...] | None = None,
    ):
        if measures is None:
            measures = perceptual_measures(sample_rate)
            _tell_what_is_left_out(measures)
        self.options = (sample_rate, measures, bands)
        self.futures: list[Future] = []
        self.backlog = BACKLOG * num_workers
        self.pool = None
        if num_workers:
            clean = get_context("forkserver")  # a fork of this process would inherit CUDA's state
            clean.set_forkserver_preload([__name__])  # imported once, not in every process
            self.pool = ProcessPoolExecutor(num_workers, clean, initializer=_start_worker)

    def add(
        self, id_: str, mixture: Tensor, sources: Tensor, estimates: Mapping[str, Tensor]
    ) -> None:
        """Hand an item over to be scored.

        Arguments
        ---------
        id_ : str
            Of the item.
        mixture : torch.Tensor
            [T].
        sources : torch.Tensor
            [T, C].
        estimates : dict
            What a column's name ends in, and its estimate [T, C], in any order of sources; see
            :func:`name_estimates`.
        """
        # as arrays: tensors would travel as open files, of which a process may have few
        arrays = {suffix: x.float().cpu().numpy() for suffix, x in estimates.items()}
        item = (id_, mixture.float().cpu().numpy(), sources.float().cpu().numpy(), arrays)
        if self.pool is None:
            done = Future()
            done.set_result(score_item(*item, *self.options))
            self.futures.append(done)
            return
        with _signals_blocked():  # it starts processes as they are needed
            self.futures.append(self.pool.submit(score_item, *item, *self.options))
        if len(self.futures) > self.backlog:
            self.futures[-self.backlog].result()

    def rows(self) -> list[dict]:
        """Wait for the scores: a row an item, in the order in which they were added."""
        rows = [future.result() for future in self.futures]
        if self.pool is not None:
            self.pool.shutdown()
        return rows


def _start_worker() -> None:
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave no process behind where the one that separates is killed."""
    parent_process().join()
    os._exit(1)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let processes that are started meanwhile take no notice of what tells a job to stop.

    A cluster signals all that a job started; only the process that separates may act on it.
    """
    resource_tracker.ensure_running()  # the first time it lets SIGTERM through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tell_what_is_left_out(measures: tuple[str, ...]) -> None:
    missing = {"pesq", "stoi"} - set(measures)
    if missing:
        logger.info(
            f"Scored without {' and '.join(name.upper() for name in sorted(missing))}: they need "
            "the packages pesq and pystoi (`pip install .[scores]`), PESQ also 8000 or 16000 Hz"
        )


def name_estimates(estimates: Tensor, has_refined: bool) -> dict[str, Tensor]:
    """Tell what each of a model's estimates is.

    Arguments
    ---------
    estimates : torch.Tensor
        [E, ...].
    has_refined : bool
        Whether the last is that of super-resolution.

    Returns
    -------
    dict
        "" is the answer, "_before_sr" the separator's last, "_block1" and so on the earlier ones.

    Example
    -------
    >>> list(name_estimates(torch.zeros(4, 8000, 2), has_refined=True))
    ['', '_before_sr', '_block1', '_block2']
    """
    *earlier, answer = estimates
    named = {"": answer}
    if has_refined:
        named[BEFORE_SR] = earlier.pop()
    return named | {f"_block{i}": estimate for i, estimate in enumerate(earlier, start=1)}


def score_item(
    id_: str, mixture, sources, estimates: Mapping, sample_rate: int, measures: tuple, bands: bool
) -> dict:
    """Score one item of arrays: its row, with the columns of each estimate after the other."""
    mixture, sources = torch.from_numpy(mixture), torch.from_numpy(sources)
    stacked = torch.stack([torch.from_numpy(x) for x in estimates.values()])  # [E, T, C]
    if has_silence(sources):  # the other measures are undefined
        # as loud as they are heard: outputs of one model may differ in level
        audible = Conditioning(sample_rate).audible(mixture[None])  # [1, T]
        heard = at_mixture_level(stacked, audible.expand(len(stacked), -1))  # [E, T, C]
        all_scores = [score_silence(mixture, sources, estimate) for estimate in heard]
    else:
        all_scores = _score_voices(mixture, sources, stacked, sample_rate, measures, bands)
    row = {"id": id_, "duration": len(mixture) / sample_rate}
    for suffix, scores in zip(estimates, all_scores, strict=True):
        row |= {f"{name}{suffix}": value for name, value in scores.items()}
    return row


def _score_voices(
    mixture: Tensor,
    sources: Tensor,
    estimates: Tensor,
    sample_rate: int,
    measures: tuple,
    bands: bool,
) -> list[dict]:
    """Score estimates [E, T, C] of an item in which all sources speak."""
    estimates = in_order(sources, estimates)
    all_scores = score_all(mixture, sources, estimates)
    for estimate, scores in zip(estimates, all_scores, strict=True):
        scores |= {name: perceptual(name, estimate, sources, sample_rate) for name in measures}
        if bands:
            scores |= band_si_snr_i(mixture, sources, estimate, sample_rate)
    return all_scores


def write_results(scores: pd.DataFrame, path: Path) -> None:
    """Write a row an item as csv, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, scores.to_csv(float_format="%.3f").encode())
