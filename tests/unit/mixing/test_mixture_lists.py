"""Lists of mixtures: ours, SpeechBrain's, Asteroid's, and what is none."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from data_prep.mixing.fixed import FixedMixtures

NAMES = ("mix", "s1", "s2")
SECONDS = {"a": 1.5, "b": 2.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two mixtures and their sources; not to be changed."""
    folder, rng = tmp_path_factory.mktemp("mixtures"), np.random.default_rng(0)
    for stem, seconds in SECONDS.items():
        sources = 0.1 * rng.standard_normal((2, round(8000 * seconds)))  # [C, T]
        for name, audio in zip(NAMES, (sources.sum(0), *sources), strict=True):
            (folder / name).mkdir(exist_ok=True)
            sf.write(folder / name / f"{stem}.wav", audio, 8000, subtype="FLOAT")
    return folder


def rows(columns: str, row: str, root: str) -> str:
    """A csv with a row a mixture, {} in it the stem and <> the folder."""
    return "\n".join([columns, *(row.replace("<>", root).format(stem) for stem in SECONDS)]) + "\n"


LISTS = {
    "ours": (
        "ID,duration,wav_mix,wav_1,wav_2",
        "{0},1.5,$data_root/mix/{0}.wav,$data_root/s1/{0}.wav,$data_root/s2/{0}.wav",
    ),
    "without duration": (
        "ID,wav_mix,wav_1,wav_2",
        "{0},$data_root/mix/{0}.wav,$data_root/s1/{0}.wav,$data_root/s2/{0}.wav",
    ),
    "without ID": (
        "duration,wav_1,wav_2",
        "1.5,$data_root/s1/{0}.wav,$data_root/s2/{0}.wav",
    ),
    "SpeechBrain": (  # as its recipes write it, durations of 1.0 and all
        "ID,duration,mix_wav,mix_wav_format,mix_wav_opts,s1_wav,s1_wav_format,s1_wav_opts,"
        "s2_wav,s2_wav_format,s2_wav_opts",
        "{0},1.0,<>/mix/{0}.wav,wav,,<>/s1/{0}.wav,wav,,<>/s2/{0}.wav,wav,",
    ),
    "Asteroid": (
        "mixture_ID,mixture_path,source_1_path,source_2_path,noise_path,length",
        "{0},<>/mix/{0}.wav,<>/s1/{0}.wav,<>/s2/{0}.wav,<>/noise/{0}.wav,12000",
    ),
    "relative": (
        "mixture_ID,mixture_path,source_1_path,source_2_path,length",
        "{0},mix/{0}.wav,s1/{0}.wav,s2/{0}.wav,12000",
    ),
}


@pytest.mark.parametrize("kind", LISTS)
def test_every_kind_of_list_gives_the_same_mixtures(kind, folder, tmp_path):
    (tmp_path / "test.csv").write_text(rows(*LISTS[kind], str(folder)))
    mixtures = FixedMixtures(tmp_path / "test.csv", 8000, 2, folder)
    ids = ["1", "2"] if kind == "without ID" else ["a", "b"]
    measured = kind not in ("ours", "without ID")
    for item, id_, (stem, seconds) in zip(
        map(mixtures.__getitem__, range(2)), ids, SECONDS.items(), strict=True
    ):
        assert item["id"] == id_
        length = round(8000 * (seconds if measured else 1.5))
        assert item["mixture"].shape == (length,) and item["sources"].shape == (length, 2)
        for c in (1, 2):
            audio = sf.read(folder / f"s{c}" / f"{stem}.wav", dtype="float32")[0][:length]
            assert np.array_equal(item["sources"][:, c - 1].numpy(), audio)
        assert (item["mixture"] - item["sources"].sum(-1)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "can't be read as a list of mixtures: No columns"),
        ("\x00\x01\x02\xff" * 9, "mixtures"),
        ("a\tb\n1\t2\n", r"lists no mixtures \(1 rows with a\tb\): give a csv with ID"),
        ("ID,duration,wav_1,wav_2\n", r"lists no mixtures \(0 rows with ID, duration"),
        ("ID,speaker,wav\nx,y,z\n", "lists no mixtures .*SpeechBrain's with mix_wav"),
        ("mixture_ID,source_1_path,source_1_gain\nx,y,1\n", "lists no mixtures"),
        ("ID,wav_1,wav_2\nx,y,z\n", "has no duration: add that column"),
        ("ID,duration,wav_1,wav_2\nx,long,y,z\n", "says that x lasts 'long': give seconds"),
        ("ID,duration,wav_1,wav_2\nx,-1,y,z\n", "says that x lasts .*-1.*: give seconds"),
        ("ID,duration,wav_1,wav_2\nx,1,y,z\nx,1,y,z\n", "1 items of .* have an ID that another"),
        ("ID,duration,wav_1,wav_2,wav_3\nx,1,y,y,y\n", "of 3 sources, num_spks is 2: set num_spks"),
    ],
)
def test_what_is_no_list_of_mixtures_is_told_in_a_sentence(text, message, tmp_path):
    (tmp_path / "test.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        FixedMixtures(tmp_path / "test.csv", 8000, 2, tmp_path)
    assert "\n" not in str(error.value)
