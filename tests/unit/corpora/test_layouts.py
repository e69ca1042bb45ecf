"""What folders are taken for: mixtures, sources and noise are nobody's speech."""

from pathlib import Path

import pandas as pd
import pytest
import soundfile as sf

from data_prep.corpora import recognise
from data_prep.mixing.fixed import CroppedMixtures
from tests import trees

WHAM = "mix_both mix_clean mix_single noise s1 s2"
WHAMR = (
    "mix_both_anechoic mix_both_reverb mix_clean_anechoic noise s1_anechoic s1_reverb s2_anechoic"
)
LIBRIMIX = "mix_both mix_clean mix_single noise s1 s2"
WSJ0MIX = "mix s1 s2"
SPEAKERS = "anna bob carl dora emil fritz gerda"


def tree(folder: Path, place: str, names: str, parts=("tr", "cv", "tt")) -> None:
    """Folders of a corpus, each with one file."""
    for part in parts:
        for name in names.split():
            path = folder / place / part / name / "0001.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder as labs have it, with one corpus beside the other; not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    tree(folder, "wham/wav8k/min", WHAM)
    tree(folder, "whamr/wav16k/max", WHAMR)
    tree(folder, "LibriMix/Libri2Mix/wav8k/min", LIBRIMIX, ("train-360", "dev", "test"))
    tree(folder, "wsj/2speakers/wav8k/min", WSJ0MIX)
    tree(folder, "bare", WSJ0MIX)
    tree(folder, "only-test/2speakers/wav8k/min", WSJ0MIX, ("tt",))
    tree(folder, "own", WSJ0MIX, ("train", "valid", "test"))
    tree(folder, "speakers", SPEAKERS + " mix", ("",))
    tree(folder, "speakers-s", "s1 s2 s3 s4 s5 s6 noise", ("",))
    tree(folder, "books/LibriSpeech/train-other-500", "103/1240 103/1241 104/1", ("",))
    return folder


@pytest.mark.parametrize(
    ("place", "corpus"),
    [
        ("wsj", "wsj0mix"),
        ("wsj/2speakers/wav8k", "wsj0mix"),
        ("bare", "wsj0mix"),
        ("only-test", "wsj0mix"),
        ("LibriMix", "librimix"),
        ("LibriMix/Libri2Mix/wav8k/min", "librimix"),
        ("wham", "wham"),
        ("wham/wav8k", "wham"),
        ("whamr", "whamr"),
        ("whamr/wav16k/max", "whamr"),
        ("speakers", "folder"),  # one of them is called mix
        ("speakers-s", "folder"),
        ("books/LibriSpeech/train-other-500", "folder"),
    ],
)
def test_a_corpus_is_known_from_its_root_down_to_its_parts(data, place, corpus):
    assert recognise.recognise(data / place, None) == corpus


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        ("wham/wav8k/min/tr", "wham (WHAM!)"),
        ("wham/wav8k/min/tr/mix_single", "wham (WHAM!)"),
        ("wham/wav8k/min/tr/noise", "wham (WHAM!)"),
        ("whamr/wav16k/max/cv", "whamr (WHAMR!)"),
        ("whamr/wav16k/max/cv/s1_reverb", "whamr (WHAMR!)"),
        ("LibriMix/Libri2Mix/wav8k/min/train-360", "LibriMix (LibriMix)"),
        ("LibriMix/Libri2Mix/wav8k/min/train-360/s1", "LibriMix (LibriMix)"),
        ("wsj/2speakers/wav8k/min/tr", "wsj (WSJ0-mix)"),
        ("wsj/2speakers/wav8k/min/tr/mix", "wsj (WSJ0-mix)"),
        ("bare/tr", "bare (WSJ0-mix)"),
    ],
)
def test_a_part_names_the_folder_that_was_meant(data, tmp_path, place, meant):
    with pytest.raises(ValueError, match="not a folder of speakers") as error:
        recognise.prepare(data / place, tmp_path / "out", 8000)
    assert str(error.value).endswith(f"set data_folder to {data / meant}")
    assert not (tmp_path / "out").exists()


def test_a_folder_above_several_corpora_names_them(data):
    with pytest.raises(ValueError, match=r"LibriMix \(LibriMix\) or .*bare \(WSJ0-mix\) or "):
        recognise.recognise(data, None)


def test_a_relative_path_is_known_by_where_it_leads(data, monkeypatch):
    monkeypatch.chdir(data / "wham/wav8k/min/tr")
    with pytest.raises(ValueError, match=r"wham \(WHAM!\)"):
        recognise.recognise(Path("."), None)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("own", r"own/test holds mixtures and their sources and no speakers.*2speakers/wav8k/min"),
        ("own/train", "own/train holds mixtures"),
        ("books", "LibriSpeech is LibriSpeech itself: set data_folder to one part of it"),
        ("books/LibriSpeech/train-other-500/103", "one speaker.*to .*train-other-500$"),
    ],
)
def test_what_holds_no_speakers_is_told_in_a_sentence(data, tmp_path, place, message):
    with pytest.raises(ValueError, match=message) as error:
        recognise.prepare(data / place, tmp_path / "out", 8000)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_links_round_and_round_end(data, tmp_path):
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "all").symlink_to(tmp_path)
    (tmp_path / "corpus").symlink_to(data / "wsj")
    with pytest.raises(ValueError, match=rf"{tmp_path}/corpus \(WSJ0-mix\)$"):
        recognise.recognise(tmp_path, None)


# --- Mixtures with names of one's own -------------------------------------------------------------


def own_mixtures(folder: Path, place: str, mixtures: str, parts: list[str], names: list[str]):
    rng = trees.np.random.default_rng(0)
    for part in parts:
        for name in names:
            sources = 0.1 * rng.standard_normal((2, 9600))  # [C, T]
            for kind, audio in zip((mixtures, "s1", "s2"), (sources.sum(0), *sources), strict=True):
                path = folder / place / part / kind / f"{name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                sf.write(path, audio, 8000)


@pytest.mark.parametrize(
    "names",
    [
        ["0001", "0002", "0003"],
        ["mix_0001", "mix_0002", "mix_0003"],
        ["rec_a_001_b", "rec_b_001_c", "rec_c_001_a"],
        ["4077-13754-0001", "mix", "a-b_c-d"],
    ],
)
@pytest.mark.parametrize(
    ("place", "mixtures", "parts"),
    [
        ("2speakers/wav8k/min", "mix", ["tr", "cv", "tt"]),
        ("Libri2Mix/wav8k/min", "mix_clean", ["train-360", "dev", "test"]),
    ],
)
def test_names_that_tell_no_speaker_lose_no_source(tmp_path, place, mixtures, parts, names):
    own_mixtures(tmp_path, place, mixtures, parts, names)
    recognise.prepare(tmp_path, tmp_path / "out", 8000)
    pool = pd.read_csv(tmp_path / "out" / "pool.csv")
    assert len(pool) == pool["wav"].nunique() == 6
    assert pool["speaker"].nunique() == 6  # nothing tells that two are of one
    held_out = pd.read_csv(tmp_path / "out" / "test.csv")
    assert not set(held_out.filter(like="speaker").to_numpy().ravel()) & set(pool["speaker"])
    crops = recognise.train_set(False, tmp_path / "out", tmp_path, None, 4, 0.5, 8000, 2, 1)
    assert isinstance(crops, CroppedMixtures)
    item = crops[0]
    assert (item["mixture"] - item["sources"].sum(-1)).abs().max() < 1e-3


def test_noise_beside_speakers_is_nobody(tmp_path):
    for i, name in enumerate(["anna", "bob", "carl", "dora", "emil", "fritz", "noise"]):
        path = tmp_path / "data" / name / "0001.wav"
        path.parent.mkdir(parents=True)
        sf.write(path, trees.voices(1, 3.0, i)[0], 16000)
    recognise.prepare(tmp_path / "data", tmp_path / "out", 8000, num_valid=1, num_test=1)
    tables = [pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("pool", "valid", "test")]
    assert "noise" not in {
        name for table in tables for name in table.filter(like="speaker").to_numpy().ravel()
    }
