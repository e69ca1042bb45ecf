"""One corpus: its manifests, and the three sets that are made of them."""

import pandas as pd
import pytest
import torch

from benchmarks.voices import write_corpus
from data_prep.corpora.acoustics import Acoustics
from data_prep.corpora.corpus import Corpus

KEYS = {
    "sample_rate": 8000,
    "num_spks": 2,
    "mode": "min",
    "mixture": "clean",
    "train_part": "train-360",
    "lists": None,
    "noise_folder": None,
    "seed": 1,
    "num_valid": 2,
    "num_test": 3,
    "dynamic_mixing": True,
    "items_per_epoch": 4,
    "segment": 0.5,
    "speed": None,
    "acoustics": Acoustics(8000),
}


def test_the_sets_are_of_the_corpus_and_of_their_sizes(tmp_path):
    corpus = Corpus(write_corpus(tmp_path / "voices"), tmp_path / "manifests", **KEYS)
    corpus.prepare()
    train_set = corpus.train_set()
    train_set.set_epoch(1)
    assert [len(train_set), len(corpus.valid_set()), len(corpus.test_set())] == [4, 2, 3]
    assert train_set[0]["sources"].shape == (4000, 2)
    speakers = [set(s().rows["speaker_1"]) for s in (corpus.valid_set, corpus.test_set)]
    assert speakers[0].isdisjoint(speakers[1])


def test_the_training_part_is_packed_for_dynamic_mixing_alone(tmp_path):
    voices, cache = write_corpus(tmp_path / "voices"), tmp_path / "cache"
    keys = KEYS | {"packed": True, "cache_folder": cache}
    Corpus(voices, tmp_path / "manifests", **keys | {"dynamic_mixing": False}).prepare()
    assert not cache.exists()
    corpus = Corpus(voices, tmp_path / "manifests", **keys)
    corpus.prepare()
    (pack,) = cache.glob("packed/*/")
    samples = pack / "samples.i16"
    assert samples.stat().st_size == 2 * 24000 * len(pd.read_csv(tmp_path / "manifests/pool.csv"))
    files = Corpus(voices, tmp_path / "manifests", **KEYS)
    for one, two in zip(corpus.train_set(), files.train_set(), strict=True):
        torch.testing.assert_close(one["mixture"], two["mixture"], atol=1e-4, rtol=0)
        assert not torch.equal(one["mixture"], two["mixture"])  # of packed recordings indeed


def test_a_corpus_that_is_missing_is_fetched_first(tmp_path):
    asked = []

    def fetch(data_folder, sample_rate):
        asked.append((data_folder.name, sample_rate))
        write_corpus(data_folder)

    Corpus(tmp_path / "voices", tmp_path / "manifests", **KEYS, fetch=fetch).prepare()
    assert asked == [("voices", 8000)]
    with pytest.raises(ValueError, match="No folder at"):
        Corpus(tmp_path / "none", tmp_path / "manifests", **KEYS).prepare()
