"""Speech of several sources, listed by a manifest.csv."""

from itertools import islice

import numpy as np
import pandas as pd
import pytest

from data_prep.corpora import listed, recognise
from data_prep.mixing.fixed import FixedMixtures
from data_prep.mixing.pool import Pool
from tests.unit.corpora.test_folder import add_noise

PARTS = ("pool.csv", "valid.csv", "test.csv")


@pytest.fixture
def corpus(tmp_path):
    """Two sources of 25 speakers each, and one of 9; two recordings a speaker."""
    rows = []
    for source, number in (("books", 25), ("words", 25), ("few", 9)):
        for s in range(number):
            for u in range(2):
                path = f"{source}/{s}/{u}.wav"
                add_noise(tmp_path / "corpus" / path, 1.2, seed=len(rows))
                rows.append({"source": source, "speaker": f"{source}-{s:02d}", "path": path})
    pd.DataFrame(rows).to_csv(tmp_path / "corpus/manifest.csv", index=False)
    return tmp_path / "corpus"


def prepare(corpus, out, **options):
    listed.prepare(corpus, out, 8000, num_valid=3, num_test=5, max_duration=1.0, **options)
    return {name: pd.read_csv(out / name) for name in PARTS}


def test_every_seventh_speaker_of_a_source_is_kept(corpus, tmp_path):
    tables = prepare(corpus, tmp_path / "out")
    speakers = {n: set(t.filter(like="speaker").to_numpy().ravel()) for n, t in tables.items()}
    for name, kept in (("test.csv", (0, 7, 14, 21)), ("valid.csv", (3, 10, 17, 24))):
        assert speakers[name] == {f"{s}-{i:02d}" for s in ("books", "words") for i in kept}
    assert len(speakers["pool.csv"]) == 17 + 17 + 6  # of few some are kept, though not mixed


def test_mixtures_stay_within_a_source(corpus, tmp_path):
    tables = prepare(corpus, tmp_path / "out")
    for name, number in (("valid.csv", 3), ("test.csv", 5)):
        table = tables[name]
        assert table["source"].value_counts().to_dict() == {"books": number, "words": number}
        for column in ("ID", "speaker_1", "speaker_2"):
            assert (table[column].str.split("-").str[0] == table["source"]).all()
    item = FixedMixtures(tmp_path / "out/test.csv", 8000, 2, corpus)[0]
    assert np.allclose(item["mixture"], item["sources"].sum(1)) and len(item["mixture"]) == 8000


def test_training_mixtures_stay_within_a_source(corpus, tmp_path):
    prepare(corpus, tmp_path / "out")
    pool = Pool(tmp_path / "out/pool.csv", 8000, data_root=corpus)
    speakers = sorted(set(pd.read_csv(tmp_path / "out/pool.csv")["speaker"]))
    firsts, seconds = zip(
        *(islice(pool.draw_speakers(np.random.default_rng(seed)), 2) for seed in range(400)),
        strict=True,
    )
    sources = [[speakers[s].split("-")[0] for s in drawn] for drawn in (firsts, seconds)]
    assert set(firsts) == set(range(40))  # every speaker is drawn
    assert sources[0] == sources[1]


def test_a_name_in_two_sources_is_two_speakers(corpus, tmp_path):
    table = pd.read_csv(corpus / "manifest.csv")
    apart = prepare(corpus, tmp_path / "apart")["pool.csv"]
    table.assign(speaker=table["speaker"].str[-2:]).to_csv(corpus / "manifest.csv", index=False)
    pool = prepare(corpus, tmp_path / "out")["pool.csv"]
    assert (pool["speaker"] == apart["speaker"].str.replace("-", "/")).all()


def test_blank_sources_and_licences_are_unknown(corpus, tmp_path):
    table = pd.read_csv(corpus / "manifest.csv")
    blank = table["source"].replace("few", "")
    table.assign(source=blank, licence="").to_csv(corpus / "manifest.csv", index=False)
    pool = prepare(corpus, tmp_path / "out")["pool.csv"]
    assert set(pool["source"]) == {"books", "words", "unknown"}
    assert set(pool["licence"]) == {"unknown"}


def test_a_second_call_does_nothing_and_another_seed_keeps_the_speakers(corpus, tmp_path):
    first = prepare(corpus, tmp_path / "out")
    time = (tmp_path / "out/pool.csv").stat().st_mtime_ns
    prepare(corpus, tmp_path / "out")
    assert (tmp_path / "out/pool.csv").stat().st_mtime_ns == time
    other = prepare(corpus, tmp_path / "out", seed=2)
    assert other["pool.csv"].equals(first["pool.csv"])
    assert not other["test.csv"].equals(first["test.csv"])


def test_the_manifest_tells_the_corpus(corpus, tmp_path):
    assert recognise.recognise(corpus, None) == "listed"
    pd.DataFrame({"file": [], "seconds": []}).to_csv(corpus / "manifest.csv")
    assert recognise.recognise(corpus, None) == "folder"


def test_absolute_paths_are_relative_to_the_folder_or_refused(corpus, tmp_path):
    before = prepare(corpus, tmp_path / "relative")
    table = pd.read_csv(corpus / "manifest.csv")
    table.assign(path=str(corpus) + "/" + table["path"]).to_csv(
        corpus / "manifest.csv", index=False
    )
    for name, now in prepare(corpus, tmp_path / "absolute").items():
        pd.testing.assert_frame_equal(now, before[name])
    table.assign(path="/elsewhere/" + table["path"]).to_csv(corpus / "manifest.csv", index=False)
    with pytest.raises(ValueError, match=r"lists /elsewhere/books/0/0\.wav, which"):
        prepare(corpus, tmp_path / "out")


def test_too_few_speakers(corpus, tmp_path):
    with pytest.raises(ValueError, match="No source has 6 speakers kept"):
        prepare(corpus, tmp_path / "out", num_spks=3)


def test_the_speech_at_hand_is_split_by_speaker(speech):
    pool = pd.read_csv(speech / "manifest.csv")
    parts = listed.split(pool)
    speakers = [set(part["speaker"]) for part in parts.values()]
    assert sum(map(len, speakers)) == pool["speaker"].nunique() == len(set.union(*speakers))
    kept = parts["test.csv"].groupby("source")["speaker"].nunique()
    assert kept["librispeech"] == 29 and kept["commonvoice"] == kept["bengali"] == 40


def test_of_a_large_source_the_first_forty_are_kept():
    pool = pd.DataFrame({"source": "a", "speaker": [f"{i:03d}" for i in range(300)]})
    more = pd.DataFrame({"source": "b", "speaker": [f"b{i:03d}" for i in range(280)]})
    parts = listed.split(pd.concat([pool, more]))
    for name, first in (("test.csv", 0), ("valid.csv", 3)):
        numbers = range(first, 280, 7)
        speakers = [f"{i:03d}" for i in numbers] + [f"b{i:03d}" for i in numbers]
        assert list(parts[name]["speaker"]) == speakers
    assert len(parts["pool.csv"]) == 580 - 160


def test_a_new_source_leaves_the_mixtures_of_others_as_they_are(corpus, tmp_path):
    before = prepare(corpus, tmp_path / "before")["test.csv"]
    table = pd.read_csv(corpus / "manifest.csv")
    new = table[table["source"] == "books"].assign(source="audiobooks")
    new["speaker"] = new["speaker"].str.replace("books", "new")
    new["path"] = new["path"].str.replace("books", "new")
    (corpus / "new").symlink_to(corpus / "books")
    pd.concat([new, table]).to_csv(corpus / "manifest.csv", index=False)
    after = prepare(corpus, tmp_path / "after")["test.csv"]
    assert len(after) == 15
    left = after[after["source"] != "audiobooks"].reset_index(drop=True)
    pd.testing.assert_frame_equal(left, before)
