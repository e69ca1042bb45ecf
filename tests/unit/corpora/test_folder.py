"""From any folder of speech to manifests."""

import json
import logging
import os

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from conftest import ROOT
from data_prep.corpora import folder
from data_prep.corpora.folder import prepare, split_speakers
from data_prep.scan import manifests

SPEECH = ROOT.parent / "shared" / "speech"
MANIFESTS = ("pool.csv", "valid.csv", "test.csv")
LAST = ("measure", "speaker", "wav")
FEW = {"num_valid": 4, "num_test": 6, "max_duration": 2.0}


def add_noise(path, seconds=1.5, rate=8000, scale=0.1, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, scale, round(seconds * rate))
    sf.write(path, samples, rate)


@pytest.fixture
def corpus(tmp_path):
    """Eight speakers, three utterances each, with mixed suffixes and depths."""
    for s in range(8):
        for u, name in enumerate(("a.wav", "chapter/b.FLAC", "chapter/deep/c.ogg")):
            add_noise(tmp_path / "corpus" / f"s{s}" / name, 1.2 + 0.3 * u, seed=10 * s + u)
    return tmp_path / "corpus"


def read(path):
    return pd.read_csv(path, dtype={"speaker": str})


def speakers_of(table):
    return set(table.filter(like="speaker").to_numpy().ravel())


def texts(output_folder):
    return [(output_folder / name).read_text() for name in MANIFESTS]


def test_speakers_are_disjoint_and_all_are_used(corpus, tmp_path):
    prepare(corpus, tmp_path / "out", 8000, **FEW)
    train, valid, test = (read(tmp_path / "out" / name) for name in MANIFESTS)
    parts = [speakers_of(table) for table in (train, valid, test)]
    assert set.union(*parts) == {f"s{s}" for s in range(8)}
    assert sum(map(len, parts)) == 8 and min(map(len, parts)) >= 2
    assert list(train) == ["ID", "duration", "sample_rate", "level_db", *LAST]
    assert len(train) == 3 * len(parts[0]) and len(valid) == 4 and len(test) == 6
    assert train["level_db"].between(-20.3, -19.7).all()  # noise of 0.1 RMS
    assert train["wav"].str.startswith("$data_root/s").all()


def test_split_depends_on_the_seed_alone(corpus, tmp_path, monkeypatch):
    prepare(corpus, tmp_path / "a", 8000, seed=1, **FEW)
    files_below = folder.files_below
    monkeypatch.setattr(folder, "files_below", lambda root: files_below(root)[::-1])
    prepare(corpus, tmp_path / "b", 8000, seed=1, **FEW)
    prepare(corpus, tmp_path / "c", 8000, seed=2, **FEW)
    assert texts(tmp_path / "a") == texts(tmp_path / "b")
    assert texts(tmp_path / "a")[0] != texts(tmp_path / "c")[0]


def test_shares_are_met_and_leave_train_its_speakers():
    names = [f"s{s:02}" for s in range(40)]
    pool = pd.DataFrame({"speaker": names, "duration": 2.0})
    sizes = [len(part) for part in split_speakers(pool, 2, 0, 0.1, 0.2)]
    assert sizes == [28, 4, 8]
    sizes = [len(part) for part in split_speakers(pool[:7], 2, 0, 0.5, 0.49)]
    assert sizes == [2, 3, 2]
    pool.loc[:35, "duration"] = 0.5  # too short for fixed mixtures
    parts = split_speakers(pool, 2, 0, 0.4, 0.4)
    assert [len(part) for part in parts] == [36, 2, 2]


def test_fixed_mixtures_use_speakers_and_utterances_evenly(corpus, tmp_path):
    prepare(corpus, tmp_path / "out", 8000, num_valid=4, num_test=60)
    test = read(tmp_path / "out" / "test.csv")
    assert (test["speaker_1"] != test["speaker_2"]).all()
    uses = pd.concat([test["wav_1"], test["wav_2"]]).value_counts()
    assert len(uses) == 6 and uses.max() - uses.min() <= 1


def test_three_speakers(corpus, tmp_path):
    with pytest.raises(ValueError, match=r"Found 8 speakers.*num_spks=3 need 9: add"):
        prepare(corpus, tmp_path / "out", 8000, num_spks=3)
    add_noise(corpus / "s8" / "a.wav")
    prepare(corpus, tmp_path / "out", 8000, num_spks=3, **FEW)
    valid = read(tmp_path / "out" / "valid.csv")
    assert valid[["speaker_1", "speaker_2", "speaker_3"]].nunique(axis=1).eq(3).all()


def test_short_utterances_are_left_out_of_fixed_mixtures(corpus, tmp_path):
    for s in range(8):
        add_noise(corpus / f"s{s}" / "short.wav", 0.5)
    prepare(corpus, tmp_path / "out", 8000, **FEW)
    train, valid, _ = texts(tmp_path / "out")
    assert "short.wav" in train and "short.wav" not in valid


def test_broken_files_are_named_and_skipped(corpus, tmp_path, caplog):
    (corpus / "s0" / "text.wav").write_text("not audio")
    (corpus / "s0" / "empty.wav").touch()
    for suffix in ("wav", "flac", "ogg"):
        add_noise(corpus / "s1" / f"whole.{suffix}", seconds=2)
        data = (corpus / "s1" / f"whole.{suffix}").read_bytes()
        (corpus / "s1" / f"half.{suffix}").write_bytes(data[: len(data) // 2])
    sf.write(corpus / "s2" / "nan.wav", np.full(8000, np.nan), 8000, subtype="FLOAT")
    sf.write(corpus / "s2" / "zeros.wav", np.zeros(8000), 8000)
    sf.write(corpus / "s2" / "click.wav", np.ones(10), 8000)
    add_noise(corpus / "s3" / "low.wav", rate=4000)
    add_noise(corpus / "s3" / "price$1.wav")
    add_noise(corpus / "loose.wav")
    os.symlink(corpus / "nowhere", corpus / "s4" / "link.wav")
    with caplog.at_level(logging.INFO):
        prepare(corpus, tmp_path / "out", 8000, **FEW)
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    reasons = {
        "not readable as audio, or truncated": ("text.wav empty.wav half.wav half.flac half.ogg"),
        "missing": "link.wav",
        "with NaN or Inf": "nan.wav",
        "silent": "zeros.wav",
        "shorter than 0.1 s": "click.wav",
        "sampled below 8000 Hz": "low.wav",
        "with a $ in their names": "price$1.wav",
        "not in a speaker's sub-folder": "loose.wav",
    }
    for reason, names in reasons.items():
        (message,) = [message for message in warned if reason in message]
        assert message.startswith(f"Skipped {len(names.split())} of 39 files")
        assert all(name in message for name in names.split())
    assert len(warned) == len(reasons)
    assert "27 of 39 files can be used" in caplog.text
    made = "".join(texts(tmp_path / "out"))
    assert not any(name in made for names in reasons.values() for name in names.split())


def test_bad_folders_are_told_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"No folder at .*gone: set data_folder"):
        prepare(tmp_path / "gone", tmp_path / "out", 8000)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"No recording in .*empty"):
        prepare(tmp_path / "empty", tmp_path / "out", 8000)
    add_noise(tmp_path / "flat" / "a.wav")
    with pytest.raises(ValueError, match=r"lie directly in .*flat.*one sub-folder a speaker"):
        prepare(tmp_path / "flat", tmp_path / "out", 8000)
    add_noise(tmp_path / "one" / "s0" / "a.wav")
    with pytest.raises(ValueError, match=r"Found 1 speakers.*num_spks=2 need 6: add speakers"):
        prepare(tmp_path / "one", tmp_path / "out", 8000)
    with pytest.raises(ValueError, match=r"None of the 1 audio files can be used.*16000"):
        prepare(tmp_path / "one", tmp_path / "out", 16000)
    for s in range(6):
        add_noise(tmp_path / "words" / f"s{s}" / "a.wav", 0.5)
    with pytest.raises(ValueError, match=r"Found 0 speakers with an utterance of 1\.0 s"):
        prepare(tmp_path / "words", tmp_path / "out", 8000)
    assert not list((tmp_path / "out").glob("*.csv"))


@pytest.mark.parametrize(
    "argument", [{"num_valid": 0}, {"valid_share": 0.0}, {"test_share": 0.9}, {"max_duration": 0.5}]
)
def test_bad_arguments_are_named(corpus, tmp_path, argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        prepare(corpus, tmp_path / "out", 8000, **argument)


def test_second_call_does_nothing(corpus, tmp_path, monkeypatch, caplog):
    prepare(corpus, tmp_path / "out", 8000, **FEW)
    made = texts(tmp_path / "out")
    moved = corpus.rename(tmp_path / "moved")
    with monkeypatch.context() as patch:
        patch.setattr(folder, "scan", None)  # would fail if called
        prepare(moved, tmp_path / "out", 8000, **FEW)
    with caplog.at_level(logging.INFO):
        prepare(moved, tmp_path / "out", 8000, **{**FEW, "num_valid": 5})
    assert "were made with other num_valid: making them anew" in caplog.text
    assert texts(tmp_path / "out") != made
    add_noise(moved / "s0" / "new.wav")
    prepare(moved, tmp_path / "out", 8000, **FEW)
    state = json.loads((tmp_path / "out" / manifests.STATE).read_text())
    assert state["num_valid"] == FEW["num_valid"]


def test_who_was_trained_on_is_not_tested_after_a_change(corpus, tmp_path):
    prepare(corpus, tmp_path / "out", 8000, **FEW)
    made = texts(tmp_path / "out")
    with pytest.raises(ValueError, match=r"speakers that it trains on would be .*tested on now"):
        prepare(corpus, tmp_path / "out", 8000, seed=5, **FEW)
    trained = speakers_of(read(tmp_path / "out" / "pool.csv"))
    everybody = sorted(path.name for path in corpus.iterdir())
    refused = 0
    for speaker in everybody:  # leaves
        (corpus / speaker).rename(tmp_path / speaker)
        try:
            prepare(corpus, tmp_path / "out", 8000, **FEW)
        except ValueError as error:
            assert "begin anew with another output_folder" in str(error)
            assert texts(tmp_path / "out") == made
            refused += 1
        else:
            tables = [read(tmp_path / "out" / name) for name in ("valid.csv", "test.csv")]
            assert not trained & {s for table in tables for s in speakers_of(table)}
        (tmp_path / speaker).rename(corpus / speaker)
        prepare(corpus, tmp_path / "out", 8000, **FEW)
    assert refused  # the split is another one without them


@pytest.mark.parametrize("written", range(4))
def test_stopped_run_is_not_taken_for_whole(corpus, tmp_path, monkeypatch, written):
    more = {**FEW, "num_valid": 5}
    prepare(corpus, tmp_path / "out", 8000, **FEW)
    prepare(corpus, tmp_path / "whole", 8000, **more)
    names = iter([*MANIFESTS, manifests.STATE])

    def replace(source, target, left=iter(range(written))):  # noqa: B008
        next(names)
        if next(left, None) is None:
            raise KeyboardInterrupt
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", replace)
        with pytest.raises(KeyboardInterrupt):
            prepare(corpus, tmp_path / "out", 8000, **more)
    assert not (tmp_path / "out" / manifests.STATE).exists()
    prepare(corpus, tmp_path / "out", 8000, **more)
    assert texts(tmp_path / "out") == texts(tmp_path / "whole")


@pytest.mark.skipif(not SPEECH.is_dir(), reason="no real speech at ../shared/speech")
def test_librispeech_is_prepared(tmp_path):
    for speaker in sorted((SPEECH / "librispeech").glob("*"))[:12]:
        path = min(speaker.glob("*.flac"))
        chapter = tmp_path / "dev-clean" / path.parent.name / path.name.split("-")[1]
        chapter.mkdir(parents=True)
        os.symlink(path, chapter / path.name)
    prepare(tmp_path / "dev-clean", tmp_path / "out", 8000, **FEW)
    train, valid, test = (read(tmp_path / "out" / name) for name in MANIFESTS)
    assert train["speaker"].nunique() == 8
    assert len(speakers_of(valid)) == len(speakers_of(test)) == 2
    assert train["level_db"].between(-45, -10).all()


def test_links_and_hidden_files_change_nothing(corpus, tmp_path):
    prepare(corpus, tmp_path / "plain", 8000, **FEW)
    (corpus / "s1" / "up").symlink_to(corpus)
    (corpus / "s2" / "self").symlink_to("self")
    (corpus / "a0").symlink_to("s3")
    for name in (".DS_Store", "s0/._a.wav", "._s9"):
        (corpus / name).write_bytes(b"of another system")
    prepare(corpus, tmp_path / "linked", 8000, **FEW)
    assert texts(tmp_path / "linked") == texts(tmp_path / "plain")


def test_what_is_not_taken_is_named_and_counted(corpus, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("sfsrnet_modules.common.decoding.is_installed", lambda: False)
    for name in ("s0/a.m4a", "s1/deep/b.WMA", "s1/notes.txt"):
        (corpus / name).parent.mkdir(exist_ok=True)
        (corpus / name).touch()
    prepare(corpus, tmp_path / "out", 8000, **FEW)
    assert "2 recordings are passed over, s0/a.m4a, s1/deep/b.WMA: `pip install" in caplog.text


@pytest.mark.parametrize("name", ["long.MP3", "long.aiff", "long.w64"])
def test_every_format_that_is_read_is_taken(corpus, tmp_path, name):
    samples = np.random.default_rng(0).normal(0, 0.1, 24000)
    for s in range(8):
        sf.write(corpus / f"s{s}" / name, samples, 8000)
    prepare(corpus, tmp_path / "out", 8000, **FEW)
    pool = pd.read_csv(tmp_path / "out/pool.csv")
    assert pool["ID"].str.endswith(name).sum() == pool["speaker"].nunique() > 0


def test_encodings_that_cannot_seek_are_used(corpus, tmp_path, caplog):
    for s in range(8):
        samples = np.random.default_rng(s).normal(0, 0.1, 16000)
        sf.write(corpus / f"s{s}" / "call.wav", samples, 8000, subtype="GSM610")
    prepare(corpus, tmp_path / "out", 8000, **FEW)
    assert "Skipped" not in caplog.text
    assert read(tmp_path / "out" / "pool.csv")["ID"].str.endswith("call.wav").sum() >= 4
