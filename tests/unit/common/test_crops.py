"""Reading crops."""

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import resample_poly

from sfsrnet_modules.common.crops import (
    draw_start,
    last_frame,
    num_resampled,
    rate_ratio,
    read_audio,
)


@pytest.fixture
def noise(tmp_path):
    """A 2 s file of 16 kHz and its samples."""
    samples = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    sf.write(tmp_path / "noise.flac", samples, 16000)
    return tmp_path / "noise.flac", sf.read(tmp_path / "noise.flac", dtype="float32")[0]


def test_crop_at_the_same_rate_is_exact(noise):
    path, samples = noise
    crop = read_audio(path, 16000, start=0.25, num_samples=1001)
    assert crop.dtype == np.float32
    np.testing.assert_array_equal(crop, samples[4000:5001])


@pytest.mark.parametrize("ending", ["opus", "ogg", "mp3"])
def test_lossy_crop_is_decoded_from_the_beginning(tmp_path, ending, monkeypatch):
    path = tmp_path / f"noise.{ending}"
    format = ("OGG", "OPUS") if ending == "opus" else (ending.upper(), None)
    samples = np.random.default_rng(0).normal(0, 0.1, 32000)
    sf.write(path, samples, 16000, format=format[0], subtype=format[1])
    whole = read_audio(path, 16000)
    monkeypatch.setattr(sf.SoundFile, "seek", lambda *_: pytest.fail("sought"))
    np.testing.assert_array_equal(read_audio(path, 16000, 1.25, 9000), whole[20000:29000])


@pytest.mark.parametrize("sample_rate", [8000, 11025])
def test_resampled_crop_is_a_piece_of_the_resampled_file(noise, sample_rate):
    path, samples = noise
    whole = resample_poly(samples, sample_rate, 16000)
    for start, num_samples in ((0.0, 999), (0.16, sample_rate), (0.32, round(1.68 * sample_rate))):
        begin = round(start * sample_rate)  # a whole number at each of the rates
        crop = read_audio(path, sample_rate, start, num_samples)
        np.testing.assert_allclose(crop, whole[begin : begin + num_samples], atol=1e-6)


def test_file_is_taken_to_end_where_asked(noise):
    path, samples = noise
    expected = resample_poly(samples[:20001], 1, 2)
    np.testing.assert_allclose(read_audio(path, 8000, end=20001), expected, atol=1e-6)
    with pytest.raises(OSError, match="has 20001 frames, 20003 are wanted"):
        read_audio(path, 8000, num_samples=10002, end=20001)


@pytest.mark.parametrize(("num_frames", "sample_rate"), [(1000, 8000), (1001, 8000), (777, 11025)])
def test_lengths_are_those_of_resampling(num_frames, sample_rate):
    ratio = rate_ratio(16000, sample_rate)
    number = num_resampled(num_frames, ratio)
    assert number == len(resample_poly(np.zeros(num_frames), sample_rate, 16000))
    assert num_frames - ratio < last_frame(number, ratio) <= num_frames
    assert last_frame(0, ratio) == 0


def test_whole_file_is_read_by_default(noise):
    path, samples = noise
    np.testing.assert_array_equal(read_audio(path, 16000), samples)
    assert len(read_audio(path, 8000, start=0.5)) == 12000


def test_first_channel_is_read(tmp_path):
    sf.write(tmp_path / "stereo.wav", np.tile([0.25, -0.5], (800, 1)), 8000)
    np.testing.assert_array_equal(read_audio(tmp_path / "stereo.wav", 8000), np.full(800, 0.25))


def test_errors_name_the_file_and_the_reason(noise, tmp_path):
    path, _ = noise
    with pytest.raises(OSError, match=r"there is no file .*gone\.wav"):
        read_audio(tmp_path / "gone.wav", 8000)
    with pytest.raises(OSError, match="sampled at 16000 Hz, 44100 Hz are wanted"):
        read_audio(path, 44100)
    with pytest.raises(OSError, match="has 32000 frames, 32001 are wanted"):
        read_audio(path, 8000, num_samples=16001)


@pytest.mark.parametrize("file_rate", [8000, 11025, 44100])
def test_drawn_crops_lie_within_the_file(file_rate):
    ratio, rng = rate_ratio(file_rate, 8000), np.random.default_rng(0)
    num_frames = 1000
    num_samples = int(num_frames / ratio)
    last = max(draw_start(rng, num_frames, num_samples - 5, ratio) for _ in range(200))
    assert 0 < last == num_frames - last_frame(num_samples - 5, ratio)
    assert draw_start(rng, num_frames, num_samples, ratio) >= 0
