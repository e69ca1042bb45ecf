"""Reading fixed mixtures."""

import pickle

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

# data_prep first: it makes speechbrain importable on a CPU build of torch
from data_prep.audio import GAIN_DB, LEVEL_DB, PEAK, rms_db
from data_prep.folder import prepare
from data_prep.mixtures import draw_mixtures, mixture_dataset, read_sources

# isort: split
from speechbrain.dataio.batch import PaddedBatch


def make_corpus(root, num_speakers, rate=16000, scale=0.02):
    rng = np.random.default_rng(0)
    for s in range(num_speakers):
        (root / f"s{s}").mkdir(parents=True)
        for u in range(2):
            samples = rng.normal(0, scale, round((1.3 + 0.37 * u + 0.11 * s) * rate))
            sf.write(root / f"s{s}" / f"{u}.flac", samples, rate)
    return root


@pytest.fixture(scope="module", params=[2, 3])
def prepared(request, tmp_path_factory):
    """Corpus, folder of manifests and number of speakers."""
    root, num_spks = tmp_path_factory.mktemp("mixtures"), request.param
    corpus = make_corpus(root / "corpus", 3 * num_spks)
    prepare(corpus, root / "out", 8000, num_spks, num_valid=8, num_test=8, max_duration=1.9)
    return corpus, root / "out", num_spks


def test_items_keep_the_contract(prepared):
    corpus, out, num_spks = prepared
    dataset = mixture_dataset(out / "test.csv", corpus, 8000, num_spks)
    for item, duration in zip(dataset, pd.read_csv(out / "test.csv")["duration"], strict=True):
        assert list(item) == ["id", "mixture", "sources"]
        assert item["sources"].shape == (round(duration * 8000), num_spks)
        assert item["mixture"].dtype == item["sources"].dtype == torch.float32
        assert torch.equal(item["mixture"], item["sources"].sum(-1))
        assert duration <= 1.9


def test_levels_are_those_of_the_convention(prepared):
    corpus, out, num_spks = prepared
    dataset = mixture_dataset(out / "test.csv", corpus, 8000, num_spks)
    # White noise loses half its power from 16 to 8 kHz; the level is that of the file.
    levels = np.array([rms_db(s) + 3.01 for item in dataset for s in item["sources"].numpy().T])
    assert np.abs(levels - LEVEL_DB).max() < GAIN_DB + 0.5
    assert np.ptp(levels) > GAIN_DB


def test_peaks_are_limited_for_the_whole_item(tmp_path):
    corpus = tmp_path / "s"
    corpus.mkdir()
    click = np.full(16000, 1e-3)
    click[8000] = 1.0  # -39 dB RMS: brought to -25 dB it peaks at 5
    pool = []
    for name in "ab":
        sf.write(corpus / f"{name}.wav", click, 8000, subtype="FLOAT")
        wav = f"$data_root/s/{name}.wav"
        pool.append([name, 2.0, 8000, rms_db(click), name, wav])
    pool = pd.DataFrame(
        pool, columns=["ID", "duration", "sample_rate", "level_db", "speaker", "wav"]
    )
    rng = np.random.default_rng(0)
    draw_mixtures(pool, tmp_path, 3, 2, 8000, 10.0, rng).to_csv(tmp_path / "m.csv", index=False)
    for item in mixture_dataset(tmp_path / "m.csv", tmp_path, 8000, 2):
        assert item["mixture"].abs().max() == pytest.approx(PEAK, abs=1e-4)
        ratio_db = rms_db(item["sources"][:, 0].numpy()) - rms_db(item["sources"][:, 1].numpy())
        assert abs(ratio_db) <= 2 * GAIN_DB


def test_batches_are_padded_right(prepared):
    corpus, out, num_spks = prepared
    dataset = mixture_dataset(out / "valid.csv", corpus, 8000, num_spks)
    items = sorted(dataset, key=lambda item: len(item["mixture"]))
    items = [items[0], items[-1]]
    lengths = [len(item["mixture"]) for item in items]
    assert lengths[0] < lengths[1]
    batch = PaddedBatch(items)
    for data in (batch.mixture, batch.sources):
        assert data.lengths.tolist() == pytest.approx([lengths[0] / lengths[1], 1.0])
        assert data.data[0, lengths[0] :].abs().max() == 0
    assert torch.equal(batch.sources.data[0, : lengths[0]], items[0]["sources"])
    assert torch.equal(batch.mixture.data, batch.sources.data.sum(-1))


def test_second_reading_and_moved_corpus_give_the_same_samples(prepared, tmp_path):
    corpus, out, num_spks = prepared
    first = list(mixture_dataset(out / "test.csv", corpus, 8000, num_spks))
    (tmp_path / "a $new place").symlink_to(corpus)
    dataset = mixture_dataset(out / "test.csv", tmp_path / "a $new place", 8000, num_spks)
    dataset = pickle.loads(pickle.dumps(dataset))  # as workers that are spawned do
    for one, two in zip(first, dataset, strict=True):
        assert torch.equal(one["sources"], two["sources"])


def test_a_row_alone_is_enough(tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    sf.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    row = {"duration": "0.5"}
    for c, (start, gain_db) in enumerate([("0.25", "0"), ("1.0", "-20")], 1):
        row |= {f"wav_{c}": tmp_path / "a.wav", f"start_{c}": start, f"gain_db_{c}": gain_db}
    sources = read_sources(row, 8000, 2).numpy()
    np.testing.assert_array_equal(sources[:, 0], samples[2000:6000])
    np.testing.assert_allclose(sources[:, 1], samples[8000:12000] / 10, rtol=1e-6)


def test_errors_name_file_and_manifest(prepared, tmp_path):
    corpus, out, num_spks = prepared
    with pytest.raises(ValueError, match=r"No manifest at .*none\.csv: prepare"):
        mixture_dataset(out / "none.csv", corpus, 8000, num_spks)
    with pytest.raises(ValueError, match=rf"mixtures of {num_spks} sources, num_spks is 4"):
        mixture_dataset(out / "test.csv", corpus, 8000, 4)
    with pytest.raises(OSError, match=r"\.flac cannot be read.*test\.csv.*prepare the data again"):
        mixture_dataset(out / "test.csv", tmp_path, 8000, num_spks)[0]
