import resource
import threading

import numpy as np
import pytest
import soundfile
import torch

from sfsrnet_modules.common import writing
from sfsrnet_modules.common.writing import alone, write_voices, write_wav


def blocks_of(voices: np.ndarray, size: int = 700):
    return iter(np.split(voices.astype(np.float32), range(size, len(voices), size)))


def test_voices_are_written_as_they_are(tmp_path):
    voices = np.random.default_rng(0).uniform(-0.5, 0.5, (5000, 2))
    paths = [tmp_path / "new" / f"{i}.wav" for i in (1, 2)]
    assert write_voices(blocks_of(voices), paths, 11025) == 1
    for path, voice in zip(paths, voices.T, strict=True):
        samples, rate = soundfile.read(path)
        assert rate == 11025 and np.abs(samples - voice).max() < 1e-4
    assert sorted((tmp_path / "new").iterdir()) == paths


def test_very_soft_voices_keep_their_shape(tmp_path):
    voices = 1e-5 * np.random.default_rng(0).uniform(-1, 1, (5000, 1))  # a third of a 16-bit step
    write_voices(blocks_of(voices), [tmp_path / "soft.wav"], 8000)
    error = soundfile.read(tmp_path / "soft.wav")[0] - voices[:, 0]
    assert np.square(voices).mean() / np.square(error).mean() > 10**3


def test_a_voice_that_would_clip_turns_all_down_alike(tmp_path):
    voices = np.array([[0.5, 0.2]] * 999 + [[-2.0, 0.1]])  # known at the last sample only
    paths = [tmp_path / "1.wav", tmp_path / "2.wav"]
    assert write_voices(blocks_of(voices), paths, 8000) == pytest.approx(0.495)
    written = np.stack([soundfile.read(p)[0] for p in paths], axis=1)
    assert np.allclose(written, 0.495 * voices, atol=1e-4)


def test_more_than_four_gigabytes_become_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "WAV_LIMIT", 9999)
    write_voices(blocks_of(np.zeros((5000, 1))), [tmp_path / "long.wav"], 8000)
    info = soundfile.info(tmp_path / "long.wav")
    assert (info.format, info.frames) == ("RF64", 5000)


def test_an_error_in_the_middle_leaves_nothing_and_keeps_what_was_there(tmp_path):
    def failing():
        yield np.zeros((1000, 2), np.float32)
        raise KeyboardInterrupt

    paths = [tmp_path / "1.wav", tmp_path / "2.wav"]
    paths[0].write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_voices(failing(), paths, 8000)
    assert list(tmp_path.iterdir()) == [paths[0]] and paths[0].read_text() == "old"


@pytest.mark.parametrize("limit", [30_000, 60_000])  # bytes: in the spool, in a voice
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, limit, monkeypatch):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    voices = np.zeros((7000 if limit == 60_000 else 20_000, 2))
    if limit == 60_000:  # 56 kB of samples are taken in, wav files of 128 kB are not
        monkeypatch.setattr(writing, "_read_spool", lambda *_: [np.zeros((64_000, 2))])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(OSError, match="the voices can't be written to"):
            write_voices(blocks_of(voices), [tmp_path / "1.wav", tmp_path / "2.wav"], 8000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list(tmp_path.iterdir()) == []


def test_one_waveform_is_written_whole(tmp_path):
    write_wav(tmp_path / "one.wav", torch.linspace(-0.9, 0.9, 100), 8000)
    assert np.allclose(
        soundfile.read(tmp_path / "one.wav")[0], np.linspace(-0.9, 0.9, 100), atol=1e-4
    )
    assert [p.name for p in tmp_path.iterdir()] == ["one.wav"]


def test_long_names_are_written_and_too_long_ones_are_told_first(tmp_path):
    longest = tmp_path / ("说" * 83 + "ab.wav")  # 255 bytes in UTF-8
    write_wav(longest, np.zeros(10), 8000)
    assert [path.name for path in tmp_path.iterdir()] == [longest.name]
    taken = []
    blocks = (taken.append(1) or np.zeros((10, 1)) for _ in range(1))
    path = tmp_path / "new" / "deep" / ("说" * 84 + "b.wav")
    with pytest.raises(OSError, match="is too long: 257 bytes, 255 are allowed"):
        write_voices(blocks, [path], 8000)
    assert not taken and not (tmp_path / "new").exists()


def test_a_folder_with_a_name_that_is_not_utf_8(tmp_path):
    path = tmp_path / "\udcfcber" / "\udce4.wav"
    write_voices(blocks_of(np.zeros((100, 1))), [path], 8000)
    assert path.is_file()


def test_of_two_that_make_the_same_one_waits(tmp_path):
    order, started = [], threading.Event()

    def second():
        started.set()
        with alone(tmp_path / "a.npy"):
            order.append("second")

    with alone(tmp_path / "a.npy"):
        thread = threading.Thread(target=second)
        thread.start()
        started.wait()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
