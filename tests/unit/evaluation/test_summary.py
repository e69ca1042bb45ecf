import numpy as np
import pandas as pd
import pytest
import torch

from sfsrnet_modules.common.mixture_level import at_mixture_level
from sfsrnet_modules.evaluation.metrics import score
from sfsrnet_modules.evaluation.scoring import write_results
from sfsrnet_modules.evaluation.silence import score_silence
from sfsrnet_modules.evaluation.summary import (
    differences,
    evaluate,
    interval,
    read_results,
    summarise,
)
from sfsrnet_modules.inference import SFSRNetSeparation
from sfsrnet_modules.models.conditioning import Conditioning


def results(values, ids=None) -> pd.DataFrame:
    ids = [f"i{n}" for n in range(len(values))] if ids is None else ids
    index = pd.Index(ids, name="id")
    return pd.DataFrame({"duration": 4.0, "si_snr_i": values}, index=index)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    ends = np.array([interval(rng.normal(5, 2, 100)) for _ in range(200)])
    assert 0.90 < np.mean((ends[:, 0] < 5) & (5 < ends[:, 1])) < 0.99
    assert np.mean(ends[:, 1] - ends[:, 0]) == pytest.approx(2 * 1.96 * 0.2, rel=0.05)


def test_a_summary_passes_over_missing_values():
    row = summarise(results([1.0, 2.0, float("nan"), 6.0])).loc["si_snr_i"]
    assert row["mean"] == 3 and row["median"] == 2 and row["items"] == 3
    assert row["low"] < 3 < row["high"]
    assert summarise(results([1.0])).isna().loc["si_snr_i", ["low", "high"]].all()


def test_pairing_takes_the_spread_of_the_items_away():
    rng = np.random.default_rng(0)
    base = rng.normal(10, 5, 50)
    better = results(base + 0.5 + 0.1 * rng.standard_normal(50)).iloc[::-1]
    row = differences(better, results(base)).loc["si_snr_i"]
    assert row["mean"] == pytest.approx(0.5, abs=0.05)
    assert 0.4 < row["low"] < row["high"] < 0.6


def test_results_on_other_items_are_not_compared():
    with pytest.raises(ValueError, match="no id of the 2 items"):
        differences(results([1.0, 2.0]), results([1.0], ids=["other"]))
    one, other = (results([1.0, 2.0]).assign(si_snr=[3.0, at]) for at in (4.0, 4.8))
    with pytest.raises(ValueError, match="1 of 2 items that both name are other mixtures, the fi"):
        differences(one, other)  # before separation they have 2.0 and 2.8 dB
    with pytest.raises(ValueError, match="2 of 2 items that both name are other mixtures"):
        differences(one.assign(duration=1.0), one.assign(duration=1.1))


def test_results_are_read_as_they_were_written(tmp_path):
    written = results([1.25, 2.5], ids=["007", "008"])
    write_results(written, tmp_path / "new" / "results.csv")
    pd.testing.assert_frame_equal(read_results(tmp_path / "new" / "results.csv"), written)
    with pytest.raises(ValueError, match="can't be read as results"):
        read_results(tmp_path / "nothing.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="can't be read as results"):
        read_results(tmp_path / "other.csv")


def test_every_item_is_scored_before_and_after_sr_and_after_every_block(model_folder):
    separator = SFSRNetSeparation.from_hparams(source=model_folder)
    test_set = []
    for i in range(2):
        sources = torch.randn(4000 + i, 2)
        test_set.append({"id": f"i{i}", "mixture": sources.sum(1), "sources": sources})
    scores = evaluate(separator, test_set, every_block=True)
    assert list(scores.index) == ["i0", "i1"]
    for suffix in ("", "_before_sr", "_block1"):
        assert {f"si_snr{suffix}", f"sdr_i{suffix}"} <= set(scores)
    item = test_set[1]
    answer = separator.separate_batch(item["mixture"][None])[0]
    expected = score(item["mixture"], item["sources"], answer)
    assert scores.loc["i1", list(expected)].to_dict() == pytest.approx(expected, abs=1e-3)


def test_a_ghost_counts_as_loud_as_it_is_heard(model_folder):
    separator = SFSRNetSeparation.from_hparams(source=model_folder)
    voice = torch.randn(4000)
    sources = torch.stack([voice, torch.zeros(4000)], dim=1)
    scores = evaluate(separator, [{"id": "alone", "mixture": voice, "sources": sources}])
    answer = separator.separate_batch(voice[None])
    audible = Conditioning(8000).audible(voice[None])
    heard = score_silence(voice, sources, at_mixture_level(answer, audible)[0])["leak"]
    assert scores["leak"].item() == pytest.approx(heard, abs=1e-3)
    assert abs(score_silence(voice, sources, answer[0])["leak"] - heard) > 0.1


def test_long_items_are_separated_as_recordings_are(model_folder):
    separator = SFSRNetSeparation.from_hparams(source=model_folder)
    sources = torch.randn(17 * 8000, 2)
    item = {"id": "long", "mixture": sources.sum(1), "sources": sources}
    voices = torch.cat(list(separator.stream([item["mixture"]])))
    expected = score(item["mixture"], sources, voices)["si_snr"]
    for in_segments in (True, False):
        scores = evaluate(separator, [item], in_segments=in_segments, measures=())
        assert (scores["si_snr"].item() == pytest.approx(expected, abs=1e-4)) == in_segments
