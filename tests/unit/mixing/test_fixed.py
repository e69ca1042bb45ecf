"""Reading fixed mixtures."""

import pickle

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

# data_prep first: it makes speechbrain importable on a CPU build of torch
from data_prep.corpora.folder import prepare
from data_prep.mixing.fixed import CroppedMixtures, FixedMixtures, read_mixture
from data_prep.mixing.levels import GAIN_DB, LEVEL_DB, rms_db

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
    dataset = FixedMixtures(out / "test.csv", 8000, num_spks, corpus)
    for item, duration in zip(dataset, pd.read_csv(out / "test.csv")["duration"], strict=True):
        assert list(item) == ["id", "mixture", "sources"]
        assert item["sources"].shape == (round(duration * 8000), num_spks)
        assert item["mixture"].dtype == item["sources"].dtype == torch.float32
        assert torch.equal(item["mixture"], item["sources"].sum(-1))
        assert duration <= 1.9


def test_levels_are_those_of_the_convention(prepared):
    corpus, out, num_spks = prepared
    dataset = FixedMixtures(out / "test.csv", 8000, num_spks, corpus)
    # White noise loses half its power from 16 to 8 kHz; the level is that of the file.
    levels = np.array([rms_db(s) + 3.01 for item in dataset for s in item["sources"].numpy().T])
    assert np.abs(levels - LEVEL_DB).max() < GAIN_DB + 0.5
    assert np.ptp(levels) > GAIN_DB


def test_an_empty_cell_is_as_good_as_none(tmp_path):
    for name in "ab":
        sf.write(tmp_path / f"{name}.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
    lines = ["ID,duration,wav_1,wav_2,start_1,duration_1,gain_1,gain_2"]
    lines += ["x,0.5,$data_root/a.wav,$data_root/b.wav,,,,0.0"]
    lines += ["y,0.5,$data_root/a.wav,$data_root/b.wav,0.0,0.5,1.0,0.0"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    empty, full = FixedMixtures(tmp_path / "list.csv", 8000, 2, tmp_path)
    assert torch.equal(empty["sources"], full["sources"]) and full["sources"][:, 0].any()
    assert not full["sources"][:, 1].any()


def test_batches_are_padded_right(prepared):
    corpus, out, num_spks = prepared
    dataset = FixedMixtures(out / "valid.csv", 8000, num_spks, corpus)
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
    first = list(FixedMixtures(out / "test.csv", 8000, num_spks, corpus))
    (tmp_path / "a $new place").symlink_to(corpus)
    dataset = FixedMixtures(out / "test.csv", 8000, num_spks, tmp_path / "a $new place")
    dataset = pickle.loads(pickle.dumps(dataset))  # as workers that are spawned do
    for one, two in zip(first, dataset, strict=True):
        assert torch.equal(one["sources"], two["sources"])


def test_a_row_alone_is_enough(tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    sf.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    row = {"duration": 0.5}
    for c, (start, gain) in enumerate([(0.25, 1.0), (1.0, 0.1)], 1):
        row |= {f"wav_{c}": tmp_path / "a.wav", f"start_{c}": start, f"gain_{c}": gain}
    mixture, sources = read_mixture(row, 8000, 2, 0, 4000)
    np.testing.assert_array_equal(sources[:, 0], samples[2000:6000])
    np.testing.assert_allclose(sources[:, 1], samples[8000:12000] / 10, rtol=1e-6)
    np.testing.assert_array_equal(mixture, sources.sum(-1))
    piece, _ = read_mixture(row, 8000, 2, 1000, 500)
    np.testing.assert_array_equal(piece, mixture[1000:1500])
    noisy, _ = read_mixture(
        row | {"wav_noise": tmp_path / "a.wav", "end_noise": 4000, "gain_noise": 2.0},
        8000,
        2,
        0,
        4000,
    )
    np.testing.assert_allclose(noisy - mixture, 2 * samples[:4000], atol=1e-6)
    given, _ = read_mixture(row | {"wav_mix": tmp_path / "a.wav"}, 8000, 2, 0, 4000)
    np.testing.assert_array_equal(given, samples[:4000])


def test_a_shorter_source_is_followed_by_silence(tmp_path):
    sf.write(tmp_path / "a.wav", np.full(800, 0.5), 8000)
    row = {"duration": 0.2, "wav_1": tmp_path / "a.wav", "duration_1": 0.1}
    _, sources = read_mixture(row, 8000, 1, 0, 1600)
    np.testing.assert_array_equal(sources[:, 0], [0.5] * 800 + [0] * 800)
    _, sources = read_mixture(row, 8000, 1, 700, 400)
    np.testing.assert_array_equal(sources[:, 0], [0.5] * 100 + [0] * 300)
    _, sources = read_mixture(row, 8000, 1, 1000, 400)
    np.testing.assert_array_equal(sources[:, 0], [0] * 400)


def crops(prepared, **arguments):
    corpus, out, num_spks = prepared
    arguments = {"num_items": 12, "segment": 0.5, **arguments}
    return CroppedMixtures(out / "test.csv", 8000, num_spks, corpus, None, **arguments)


def test_crops_are_pieces_of_the_mixtures_and_all_are_used(prepared):
    corpus, out, num_spks = prepared
    whole = {item["id"]: item for item in FixedMixtures(out / "test.csv", 8000, num_spks, corpus)}
    dataset, seen = crops(prepared), []
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        for item in dataset:
            seen.append(item["id"])
            mixture, piece = whole[item["id"]]["mixture"], item["mixture"]
            assert piece.shape == (4000,) and item["sources"].shape == (4000, num_spks)
            offsets = mixture.unfold(0, 4000, 1)
            assert (offsets - piece).abs().amax(1).min() < 1e-6
    assert len(seen) == 24  # three passes over eight mixtures
    assert all(len(set(seen[i : i + 8])) == 8 for i in (0, 8, 16))


def test_crops_depend_on_seed_epoch_and_index_alone(prepared):
    first, again, reseeded = crops(prepared), crops(prepared), crops(prepared, seed=5)
    for dataset in (first, again, reseeded):
        dataset.set_epoch(3)
    backwards = [again[i] for i in reversed(range(12))][::-1]
    assert all(
        torch.equal(a["mixture"], b["mixture"]) for a, b in zip(first, backwards, strict=True)
    )
    assert [item["id"] for item in first] != [item["id"] for item in reseeded]
    before = first[0]["mixture"]
    first.set_epoch(4)
    assert not torch.equal(before, first[0]["mixture"])


def test_a_mixture_shorter_than_the_segment_is_taken_whole(prepared):
    lengths = {len(item["mixture"]) for item in crops(prepared, segment=9.0, num_items=8)}
    corpus, out, num_spks = prepared
    whole = {len(i["mixture"]) for i in FixedMixtures(out / "test.csv", 8000, num_spks, corpus)}
    assert lengths == whole


def test_sources_beyond_those_of_the_manifest_are_silent(prepared):
    corpus, out, num_spks = prepared
    plain = FixedMixtures(out / "test.csv", 8000, num_spks, corpus)[0]
    more = FixedMixtures(out / "test.csv", 8000, num_spks + 2, corpus)[0]
    assert torch.equal(more["mixture"], plain["mixture"])
    assert torch.equal(more["sources"][:, :num_spks], plain["sources"])
    assert more["sources"].shape[1] == num_spks + 2 and not more["sources"][:, num_spks:].any()


def test_errors_name_file_and_manifest(prepared, tmp_path):
    corpus, out, num_spks = prepared
    with pytest.raises(ValueError, match=r"No manifest at .*none\.csv: prepare"):
        FixedMixtures(out / "none.csv", 8000, num_spks, corpus)
    with pytest.raises(ValueError, match=rf"mixtures of {num_spks} sources, num_spks is 1"):
        FixedMixtures(out / "test.csv", 8000, 1, corpus)
    with pytest.raises(OSError, match=r"there is no file .*\.flac.*test\.csv.*prepare it again"):
        FixedMixtures(out / "test.csv", 8000, num_spks, tmp_path)[0]
