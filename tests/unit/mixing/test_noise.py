"""Noise that is repeated where the recording is too short."""

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import resample_poly

from data_prep.mixing.noise import extend_noise, read_noise

RATE = 16000


@pytest.fixture
def noise(tmp_path):
    """Two channels of 2.5 s at 16 kHz, and the samples of the first."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (40001, 2))
    sf.write(tmp_path / "noise.wav", samples, RATE)
    return tmp_path / "noise.wav", sf.read(tmp_path / "noise.wav", dtype="float32")[0][:, 0]


def test_a_constant_is_extended_by_halves_of_a_hann_window():
    extended = extend_noise(np.ones(20000), 50000, RATE)
    assert len(extended) == 50000
    # Neither half is above one, and both are one half in the middle of the joint.
    assert extended.max() <= 1 + 1e-12 and extended.min() == pytest.approx(1, abs=1e-12)
    falling = extend_noise(np.concatenate([np.ones(19999), [0.0]]), 30000, RATE)
    assert falling[11999:19998] == pytest.approx(1)  # the fades of one signal add up to one


def test_the_joint_is_where_the_recording_ends():
    noise = np.zeros(20000)
    noise[:8001] = 1.0  # fades in over the last half second
    extended = extend_noise(noise, 32000 - 8001, RATE)
    np.testing.assert_allclose(extended[8001:11999], 0)
    np.testing.assert_allclose(extended[11999:20000], np.hanning(16001)[:8001], atol=1e-12)
    np.testing.assert_allclose(extended[20000:], 0)


@pytest.mark.parametrize("num_frames", [1, 20000])
def test_noise_that_is_long_enough_stays_as_it_is(num_frames):
    noise = np.random.default_rng(0).normal(size=20000)
    np.testing.assert_array_equal(extend_noise(noise, num_frames, RATE), noise[:num_frames])


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 100, 1601, 15999])
def test_noise_shorter_than_the_fade_is_extended_too(length):
    extended = extend_noise(np.ones(length), 3 * length + 5, RATE)
    assert len(extended) == 3 * length + 5 and np.isfinite(extended).all()
    assert np.abs(extended).max() <= 1 + 1e-12


@pytest.mark.parametrize("end", [30000, 40001, 40002, 100000])
@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_crops_equal_the_piece_of_the_whole(noise, sample_rate, end):
    path, samples = noise
    whole = samples[:end] if end <= len(samples) else extend_noise(samples, end, RATE)
    whole = resample_poly(whole, sample_rate, RATE)
    for begin, number in ((0, len(whole)), (3000, 5000), (len(whole) - 3000, 3000)):
        crop = read_noise(path, sample_rate, begin / sample_rate, number, end)
        assert crop.dtype == np.float32
        np.testing.assert_allclose(crop, whole[begin : begin + number], rtol=0, atol=1e-6)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"there is no file .*none\.wav"):
        read_noise(tmp_path / "none.wav", 8000, 0.0, 100, 200)
