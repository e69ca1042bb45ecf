import numpy as np
import pytest
from scipy.signal import resample_poly

from sfsrnet_modules.common.resampling import resample_blocks


@pytest.mark.parametrize(
    ("from_rate", "to_rate"),
    [(44100, 8000), (8000, 44100), (192000, 8000), (16000, 8000), (11025, 16000), (22051, 8000)],
)
@pytest.mark.parametrize("cuts", [[], [1, 2, 50, 9000, 60000], range(100, 70000, 977)])
def test_blocks_give_the_samples_of_the_whole(from_rate, to_rate, cuts):
    whole = np.random.default_rng(0).standard_normal((70003, 2)).astype(np.float32)
    blocks = np.split(whole, cuts)
    joined = np.concatenate(list(resample_blocks(blocks, from_rate, to_rate)))
    assert len(joined) == -(-len(whole) * to_rate // from_rate) and joined.dtype == np.float32
    assert np.array_equal(joined, resample_poly(whole, to_rate, from_rate))


def test_equal_rates_leave_blocks_alone():
    blocks = [np.ones((3, 1)), np.ones((2, 1))]
    assert list(resample_blocks(blocks, 8000, 8000)) == blocks


def test_a_tone_keeps_its_phase_there_and_back():
    time = np.arange(44100) / 44100
    tone = np.sin(2 * np.pi * 440 * time)[:, None].astype(np.float32)
    there = list(resample_blocks(np.split(tone, 5), 44100, 8000))
    back = np.concatenate(list(resample_blocks(there, 8000, 44100)))[: len(tone)]
    assert np.abs(back - tone)[1000:-1000].max() < 5e-3  # the filter's ripple
