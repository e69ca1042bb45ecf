"""Corpora told by their folders, and the sets to train on that are made of them."""

from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile as sf
from scipy.signal import correlate

from data_prep.corpora import librimix, recognise, wsj0mix
from data_prep.mixing.dynamic import DynamicMixing
from data_prep.mixing.fixed import CroppedMixtures
from tests import trees
from tests.trees import RATE

NUM_ITEMS = 24
SEGMENT = 0.5  # s, shorter than any recording


@pytest.fixture(scope="module", params=["made-up", "real"])
def wsj0(request, tmp_path_factory) -> tuple[Path, Path]:
    """WSJ0, small, and its lists; not to be changed."""
    folder = tmp_path_factory.mktemp("wsj0")
    root, lists = trees.small_wsj0(folder)
    return (root if request.param == "made-up" else _with_real_speech(root)), lists


@pytest.fixture(scope="module", params=["made-up", "real"])
def librispeech(request, tmp_path_factory) -> tuple[Path, Path, Path]:
    """LibriSpeech, small, its lists, and noise; not to be changed."""
    root, lists, noise = trees.small_librispeech(tmp_path_factory.mktemp("librispeech"))
    return (root if request.param == "made-up" else _with_real_speech(root)), lists, noise


def _with_real_speech(root: Path) -> Path:
    trees.need_published()
    names = [str(path.relative_to(root)) for path in root.glob("*/*/*/*.*")]
    return trees.fill(names, root.parent / "real", trees.recordings(trees.SPEECH, len(names), 2.0))


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """Generated mixtures of both corpora in one folder; not to be changed."""
    folder = tmp_path_factory.mktemp("generated")
    root, lists = trees.small_wsj0(folder / "a")
    wsj0mix.write(root, lists, folder / "wsj0-mix")
    root, lists, noise = trees.small_librispeech(folder / "b")
    parts = ["train-100", "dev", "test"]
    librimix.write(root, lists, folder / "librimix", noise, types=["both"], parts=parts)
    return folder


# --- Which corpus it is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "corpus"),
    [
        ("wsj0-mix", "wsj0mix"),
        ("wsj0-mix/2speakers", "wsj0mix"),
        ("wsj0-mix/2speakers/wav8k", "wsj0mix"),
        ("wsj0-mix/2speakers/wav8k/min", "wsj0mix"),
        ("librimix", "librimix"),
        ("librimix/Libri2Mix", "librimix"),
        ("librimix/Libri2Mix/wav8k/min", "librimix"),
        ("b/LibriSpeech/test-clean", "folder"),
    ],
)
def test_a_folder_tells_its_corpus(generated, place, corpus):
    assert recognise.recognise(generated / place, None) == corpus


def test_lists_tell_the_corpus(generated, tmp_path):
    assert recognise.recognise(tmp_path, generated / "a/lists") == "wsj0mix"
    assert recognise.recognise(tmp_path, generated / "b/lists") == "librimix"


@pytest.mark.parametrize("upper", [False, True])
def test_a_corpus_without_its_lists_asks_for_them(generated, tmp_path, upper):
    disc = tmp_path / ("11-1.1/WSJ0/SI_TR_S/01T" if upper else "wsj0/si_tr_s/01t")
    disc.mkdir(parents=True)
    for place in (tmp_path, disc.parents[1]):
        with pytest.raises(ValueError, match=r"is WSJ0 itself: set lists to .*activlev_si_tr_s"):
            recognise.prepare(place, tmp_path / "out", 8000)
    message = r"is LibriSpeech itself: set data_folder to one part.*train-clean-100.*, or lists to"
    with pytest.raises(ValueError, match=message):
        recognise.prepare(generated / "b/LibriSpeech", tmp_path / "out", 8000)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("place", "keys", "message"),
    [
        ("none", {}, "No folder at .*none: set data_folder"),
        ("wsj0-mix", {"lists": "none"}, "No folder at .*none: set lists"),
        ("wsj0-mix", {"lists": "wsj0-mix"}, r"No mix_2_spk_\*\.txt and no libri2mix_\*\.csv in"),
        ("wsj0-mix", {"mode": "mean"}, "mode is mean: set it to min or max"),
        ("wsj0-mix", {"mixture": "both"}, "mixture is both, WSJ0-mix is clean: leave mixture away"),
        ("wsj0-mix", {"num_spks": 3}, "No 3speakers/wav8k/min/tr/mix in"),
        ("wsj0-mix", {"sample_rate": 16000}, "No 2speakers/wav16k/min/tr/mix in"),
        ("librimix", {"mixture": "single"}, "mixture is single and num_spks 2"),
        ("librimix", {"num_spks": 1}, "mixture is clean and num_spks 1"),
        ("librimix", {}, "No Libri2Mix/wav8k/min/train-360 in"),
        ("b/LibriSpeech", {"lists": "b/lists", "mixture": "both"}, "No noise_folder at None"),
    ],
)
def test_what_cannot_be_prepared_is_told_in_a_sentence(generated, tmp_path, place, keys, message):
    keys = {k: generated / v if k in ("lists", "noise_folder") else v for k, v in keys.items()}
    with pytest.raises(ValueError, match=message) as error:
        recognise.prepare(generated / place, tmp_path / "out", **{"sample_rate": 8000, **keys})
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_clean_set_is_missing_where_only_noisy_mixtures_were_generated(generated, tmp_path):
    with pytest.raises(ValueError, match=r"No wav files in .*train-100/mix_clean"):
        recognise.prepare(generated / "librimix", tmp_path, 8000, train_part="train-100")


# --- Sets to train on ---------------------------------------------------------------------------


def train_set(manifests: Path, root: Path, dynamic: bool, noise: Path | None = None, **keys):
    keys = {"num_items": NUM_ITEMS, "segment": SEGMENT, "sample_rate": RATE, "num_spks": 2, **keys}
    dataset = recognise.train_set(dynamic, manifests, root, noise, seed=1, **keys)
    dataset.set_epoch(1)
    return dataset


def test_the_corpus_own_mixtures_or_new_ones_are_trained_on(generated, tmp_path):
    root = generated / "wsj0-mix"
    recognise.prepare(root, tmp_path, 8000)
    keys = {"sample_rate": 8000, "segment": 0.25}
    fixed, drawn = (train_set(tmp_path, root, dynamic, **keys) for dynamic in (False, True))
    assert isinstance(fixed, CroppedMixtures) and isinstance(drawn, DynamicMixing)
    names = {path.stem for path in root.glob("2speakers/wav8k/min/tr/mix/*.wav")}
    assert {item["id"] for item in map(fixed.__getitem__, range(len(fixed)))} == names
    assert len(fixed) == len(drawn) == NUM_ITEMS and drawn[0]["id"] not in names
    with pytest.raises(ValueError, match=r"speed is \(0\.9, 1\.1\): fixed mixtures keep theirs"):
        train_set(tmp_path, root, False, speed=(0.9, 1.1), **keys)
    (tmp_path / "train.csv").unlink()
    with pytest.raises(ValueError, match="no training mixtures of its own: leave dynamic_mixing"):
        train_set(tmp_path, root, False, **keys)


def test_noise_of_generated_folders_is_mixed_in(generated, tmp_path):
    root = generated / "librimix"
    recognise.prepare(root, tmp_path, 8000, mixture="both", train_part="train-100")
    drawn = train_set(tmp_path, root, True, sample_rate=8000)
    for item in map(drawn.__getitem__, range(5)):
        assert (item["mixture"] - item["sources"].sum(-1)).abs().max() > 1e-3


# --- Levels of dynamic mixing -------------------------------------------------------------------


def found_in(segment: np.ndarray, recordings: dict[str, np.ndarray]) -> tuple[str, float]:
    """Recording that a segment is a piece of, and its gain."""
    best = ("", 0.0, np.inf)
    for name, audio in recordings.items():
        products = correlate(audio, segment, "valid", "fft")  # [starts]
        energies = correlate(audio**2, np.ones(len(segment)), "valid", "fft").clip(1e-9)
        start = np.argmax(np.abs(products) / np.sqrt(energies))
        piece = audio[start : start + len(segment)]
        gain = segment @ piece / (piece @ piece)
        error = np.square(segment - gain * piece).sum() / np.square(segment).sum()
        best = min(best, (name, gain, error), key=lambda found: found[2])
    assert best[2] < 1e-8  # it is that piece and nothing else
    return best[:2]


def decibel(gain: float) -> float:
    return 20 * np.log10(gain)


def test_levels_of_wsj0_differ_by_up_to_5_db_of_active_level(wsj0, tmp_path):
    root, lists = wsj0
    recognise.prepare(root, tmp_path, RATE, lists=lists)
    lines = (lists / "activlev_si_tr_s.txt").read_text().splitlines()
    level_db = {line.split()[0]: 10 * np.log10(float(line.split()[1])) for line in lines}
    used = {Path(p).stem for p in (lists / "mix_2_spk_tr.txt").read_text().split() if "/" in p}
    speech = {path.stem: sf.read(path)[0] for path in root.glob("*/si_tr_s/*/*.wav")}
    speech = {name: audio for name, audio in speech.items() if name in used}
    dataset, differences = train_set(tmp_path, root, dynamic=True), []
    for item in map(dataset.__getitem__, range(len(dataset))):
        mixture, sources = item["mixture"].numpy(), item["sources"].numpy().astype(np.float64)
        pieces = [found_in(source, speech) for source in sources.T]
        levels = [decibel(gain) + level_db[name] for name, gain in pieces]
        differences.append(abs(levels[0] - levels[1]))
        assert pieces[0][0][:3] != pieces[1][0][:3]
        peak = max(np.abs(mixture).max(), np.abs(sources).max())
        assert peak == pytest.approx(0.9, abs=1e-5)  # levels of 0 dB always exceed it
    assert max(differences) <= 5 + 1e-3
    assert max(differences) > 4 and min(differences) < 1 and 2 < np.mean(differences) < 3


@pytest.mark.parametrize("kind", ["clean", "both"])
def test_loudness_of_librimix_is_in_its_range(librispeech, tmp_path, kind):
    root, lists, noise = librispeech
    keys = {"train_part": "train-100", "lists": lists, "noise_folder": noise}
    recognise.prepare(root, tmp_path, RATE, mixture=kind, **keys)
    meter = pyloudnorm.Meter(RATE)
    speech = {path.stem: sf.read(path)[0] for path in root.glob("train-clean-100/*/*/*.flac")}
    sounds = {path.stem: sf.read(path)[0][:, 0] for path in noise.glob("tr/*.wav")}
    loudness = {n: meter.integrated_loudness(a) for n, a in (speech | sounds).items()}
    levels, noise_levels = [], []
    dataset = train_set(tmp_path, root, dynamic=True, noise=noise)
    for item in map(dataset.__getitem__, range(len(dataset))):
        mixture = item["mixture"].numpy().astype(np.float64)
        sources = item["sources"].numpy().astype(np.float64)
        pieces = [found_in(source, speech) for source in sources.T]
        assert pieces[0][0].split("-")[0] != pieces[1][0].split("-")[0]
        peak = max(np.abs(mixture).max(), np.abs(sources).max())
        assert peak <= 0.9 + 1e-6
        rest = mixture - sources.sum(axis=-1)
        if kind == "clean":
            assert np.abs(rest).max() < 1e-6
        elif peak < 0.9 - 1e-6:
            name, gain = found_in(rest, sounds)
            noise_levels.append(decibel(gain) + loudness[name])
        if peak < 0.9 - 1e-6:  # levels stay as they were drawn
            levels += [decibel(gain) + loudness[name] for name, gain in pieces]
    assert len(levels) > len(dataset)
    assert min(levels) >= -33 - 1e-3 and max(levels) <= -25 + 1e-3 and np.ptp(levels) > 6
    if kind == "both":
        assert min(noise_levels) >= -38 - 1e-3 and max(noise_levels) <= -30 + 1e-3
        assert np.ptp(noise_levels) > 5
