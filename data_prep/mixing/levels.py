"""Levels of the sources of a mixture: how each corpus measures and draws them.

A pool of utterances states each one's level, measured over the whole utterance, and how it was
measured; the mixer brings it to a level drawn by the convention that goes with the measure:

=======  ============================================  ==========================================
measure  level of a file                               drawn
=======  ============================================  ==========================================
rms      RMS in dBFS (any folder of speech)            each within -25 +- 2.5 dB
active   active level in dB (WSJ0's published lists)   +g, -g and, of three, 0 dB; g in 0 to 2.5
lufs     loudness in LUFS (LibriMix)                   each in -33 to -25; noise in -38 to -30
=======  ============================================  ==========================================
"""

import math

import numpy as np
import pyloudnorm

LEVEL_DB = -25.0  # dBFS RMS: two such speakers seldom reach PEAK, so that levels stay as drawn
GAIN_DB = 2.5  # dB: two sources differ by at most 5 dB, as in WSJ0-2mix
LOUDNESS = (-33.0, -25.0)  # LUFS, LibriMix
NOISE_LOUDNESS = (-38.0, -30.0)  # LUFS, LibriMix
PEAK = 0.9  # of full scale, as in WSJ0-2mix and LibriMix
PAUSE_DB = -40.0  # of the level drawn: a source below is a pause, there is nothing to separate


def rms_db(audio: np.ndarray) -> float:
    """RMS level of a signal in dBFS; minus infinity for digital silence.

    Example
    -------
    >>> rms_db(np.full(4, 0.1))
    -20.0
    """
    power = np.einsum("t,t->", audio, audio) / len(audio)
    return 10 * math.log10(power) if power else -math.inf


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """Loudness of a signal in LUFS (ITU-R BS.1770), as LibriMix measures it.

    Arguments
    ---------
    audio : np.ndarray [T]
    sample_rate : int
        Hz.

    Returns
    -------
    float
        Minus infinity for silence, and for less than the 0.4 s that the measure is made of.
    """
    meter = pyloudnorm.Meter(sample_rate)
    if len(audio) < meter.block_size * sample_rate:
        return -np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(meter.integrated_loudness(audio))


def draw_levels_db(rng: np.random.Generator, num_spks: int, measure: str = "rms") -> np.ndarray:
    """Draw the level of each source of a mixture.

    Arguments
    ---------
    rng : np.random.Generator
    num_spks : int
    measure : str
        "rms", "active" or "lufs".

    Returns
    -------
    np.ndarray [num_spks]
        In dB of the measure.
    """
    if measure == "active":
        gain = rng.uniform(0, GAIN_DB)
        return np.array([gain, -gain, *[0.0] * num_spks])[:num_spks]
    low, high = LOUDNESS if measure == "lufs" else (LEVEL_DB - GAIN_DB, LEVEL_DB + GAIN_DB)
    return rng.uniform(low, high, num_spks)


def draw_noise_db(rng: np.random.Generator) -> float:
    """Draw the loudness of LibriMix's noise under a mixture, in LUFS."""
    return rng.uniform(*NOISE_LOUDNESS)


def from_db(gain_db: float) -> float:
    """Factor of a gain in dB.

    Example
    -------
    >>> from_db(-20.0)
    0.1
    """
    return float(10 ** (gain_db / 20))


def peak_scale(mixture: np.ndarray, sources: np.ndarray) -> float:
    """Factor that keeps mixture and sources within ``PEAK``; 1 where they are.

    Arguments
    ---------
    mixture : np.ndarray [T]
    sources : np.ndarray [T, C] or [C, T]

    Returns
    -------
    float

    Example
    -------
    >>> peak_scale(np.array([1.8, 0.1]), np.array([[0.9, 0.9], [0.1, 0.0]]))
    0.5
    """
    peak = max(mixture.max(), -mixture.min(), sources.max(), -sources.min())
    return float(PEAK / max(peak, PEAK))
