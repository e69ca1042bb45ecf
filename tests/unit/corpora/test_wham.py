"""WHAM! and WHAMR!: which folders are mixtures, sources and noise, and what is trained on."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from data_prep.corpora import recognise
from data_prep.corpora.acoustics import Acoustics
from data_prep.mixing import rooms
from data_prep.mixing.fixed import CroppedMixtures, FixedMixtures

SPEAKERS = {"tr": ["01t", "02b", "20g", "40n"], "cv": ["01t", "20g"], "tt": ["44a", "44b"]}
LENGTH = 9600  # samples, 1.2 s


def write(path: Path, audio: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, audio, 8000, subtype="FLOAT")


def write_part(folder: Path, part: str, number: int, endings: list[str]) -> None:
    """Mixtures of noise in syllables; those of rooms have an echo."""
    rng = np.random.default_rng([len(part), number, ord(part[0])])
    names = SPEAKERS[part]
    for i in range(number):
        first, second = names[i % len(names)], names[(i + 1) % len(names)]
        name = f"{first}o030{i}_0.5_{second}o040{i}_-0.5.wav"
        noise = rng.normal(0, 0.01, LENGTH).astype(np.float32)
        voices = rng.normal(0, 0.1, (2, LENGTH)).astype(np.float32)
        write(folder / part / "noise" / name, noise)
        for ending in endings:
            sources = voices if ending != "_reverb" else voices + 0.5 * np.roll(voices, 800)
            for c in range(2):
                write(folder / part / f"s{c + 1}{ending}" / name, sources[c])
            write(folder / part / f"mix_clean{ending}" / name, sources.sum(0))
            write(folder / part / f"mix_both{ending}" / name, sources.sum(0) + noise)
            write(folder / part / f"mix_single{ending}" / name, sources[0] + noise)


@pytest.fixture(scope="module")
def whams(tmp_path_factory) -> Path:
    """Both corpora, small; not to be changed."""
    folder = tmp_path_factory.mktemp("whams")
    for corpus, endings in (("wham", [""]), ("whamr", ["_anechoic", "_reverb"])):
        for part, number in (("tr", 4), ("cv", 2), ("tt", 2)):
            write_part(folder / corpus / "wav8k/min", part, number, endings)
    return folder


def prepare(root, out, acoustics=None, **keys) -> FixedMixtures:
    recognise.prepare(root, out, 8000, acoustics=acoustics or Acoustics(8000), **keys)
    return FixedMixtures(out / "test.csv", 8000, keys.get("num_spks", 2), root)


def test_a_test_alone_takes_the_target(whams, tmp_path):
    for target, ending in (("dry", "_anechoic"), ("reverberant", "_reverb")):
        acoustics, out = Acoustics(8000, target=target), tmp_path / target
        prepare(whams / "whamr", out, acoustics, mixture="both_reverb", test_only=True)
        assert pd.read_csv(out / "test.csv")["wav_1"].str.contains(f"/s1{ending}/").all()


@pytest.mark.parametrize("place", ["", "wav8k", "wav8k/min"])
@pytest.mark.parametrize("kind", ["clean", "both", "single"])
def test_each_kind_of_wham_is_read(whams, tmp_path, kind, place):
    num_spks = 1 if kind == "single" else 2
    dataset = prepare(whams / "wham" / place, tmp_path, mixture=kind, num_spks=num_spks)
    assert len(dataset) == 2 and dataset.rows["wav_mix"].str.contains(f"/mix_{kind}/").all()
    for item in dataset:
        noise = (item["mixture"] - item["sources"].sum(-1)).numpy()
        assert item["sources"].shape == (LENGTH, num_spks)
        assert np.sqrt(np.mean(noise**2)) == pytest.approx(0 if kind == "clean" else 0.01, abs=1e-3)
    assert (tmp_path / "noise.csv").exists() == (kind != "clean")
    assert list(dataset.rows["speaker_1"]) == ["44a", "44b"]


def test_clean_mixtures_are_given_noise_where_training_has_it(whams, tmp_path, caplog):
    acoustics = Acoustics(8000, noise_kinds=["coloured"], noise_snr=(0, 0))
    for item in prepare(whams / "wham", tmp_path / "wham", acoustics, mixture="clean"):
        voices = item["sources"].sum(-1)
        ratio = voices.square().mean() / (item["mixture"] - voices).square().mean()
        assert ratio.item() == pytest.approx(1, rel=1e-2)
    assert "without noise" not in caplog.text
    prepare(whams / "whamr", tmp_path / "whamr", acoustics, mixture="clean_reverb")
    assert "Validation and test are without noise (coloured)" in caplog.text


@pytest.mark.parametrize(
    ("kind", "target", "sources"),
    [
        ("both_anechoic", "reverberant", "s1_anechoic"),
        ("both_reverb", "reverberant", "s1_reverb"),
        ("both_reverb", "dry", "s1_anechoic"),
        ("clean_reverb", "dry", "s1_anechoic"),
    ],
)
def test_each_kind_of_whamr_is_read(whams, tmp_path, kind, target, sources):
    acoustics = Acoustics(8000, target=target)
    dataset = prepare(whams / "whamr", tmp_path, acoustics, mixture=kind)
    assert dataset.rows["wav_1"].str.contains(f"/{sources}/").all()
    pool = pd.read_csv(tmp_path / "pool.csv")
    assert pool["wav"].str.contains("_anechoic/").all() and len(pool) == 8  # dry, for rooms
    assert set(pool["speaker"]) == set(SPEAKERS["tr"])


def test_they_are_trained_on_as_published_and_mixed_anew(whams, tmp_path):
    root = whams / "wham"
    prepare(root, tmp_path, mixture="both")
    keys = {"num_items": 6, "segment": 0.5, "sample_rate": 8000, "num_spks": 2, "seed": 1}
    fixed, new = (recognise.train_set(dynamic, tmp_path, root, None, **keys) for dynamic in (0, 1))
    assert isinstance(fixed, CroppedMixtures)
    for dataset in (fixed, new):
        assert all(
            (item["mixture"] - item["sources"].sum(-1)).abs().max() > 1e-3 for item in dataset
        )


def test_rooms_are_for_new_mixtures_only(whams, tmp_path, monkeypatch, caplog):
    pytest.importorskip("pyroomacoustics")
    monkeypatch.setattr(rooms, "NUMBERS", {"train": 2, "valid": 1, "test": 1})
    root = whams / "whamr"
    published = prepare(root, tmp_path / "a", mixture="both_reverb")
    assert "are dry" in caplog.text
    acoustics = Acoustics(8000, rooms=tmp_path / "rooms", t60=(0.1, 0.2), room_share=1.0)
    found = prepare(root, tmp_path / "b", acoustics, mixture="both_reverb")
    assert all(
        torch.equal(a["mixture"], b["mixture"]) for a, b in zip(found, published, strict=True)
    )
    keys = {"num_items": 2, "segment": 0.5, "sample_rate": 8000, "num_spks": 2, "seed": 1}
    new = recognise.train_set(True, tmp_path / "b", root, None, **keys, acoustics=acoustics)
    assert new.rooms is not None and torch.isfinite(new[0]["mixture"]).all()


@pytest.mark.parametrize(
    ("corpus", "keys", "message"),
    [
        ("wham", {"mixture": "both_reverb"}, "tr has both, clean, single: set mixture to one"),
        ("whamr", {"mixture": "both"}, "tr has both_anechoic, both_reverb, .*: set mixture to one"),
        ("wham", {"mixture": "single"}, "num_spks is 2, single mixtures have 1: set num_spks"),
        ("wham", {"mixture": "both", "num_spks": 3}, "num_spks is 3, both mixtures have 2"),
        ("wham", {"mixture": "both", "mode": "max"}, "No wav8k/max/tr in .*: set data_folder"),
        ("whamr", {"mixture": "both_reverb", "target": "early"}, "target is early, WHAMR!'s"),
    ],
)
def test_what_is_not_there_is_told_in_a_sentence(whams, tmp_path, corpus, keys, message):
    acoustics = Acoustics(8000, target=keys.pop("target", "reverberant"))
    with pytest.raises(ValueError, match=message) as error:
        prepare(whams / corpus, tmp_path / "out", acoustics, **keys)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("cv", r"No wav files in .*cv/mix_both: the generated corpus is incomplete"),
        ("tr/noise", r"No wav files in .*tr/noise: the generated corpus is incomplete"),
        ("tr/s2", r"4 of the 12 files wanted cannot be used, 4 missing: .*/s2/.*generate"),
    ],
)
def test_half_a_corpus_is_told_in_a_sentence(whams, tmp_path, lost, message):
    shutil.copytree(whams / "wham", tmp_path / "wham")
    shutil.rmtree(tmp_path / "wham/wav8k/min" / lost)
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "wham", tmp_path / "out", mixture="both")
    assert not list(tmp_path.glob("out/*.csv"))
