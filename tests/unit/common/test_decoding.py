"""Packed SPHERE files."""

import sys

import numpy as np
import pytest
import soundfile as sf

from data_prep.scan.scan import scan
from sfsrnet_modules.common import decoding
from sfsrnet_modules.common.audio_io import open_audio
from sfsrnet_modules.common.crops import read_audio
from tests.shorten import packed_sphere
from tests.trees import RATE, voices

pytest.importorskip("av")


@pytest.fixture
def samples():
    """int16 [T], not a whole number of blocks; with the greatest and the least value."""
    audio = np.round(voices(1)[0][:20001] * 2**15).astype(np.int16)
    audio[[100, 101]] = 32767, -32768
    return audio


@pytest.fixture
def packed(samples, tmp_path):
    path = tmp_path / "01TO030V.WV1"
    path.write_bytes(packed_sphere(samples, RATE))
    return path


def test_samples_are_exact(packed, samples):
    assert decoding.is_packed(packed) and packed.stat().st_size < 2 * len(samples)
    with open_audio(packed) as file:
        assert file.samplerate == RATE and file.frames == len(samples)
        np.testing.assert_array_equal(file.read(99999)[:, 0] * 2**15, samples)


def test_crops_are_read_and_files_are_scanned_as_of_any_format(packed, samples):
    np.testing.assert_array_equal(read_audio(packed, RATE, 0.5, 1000), samples[8000:9000] / 2**15)
    row = scan(packed.parent, [packed.name], RATE, str).iloc[0]
    assert row["problem"] == "" and row["duration"] == len(samples) / RATE


def test_unpacked_sphere_is_left_to_libsndfile(samples, tmp_path):
    sf.write(tmp_path / "a.sph", samples, RATE, format="NIST")
    assert not decoding.is_packed(tmp_path / "a.sph")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.sph", RATE), samples / 2**15)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.999])
def test_truncated_files_are_broken(packed, share):
    data = packed.read_bytes()
    packed.write_bytes(data[: max(int(share * len(data)), 1024)])
    with pytest.raises(OSError, match=r"01TO030V\.WV1 can't be read as audio"):
        open_audio(packed)
    problem = scan(packed.parent, [packed.name], RATE, str)["problem"].item()
    assert problem == "not readable as audio, or truncated"


def test_missing_files_are_not_packed(tmp_path):
    assert not decoding.is_packed(tmp_path / "none.wv1")
    with pytest.raises(OSError, match=r"there is no file .*none\.wv1"):
        read_audio(tmp_path / "none.wv1", RATE)


def test_the_way_out_without_pyav_is_told(packed, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    with pytest.raises(OSError, match=r"packed with Shorten: `pip install av`"):
        read_audio(packed, RATE)


def m4a(path, samples, rate):
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return path


def test_recordings_of_phones_are_decoded(tmp_path):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
    path = m4a(tmp_path / "memo.m4a", tone, 44100)
    with open_audio(path) as file:
        whole = np.concatenate(list(file.read_blocks()))[:, 0]
        assert file.samplerate == 44100 and abs(len(whole) - 44100) < 2100
    assert abs(np.abs(np.fft.rfft(whole[10000:20000])).argmax() - 100) <= 1  # 440 Hz
    np.testing.assert_array_equal(read_audio(path, 44100, 0.5, 1000), whole[22050:23050])


def test_no_room_for_what_is_decoded_is_told(tmp_path, monkeypatch):
    def full(*_) -> None:
        raise AssertionError  # what soundfile does where fewer bytes are written

    path = m4a(tmp_path / "memo.m4a", np.zeros(8000), 8000)
    monkeypatch.setattr(sf.SoundFile, "write", full)
    with pytest.raises(ValueError, match=r"memo\.m4a can't be read as audio: there is no room"):
        open_audio(path)


def test_the_way_out_of_what_nothing_reads(tmp_path, monkeypatch):
    path = m4a(tmp_path / "memo.m4a", np.zeros(8000), 8000)
    (tmp_path / "noise.wav").write_bytes(np.random.default_rng(0).bytes(50_000))
    with pytest.raises(OSError, match=r"noise\.wav can't be read as audio"):
        open_audio(tmp_path / "noise.wav")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"memo\.m4a can't.*`pip install av`.*ffmpeg"):
        open_audio(path)
