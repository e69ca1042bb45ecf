"""Rooms and noise of any corpus."""

import numpy as np
import pandas as pd
import pytest
import torch

from data_prep.corpora import recognise
from data_prep.corpora.acoustics import Acoustics
from data_prep.mixing import rooms
from data_prep.mixing.fixed import FixedMixtures
from data_prep.mixing.levels import rms_db
from data_prep.mixing.turns import Turns
from tests.unit.corpora.test_folder import add_noise

KINDS = ["recordings", "babble", "coloured"]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A listed corpus of 25 speakers, beside nine recordings of noise."""
    rows = []
    for s in range(25):
        for u in range(2):
            path = f"{s}/{u}.wav"
            add_noise(tmp_path / "corpus" / path, 1.2, seed=len(rows))
            rows.append({"source": "books", "speaker": f"s{s:02d}", "path": path})
    pd.DataFrame(rows).to_csv(tmp_path / "corpus/manifest.csv", index=False)
    for n in range(9):
        add_noise(tmp_path / "noise" / f"{n}.wav", 0.4 + 0.4 * n, scale=0.02, seed=n)
    monkeypatch.setattr(rooms, "NUMBERS", {"train": 3, "valid": 2, "test": 2})
    return tmp_path / "corpus"


def make(corpus, **options) -> Acoustics:
    folders = {"rooms": corpus.parent / "rooms", "noise_folder": corpus.parent / "noise"}
    return Acoustics(8000, **{**folders, "noise_kinds": KINDS, "t60": (0.15, 0.3), **options})


def prepare(corpus, acoustics, name="out"):
    out = corpus.parent / name
    recognise.prepare(corpus, out, 8000, num_valid=20, num_test=20, acoustics=acoustics)
    return {part: pd.read_csv(out / f"{part}.csv", keep_default_na=False) for part in PARTS}


PARTS = ("valid", "test")


def fixed(corpus, part, target="reverberant"):
    roots = (corpus, corpus.parent / "noise", corpus.parent / "rooms")
    return FixedMixtures(corpus.parent / f"out/{part}.csv", 8000, 2, *roots, target)


def test_shares_and_splits_of_the_fixed_rows(corpus):
    pytest.importorskip("pyroomacoustics")
    tables = prepare(corpus, make(corpus, room_share=0.5, noise_share=0.6))
    for part, table in tables.items():
        assert 4 < (table["bank"] != "").sum() < 16 and 5 < (table["gain_noise"] != "").sum() < 19
        banks = set(table["bank"]) - {""}
        assert banks == {f"$rooms_root/{part}-8000Hz-0.15-0.3s-2.npy"}
        names = {name for cell in table["wav_noise"] for name in cell.split("|") if name}
        noise = {name for name in names if name.startswith("$noise_root")}
        assert noise <= {"valid": {"$noise_root/1.wav", "$noise_root/8.wav"}}.get(
            part, {"$noise_root/0.wav", "$noise_root/7.wav"}
        )
        talkers = names - noise
        assert talkers <= set(table["wav_1"]) | set(table["wav_2"]) and talkers and noise
        assert (table["seed_noise"] != "").any()
    pool = pd.read_csv(corpus.parent / "out/noise.csv")
    assert set(pool["wav"]) == {f"$noise_root/{n}.wav" for n in range(2, 7)}


def test_levels_and_ratios_of_the_fixed_mixtures(corpus):
    pytest.importorskip("pyroomacoustics")
    tables = prepare(corpus, make(corpus, room_share=0.5, noise_share=0.8, noise_snr=(0, 5)))
    clean = corpus.parent / "clean"
    recognise.prepare(corpus, clean, 8000, num_valid=20, num_test=20)
    dry = FixedMixtures(clean / "valid.csv", 8000, 2, corpus)
    wet, early = fixed(corpus, "valid"), fixed(corpus, "valid", "early")
    for i, row in tables["valid"].iterrows():
        item, plain = wet[i], dry[i]
        for c in range(2):
            level = rms_db(plain["sources"][:, c].numpy())
            assert rms_db(item["sources"][:, c].numpy()) == pytest.approx(level, abs=1e-3)
        noise = (item["mixture"] - item["sources"].sum(-1)).numpy()
        if row["gain_noise"] == "":
            assert not noise.any()
        else:  # the ratio is that to the dry voices: rooms keep the level of each, not of the sum
            found = rms_db(plain["sources"].sum(-1).numpy()) - rms_db(noise)
            assert found == pytest.approx(float(row["snr"]), abs=0.02) and 0 <= found <= 5
        assert torch.equal(item["sources"], plain["sources"]) == (row["bank"] == "")
        assert torch.equal(early[i]["mixture"], item["mixture"])
        same = torch.equal(early[i]["sources"], item["sources"])
        assert same == (row["bank"] == "")


def test_a_piece_of_a_mixture_is_a_piece_of_the_whole(corpus):
    pytest.importorskip("pyroomacoustics")
    prepare(corpus, make(corpus, room_share=0.5))
    dataset = fixed(corpus, "test")
    for i in range(len(dataset)):
        row, whole = dataset.rows.iloc[i], dataset[i]
        piece = dataset.read(row, 3000, 2000)
        assert torch.equal(piece["sources"], whole["sources"][3000:5000])
        assert (piece["mixture"] - whole["mixture"][3000:5000]).abs().max() < 1e-5


def test_a_second_call_does_nothing_and_none_at_all_leaves_the_corpus(corpus):
    pytest.importorskip("pyroomacoustics")
    out = corpus.parent / "out"
    texts = []
    for acoustics in (None, make(corpus), make(corpus), Acoustics(8000), make(corpus)):
        prepare(corpus, acoustics)
        texts.append((out / "test.csv").read_text())
        if len(texts) == 2:
            time = (out / "test.csv").stat().st_mtime_ns
        if len(texts) == 3:
            assert time == (out / "test.csv").stat().st_mtime_ns
        assert (out / "noise.csv").exists() == (acoustics is not None and len(texts) != 4)
    assert texts[0] == texts[3] != texts[1] == texts[2] == texts[4]


def test_manifests_made_anew_get_their_noise_again(corpus):
    acoustics = make(corpus, rooms=None)
    tables = prepare(corpus, acoustics)
    (corpus.parent / "out/valid.csv").unlink()
    again = prepare(corpus, acoustics)
    assert all(tables[part].equals(again[part]) for part in PARTS)
    assert (corpus.parent / "out/noise.csv").is_file() and (again["test"]["snr"] != "").all()


def test_nobody_babbles_where_all_speak(corpus):
    acoustics = make(corpus, rooms=None, noise_folder=None, noise_kinds=["babble", "coloured"])
    table = prepare(corpus, None)["test"].iloc[:1]
    drawn = acoustics.draw(pd.concat([table] * 8), "test", corpus, {}, {})
    assert (drawn["seed_noise"] != "").all() and "wav_noise" not in drawn


def test_a_single_other_voice_is_no_babble(corpus):
    acoustics = make(corpus, rooms=None, noise_folder=None, noise_kinds=["babble", "coloured"])
    table = prepare(corpus, None)["test"]
    three = table.iloc[:2].assign(speaker_1=["a", "a"], speaker_2=["b", "c"])
    drawn = acoustics.draw(pd.concat([three] * 4), "test", corpus, {}, {})
    assert (drawn["seed_noise"] != "").all() and "wav_noise" not in drawn


def test_a_room_or_noise_takes_the_place_of_the_corpus_own_file(corpus):
    acoustics = make(corpus, rooms=None, noise_share=0.5, noise_kinds=["coloured"])
    table = prepare(corpus, None)["test"]
    table["wav_mix"] = table["wav_1"]
    drawn = acoustics.draw(table, "test", corpus, {}, {})
    has_noise = drawn["snr"] != ""
    assert 0 < has_noise.sum() < len(drawn)
    assert ((drawn["wav_mix"] == "") == has_noise).all()


def test_what_is_trained_on(corpus):
    pytest.importorskip("pyroomacoustics")
    acoustics = make(corpus, target="early")
    prepare(corpus, acoustics)
    keys = {"num_items": 8, "segment": 1.0, "sample_rate": 8000, "num_spks": 2, "seed": 1}
    dataset = recognise.train_set(
        True, corpus.parent / "out", corpus, None, **keys, acoustics=acoustics
    )
    assert dataset.rooms.path.endswith("train-8000Hz-0.15-0.3s-3.npy")
    assert dataset.noise.recordings.num_speakers == 5
    assert all(torch.isfinite(item["mixture"]).all() for item in dataset)
    with pytest.raises(ValueError, match=r"rooms is .*: they are drawn for new mixtures only, set"):
        recognise.train_set(False, corpus.parent, corpus, None, **keys, acoustics=acoustics)
    for turns in (Turns(8000, {1: 0.1}), Turns(8000, pause_share=0.1)):
        with pytest.raises(ValueError, match="fewer_voices and pause_share are for new mixtures"):
            recognise.train_set(False, corpus.parent, corpus, None, **keys, turns=turns)


@pytest.mark.parametrize(
    ("options", "warns"),
    [({}, True), ({"noise_share": 0}, False), ({"noise_kinds": ["coloured"]}, True)],
)
def test_training_that_stays_without_noise_is_told(corpus, caplog, options, warns):
    prepare(corpus, make(corpus, rooms=None))
    out = corpus.parent / "out"
    (out / "valid.csv").rename(out / "train.csv")  # as if the corpus had its own
    keys = {"num_items": 8, "segment": 1.0, "sample_rate": 8000, "num_spks": 2, "seed": 1}
    acoustics = make(corpus, rooms=None, **options)
    recognise.train_set(False, out, corpus, None, **keys, acoustics=acoustics)
    assert ("Training is without noise" in caplog.text) == warns


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_folder": "rooms"}, r"No folder at .*rooms: set noise_folder"),
        ({"noise_folder": "empty"}, r"No recording in .*empty: set noise_folder"),
        ({"noise_folder": "few"}, r"Found 2 recordings of noise, train, valid and test need one"),
        ({"noise_kinds": ["music"]}, "noise_kinds has music: give a list of recordings, babble"),
        ({"noise_snr": (9, 3)}, r"noise_snr is \[9, 3\]: give the lowest and the highest value"),
        ({"room_share": 1.5}, r"room_share is 1\.5: set it to a share from 0 to 1"),
        ({"noise_share": 2}, "noise_share is 2: set it to a share from 0 to 1"),
        ({"rooms": "r", "t60": (0.01, 0.02)}, r"cannot have a T60 of 0\.01.* s, .*: raise t60"),
        ({"rooms": "r", "target": "wet", "t60": (0.2, 0.2)}, "target is wet: set it to one of"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(corpus, options, message):
    pytest.importorskip("pyroomacoustics")
    (corpus.parent / "empty").mkdir()
    for n in range(2):
        add_noise(corpus.parent / "few" / f"{n}.wav")
    for key in ("noise_folder", "rooms"):
        if key in options:
            options = {**options, key: corpus.parent / options[key]}
    with pytest.raises(ValueError, match=message) as error:
        prepare(corpus, make(corpus, **{"rooms": None, **options}))
    assert "\n" not in str(error.value)


def test_whams_folders_are_its_split(corpus):
    pytest.importorskip("pyroomacoustics")
    for part, number in (("tr", 3), ("cv", 1), ("tt", 1)):
        for n in range(number):
            add_noise(corpus.parent / "wham" / part / f"{n}.wav", scale=0.02, seed=n)
    options = {"noise_folder": corpus.parent / "wham", "noise_kinds": ["recordings"]}
    tables = prepare(corpus, make(corpus, rooms=None, **options))
    assert set(tables["test"]["wav_noise"]) == {"$noise_root/tt/0.wav"}
    assert set(tables["valid"]["wav_noise"]) == {"$noise_root/cv/0.wav"}
    assert len(pd.read_csv(corpus.parent / "out/noise.csv")) == 3
    assert np.ptp(tables["test"]["snr"].astype(float)) > 5


def test_conditions_are_the_same_mixtures(corpus):
    pytest.importorskip("pyroomacoustics")
    out = corpus.parent / "out"
    prepare(corpus, make(corpus, noise_share=0.5))
    acoustics = make(corpus, room_share=1.0)
    paths = acoustics.write_conditions(out / "valid.csv", corpus.parent / "four", corpus)
    assert list(paths) == ["clean", "noise", "room", "room+noise"]
    roots = (corpus, corpus.parent / "noise", corpus.parent / "rooms")
    clean, noise, room, both = (FixedMixtures(p, 8000, 2, *roots) for p in paths.values())
    for i in range(len(clean)):
        assert torch.equal(noise[i]["sources"], clean[i]["sources"])
        assert torch.equal(both[i]["sources"], room[i]["sources"])
        assert not torch.equal(room[i]["sources"], clean[i]["sources"])
        assert torch.equal(clean[i]["mixture"], clean[i]["sources"].sum(-1))
        assert torch.equal(room[i]["mixture"], room[i]["sources"].sum(-1))
        sounds = [(item["mixture"] - item["sources"].sum(-1)) for item in (noise[i], both[i])]
        assert (sounds[0] - sounds[1]).abs().max() < 1e-6 and sounds[0].abs().max() > 1e-3
    three = FixedMixtures(paths["room+noise"], 8000, 3, *roots)[0]  # a third output: silence
    assert (three["mixture"] - both[0]["mixture"]).abs().max() < 1e-6
    assert torch.equal(three["sources"][:, :2], both[0]["sources"])
    assert not three["sources"][:, 2].any()
    assert list(make(corpus, rooms=None).write_conditions(out / "test.csv", out, corpus)) == [
        "clean",
        "noise",
    ]
