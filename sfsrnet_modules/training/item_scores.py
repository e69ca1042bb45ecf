"""Scores of items: those of a validation at once, those of a test in full, by other processes."""

from collections.abc import Iterator

from speechbrain.dataio.batch import PaddedBatch
from torch import Tensor

from sfsrnet_modules.evaluation.metrics import si_snr_i
from sfsrnet_modules.evaluation.scoring import Scoring, name_estimates
from sfsrnet_modules.evaluation.silence import has_silence, score_silence


class ItemScores:
    """Collects a row of scores an item.

    Arguments
    ---------
    sample_rate : int
        Hz.
    test : Scoring, optional
        What scores the items of a test; without it they get what a validation needs.

    Example
    -------
    >>> sources = torch.randn(1, 800, 2)
    >>> batch = PaddedBatch([{"id": "a", "mixture": sources[0].sum(1), "sources": sources[0]}])
    >>> scores = ItemScores(sample_rate=8000)
    >>> scores.add(batch, sources[None], has_refined=False)
    >>> scores.add_average(batch, sources)
    >>> list(scores.rows()[0])
    ['id', 'duration', 'si_snr_i', 'si_snr_i_ema']
    """

    def __init__(self, sample_rate: int, test: Scoring | None = None):
        self.sample_rate = sample_rate
        self.test = test
        self._rows: list[dict] = []

    def add(self, batch: PaddedBatch, estimates: Tensor, has_refined: bool) -> None:
        """Score each item by the last of `estimates` [E, B, T, C], and before SR."""
        for i, id_, mixture, sources in _items(batch):
            named = name_estimates(_item(estimates[-2:, i], len(mixture)), has_refined)
            if self.test is not None:
                self.test.add(id_, mixture, sources, named)
                continue
            row = {"id": id_, "duration": len(mixture) / self.sample_rate}
            for suffix, estimate in named.items():
                row |= _scores(mixture, sources, estimate, suffix)
            self._rows.append(row)

    def add_average(self, batch: PaddedBatch, answers: Tensor) -> None:
        """Add the score of the averaged weights' `answers` [B, T, C] to the batch added last."""
        rows = self._rows[-len(batch.id) :]
        for i, _, mixture, sources in _items(batch):
            rows[i] |= _scores(mixture, sources, _item(answers[i], len(mixture)), "_ema")

    def rows(self) -> list[dict]:
        """Return a row an item, in the order in which they were added."""
        return self._rows if self.test is None else self.test.rows()


def _items(batch: PaddedBatch) -> Iterator[tuple[int, str, Tensor, Tensor]]:
    """Take a batch apart: place and id of each item, its mixture [T] and sources [T, C]."""
    mixtures, lengths = batch.mixture
    num_samples = (lengths * mixtures.shape[1]).round().int().tolist()
    for i, (id_, length) in enumerate(zip(batch.id, num_samples, strict=True)):
        yield i, id_, mixtures[i, :length].cpu(), batch.sources.data[i, :length].cpu()


def _item(estimates: Tensor, num_samples: int) -> Tensor:
    return estimates[..., :num_samples, :].float().cpu()


def _scores(mixture: Tensor, sources: Tensor, estimate: Tensor, suffix: str) -> dict[str, float]:
    """Return an item's SI-SNRi, or what is defined where a source is silent."""
    if has_silence(sources):
        scores = score_silence(mixture, sources, estimate)
    else:
        scores = {"si_snr_i": si_snr_i(mixture, sources, estimate)}
    return {f"{name}{suffix}": value for name, value in scores.items()}
