import numpy as np
import pytest
import torch

from sfsrnet_modules.inference.heard import HeardVoices

RATE = 8000


def which(voices: np.ndarray, size: int = 3000) -> list[bool]:
    heard = HeardVoices(RATE)
    for start in range(0, len(voices), size):
        heard.hear(torch.from_numpy(voices[start : start + size]))
    return heard.which().tolist()


def noise(seconds: float, *levels_db: float) -> np.ndarray:
    shape = (round(seconds * RATE), len(levels_db))
    return np.random.default_rng(0).normal(size=shape) * 10 ** (np.array(levels_db) / 20)


@pytest.mark.parametrize(
    ("levels", "expected"), [((0, -9), [True, True]), ((-11, 0), [False, True])]
)
@pytest.mark.parametrize("seconds", [0.3, 1.0, 7.4])
def test_ten_decibels_below_the_other_is_no_voice(levels, expected, seconds):
    assert which(noise(seconds, *levels)) == expected


def test_a_voice_that_rests_almost_always_is_one():
    voices = noise(60, 0, -40)
    voices[40000:50000] = noise(1.25, -40, 0)
    assert which(voices) == [True, True]


def test_what_is_left_in_a_pause_is_no_voice():
    voices = noise(20, 0, -20)
    voices[80000:] = noise(10, -40, -30)
    assert which(voices) == [True, False]


def test_silence_holds_no_voice():
    assert which(np.zeros((20000, 2))) == [False, False]


def test_the_size_of_blocks_does_not_matter():
    voices = noise(5, 0, -10)
    assert which(voices, 100) == which(voices, 8000) == which(voices, 40000)
