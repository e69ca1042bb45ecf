import pytest
import torch
from speechbrain.dataio.batch import PaddedBatch

from sfsrnet_modules.evaluation.metrics import si_snr_i
from sfsrnet_modules.evaluation.scoring import Scoring
from sfsrnet_modules.training.item_scores import ItemScores

LENGTHS = {"a": 800, "b": 600}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    items = [
        {"id": id_, "sources": torch.randn(length, 2, generator=generator)}
        for id_, length in LENGTHS.items()
    ]
    return PaddedBatch([{**item, "mixture": item["sources"].sum(1)} for item in items])


def estimates_of(batch, *noise):
    """Estimates [E, B, T, C], each the sources and noise of a size."""
    sources = batch.sources.data
    return torch.stack([sources + size * torch.randn_like(sources) for size in noise])


def test_validation_scores_the_answer_before_sr_and_the_average(batch):
    estimates = estimates_of(batch, 9.0, 0.5, 0.1)
    answers = estimates_of(batch, 0.01)[0]
    scores = ItemScores(sample_rate=8000)
    scores.add(batch, estimates, has_refined=True)
    scores.add_average(batch, answers)
    for row, (id_, length), i in zip(scores.rows(), LENGTHS.items(), range(2), strict=True):
        mixture, sources = batch.mixture.data[i, :length], batch.sources.data[i, :length]
        own = (x[i, :length] for x in (estimates[2], estimates[1], answers))  # without the padding
        expected = [si_snr_i(mixture, sources, estimate) for estimate in own]
        assert row["id"] == id_ and row["duration"] == length / 8000
        found = [row[f"si_snr_i{suffix}"] for suffix in ("", "_before_sr", "_ema")]
        assert found == pytest.approx(expected, abs=1e-4)


def test_the_average_is_of_the_batch_added_last(batch):
    scores = ItemScores(sample_rate=8000)
    for _ in range(2):
        scores.add(batch, estimates_of(batch, 0.5), has_refined=False)
    scores.add_average(batch, batch.sources.data)
    assert ["si_snr_i_ema" in row for row in scores.rows()] == [False, False, True, True]


def test_a_test_has_every_measure(batch):
    scores = ItemScores(8000, Scoring(8000, measures=()))
    scores.add(batch, estimates_of(batch, 0.5, 0.1), has_refined=True)
    rows = scores.rows()
    assert [row["id"] for row in rows] == list(LENGTHS)
    assert {"si_snr", "sdr_i", "si_snr_i_before_sr"} <= set(rows[0])
