"""Packed corpora."""

import logging
import os
import pickle
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from torch.utils.data import DataLoader

from data_prep.mixing import packed
from data_prep.mixing.dynamic import DynamicMixing
from data_prep.mixing.packed import find_pack, pack
from data_prep.mixing.recordings import Files, num_samples, read_pool
from tests.unit.mixing.test_dynamic import write_pool

NUMBER = 12


@pytest.fixture
def corpus(tmp_path):
    """Four speakers with three recordings each, of three rates and several levels."""
    for i in range(NUMBER):
        rate, level = (8000, 16000, 44100)[i % 3], 10 ** -(i % 4 * 0.8 + 0.5)
        samples = np.random.default_rng(i).normal(0, level, round((0.7 + i / 10) * rate))
        (tmp_path / f"s{i // 3}").mkdir(exist_ok=True)
        subtype = "FLOAT" if i == 0 else "PCM_16"  # peaks above full scale
        sf.write(tmp_path / f"s{i // 3}" / f"{i}.wav", samples, rate, subtype)
    return write_pool(tmp_path)


def pack_all(corpus, folder="packs"):
    pack(corpus / "pool.csv", 8000, corpus / folder, data_root=corpus)
    return found(corpus, folder)


def found(corpus, folder="packs"):
    return find_pack(read_pool(corpus / "pool.csv", data_root=corpus), 8000, corpus / folder)


def mixing(corpus, **options):
    return DynamicMixing(corpus / "pool.csv", corpus, 30, 1.0, 8000, speed=(0.9, 1.1), **options)


def count_reads(monkeypatch):
    reads = []
    original = Files.read
    monkeypatch.setattr(Files, "read", lambda *a: reads.append(a[1]) or original(*a))
    return reads


def read(recordings, i, start, num_samples, gain=1.0):
    crop = np.empty(num_samples, np.float32)
    recordings.read(i, start, crop, gain)
    return crop


def test_recordings_are_those_of_the_files_within_half_a_step(corpus):
    table = read_pool(corpus / "pool.csv", data_root=corpus)
    recordings, files = pack_all(corpus), Files(table, 8000)
    for i, length in enumerate(num_samples(table, 8000)):
        whole = read(files, i, 0, length)
        half_step = np.abs(whole).max() / 65534
        assert np.abs(read(recordings, i, 0, length) - whole).max() <= 1.01 * half_step
        crop = read(files, i, 800, 2000, gain=0.5)  # 800: a whole frame at each rate
        np.testing.assert_array_equal(crop, 0.5 * read(files, i, 800, 2000))
        error = np.abs(read(recordings, i, 800, 2000, gain=0.5) - crop).max()
        assert error <= 1.05 * half_step / 2
        with pytest.raises(OSError, match=f"number {i} of"):
            read(recordings, i, 1, length)


def test_mixtures_are_the_same_from_files_and_packed_in_workers_too(corpus):
    pack_all(corpus)
    files, packs = mixing(corpus), mixing(corpus, packed=corpus / "packs")
    for one, two in zip(files, packs, strict=True):
        torch.testing.assert_close(one["sources"], two["sources"], atol=1e-4, rtol=0)
        assert one["sources"].abs().max() > 0.05
    workers = DataLoader(packs, None, num_workers=2)
    again = pickle.loads(pickle.dumps(packs))
    assert len(pickle.dumps(packs.pool._recordings)) < 1000  # not the samples
    for one, two, three in zip(packs, workers, again, strict=True):
        assert torch.equal(one["mixture"], two["mixture"])
        assert torch.equal(one["mixture"], three["mixture"])


def test_packing_is_done_once_wherever_the_corpus_lies(corpus, monkeypatch):
    pack_all(corpus)
    reads = count_reads(monkeypatch)
    (corpus / "moved").symlink_to(corpus)
    pack(corpus / "pool.csv", 8000, corpus / "packs", data_root=corpus / "moved")
    assert not reads
    pack(corpus / "pool.csv", 4000, corpus / "packs", data_root=corpus)
    assert len(reads) == NUMBER


def test_a_pack_in_a_folder_of_others_is_taken(corpus, monkeypatch, caplog):
    pack_all(corpus)
    monkeypatch.setattr(packed, "alone", lambda place: (_ for _ in ()).throw(PermissionError()))
    with caplog.at_level(logging.WARNING):
        assert pack_all(corpus) is not None
    assert not caplog.records


def test_a_killed_packing_passes_for_nothing_and_goes_on(corpus, monkeypatch):
    whole = pack_all(corpus)
    reads = count_reads(monkeypatch)
    monkeypatch.setattr(packed, "AT_ONCE", 2)
    pid = os.fork()
    if pid == 0:
        original = Files.read
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        Files.read = lambda *a: kill() if a[1] == 7 else original(*a)
        pack_all(corpus, "other")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert found(corpus, "other") is None
    (unfinished,) = (corpus / "other").glob("*.unfinished")
    with open(unfinished / packed.INDEX, "a") as index, open(unfinished / packed.SAMPLES, "a") as s:
        index.write("123,0.0")  # as a kill amid writing leaves them
        s.write("some samples")
    again = pack_all(corpus, "other")
    assert NUMBER - 7 <= len(reads) <= NUMBER - 6  # two at once
    for name in (packed.INDEX, packed.SAMPLES):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_changed_file_is_noticed(corpus, monkeypatch):
    first = pack_all(corpus)
    samples, rate = sf.read(corpus / "s1" / "4.wav")
    sf.write(corpus / "s1" / "4.wav", samples / 2, rate)  # of the same size
    reads = count_reads(monkeypatch)
    row = list(read_pool(corpus / "pool.csv")["ID"]).index("s1/4.wav")
    half = read(pack_all(corpus), row, 0, 1000)
    np.testing.assert_allclose(half, read(first, row, 0, 1000) / 2, atol=1e-4)
    assert len(reads) == NUMBER


def test_a_full_disk_says_how_much_is_missing_and_files_are_read(corpus, monkeypatch, caplog):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(packed.SPARE - 2 * 10**9))
    with caplog.at_level(logging.WARNING):
        assert pack_all(corpus) is None
    assert "2.00 GB are missing: make room, or set cache_folder" in caplog.text
    assert isinstance(mixing(corpus, packed=corpus / "packs").pool._recordings, Files)
    assert not any(path.is_dir() for path in (corpus / "packs").iterdir())


def test_a_disk_that_fills_up_leaves_nothing_behind(corpus, monkeypatch, caplog):
    room = [10**12]
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(room[0]))

    def full(*_):
        room[0] = packed.SPARE
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packed, "_append", full)
    with caplog.at_level(logging.WARNING):
        assert pack_all(corpus) is None
    assert "0.00 GB are missing" in caplog.text
    assert not any(path.is_dir() for path in (corpus / "packs").iterdir())


def test_broken_files_are_left_out_and_replaced(corpus, caplog):
    (corpus / "s0" / "0.wav").write_text("no audio any more")
    (corpus / "s1" / "3.wav").unlink()
    with caplog.at_level(logging.WARNING):
        pack_all(corpus)
    assert "Packing leaves out s0/0.wav" in caplog.text and "s1/3.wav" in caplog.text
    files, packs = mixing(corpus), mixing(corpus, packed=corpus / "packs")
    for one, two in zip(files, packs, strict=True):
        torch.testing.assert_close(one["sources"], two["sources"], atol=1e-4, rtol=0)
    assert packs.num_unreadable == files.num_unreadable == 2


def test_a_pack_cut_short_is_made_anew(corpus):
    samples = pack_all(corpus).folder / packed.SAMPLES
    os.truncate(samples, 1000)
    assert found(corpus) is None
    assert pack_all(corpus) and samples.stat().st_size > 1000


def test_training_needs_the_pack_alone(corpus):
    pack_all(corpus)
    shutil.copytree(corpus / "packs", corpus / "staged")
    for path in Path(corpus).glob("s*/*.wav"):
        path.unlink()
    assert mixing(corpus, packed=corpus / "staged")[0]["mixture"].shape == (8000,)
    with pytest.raises(ValueError, match="No file of"):
        mixing(corpus)


def test_a_pack_of_other_files_with_the_same_names_is_not_taken(corpus):
    assert pack_all(corpus)
    for path in corpus.glob("s*/*.wav"):  # another corpus, such as the same one enhanced
        os.utime(path, ns=(0, 0))
    assert found(corpus) is None and pack_all(corpus)
    for path in corpus.glob("s*/*.wav"):
        path.unlink()
    assert found(corpus)  # the pack is all that is read
