"""Levels: their measures, and how they are drawn."""

import numpy as np
import pytest

from data_prep.mixing.levels import (
    GAIN_DB,
    LEVEL_DB,
    LOUDNESS,
    NOISE_LOUDNESS,
    PEAK,
    draw_levels_db,
    draw_noise_db,
    loudness,
    peak_scale,
    rms_db,
)


def test_levels_are_within_the_convention():
    levels = draw_levels_db(np.random.default_rng(0), 1000) - LEVEL_DB
    assert np.abs(levels).max() <= GAIN_DB
    assert levels.min() < -0.95 * GAIN_DB and levels.max() > 0.95 * GAIN_DB


def test_peak_scale_looks_at_sources_and_mixture():
    assert peak_scale(np.full(4, 0.9), np.full((4, 2), 0.45)) == 1.0  # sum at the limit
    assert peak_scale(np.full(4, 1.2), np.full((4, 2), 0.6)) == pytest.approx(PEAK / 1.2)
    assert peak_scale(np.zeros(1), np.array([[1.5, -1.5]])) == pytest.approx(
        PEAK / 1.5
    )  # sum is silent


def test_rms_of_a_sine_and_of_silence():
    sine = np.sin(2 * np.pi * np.arange(8000) / 80)
    assert rms_db(sine) == pytest.approx(-3.0103, abs=1e-4)
    assert rms_db(np.zeros(10)) == -np.inf


def test_active_levels_are_drawn_as_wsj0mix_does():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_levels_db(rng, 3, "active") for _ in range(500)])
    assert (drawn[:, 0] == -drawn[:, 1]).all() and (drawn[:, 2] == 0).all()
    ratio = drawn[:, 0] - drawn[:, 1]
    assert ratio.min() >= 0 and ratio.max() <= 5 and np.mean(ratio) == pytest.approx(2.5, abs=0.2)


def test_loudness_is_drawn_as_librimix_does():
    rng = np.random.default_rng(0)
    drawn = draw_levels_db(rng, 500, "lufs")
    assert drawn.min() >= LOUDNESS[0] and drawn.max() <= LOUDNESS[1] and np.ptp(drawn) > 7.5


def test_noise_is_drawn_within_librimix_range():
    rng = np.random.default_rng(0)
    drawn = [draw_noise_db(rng) for _ in range(500)]
    assert min(drawn) >= NOISE_LOUDNESS[0] and max(drawn) <= NOISE_LOUDNESS[1]
    assert np.ptp(drawn) > 7.5


def test_loudness_of_a_tone_and_of_silence():
    sine = np.sin(2 * np.pi * 997 * np.arange(32000) / 16000)  # BS.1770: full scale is -3.01 LUFS
    assert loudness(sine, 16000) == pytest.approx(-3.01, abs=0.1)
    assert loudness(0.1 * sine, 16000) == pytest.approx(-23.01, abs=0.1)
    assert loudness(0 * sine, 16000) == -np.inf
    assert loudness(sine[:1000], 16000) == -np.inf
