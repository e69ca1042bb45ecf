"""Speed perturbation."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import resample_poly

from data_prep.mixing.speed import STEPS, change_speed, speeds


def test_the_set_of_speeds_lies_in_its_range():
    assert [float(s) for s in speeds(0.9, 1.1)] == pytest.approx(np.arange(36, 45) / 40)
    assert speeds(0.91, 0.96) == [Fraction(37, 40), Fraction(38, 40)]
    for lowest, highest in ((1.01, 1.02), (1.1, 0.9), (0.4, 1.0)):
        with pytest.raises(ValueError, match=rf"speed is \[{lowest}, {highest}\]: set it to two"):
            speeds(lowest, highest)


@pytest.mark.parametrize("step", [20, 37, 39, 40, 41, 44, 61])
@pytest.mark.parametrize("num_samples", [1, 39, 4000])
def test_samples_are_those_of_scipy(step, num_samples):
    audio = np.random.default_rng(0).normal(0, 0.1, num_samples).astype(np.float32)
    speed = Fraction(step, STEPS)
    expected = resample_poly(audio, speed.denominator, speed.numerator)
    # firwin normalises a filter of a reduced fraction a little differently
    tolerance = 1e-6 if speed.denominator in (1, STEPS) else 1e-3
    np.testing.assert_allclose(change_speed(audio, speed), expected, atol=tolerance)


def test_a_tone_rises():
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)
    fast = change_speed(tone, Fraction(21, 20))
    assert np.abs(np.fft.rfft(fast, 80000)).argmax() / 10 == pytest.approx(1050, abs=0.5)  # Hz
    assert np.abs(fast[100:-100]).max() == pytest.approx(1, abs=0.01)
