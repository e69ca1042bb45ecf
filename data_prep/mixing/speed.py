"""Speed perturbation by a small set of speeds, the filters of each made once."""

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy.signal import firwin

from sfsrnet_modules.common.crops import num_resampled

STEPS = 40  # to 1: neighbouring speeds are 0.4 semitones apart, and filters stay short
HALF_FILTER = 10  # periods of the lower rate, as `resample_poly` has it
AT_ONCE = 50  # blocks of a product: small enough for BLAS to stay on one thread, and in the cache


def speeds(lowest: float, highest: float) -> list[Fraction]:
    """List the speeds of a range: the multiples of 1 / ``STEPS`` in it.

    Raises
    ------
    ValueError
        There is none, or one below 0.5.

    Example
    -------
    >>> [float(speed) for speed in speeds(0.95, 1.05)]
    [0.95, 0.975, 1.0, 1.025, 1.05]
    """
    first, last = math.ceil(lowest * STEPS - 1e-6), math.floor(highest * STEPS + 1e-6)
    if not STEPS // 2 <= first <= last:  # slower ones would need inputs of three rows, see below
        raise ValueError(
            f"speed is [{lowest}, {highest}]: set it to two multiples of {1 / STEPS}, "
            "the lower one first and at least 0.5, or to null"
        )
    return [Fraction(step, STEPS) for step in range(first, last + 1)]


def change_speed(audio: np.ndarray, speed: Fraction) -> np.ndarray:
    """Resample a recording so that it is spoken faster and higher by a factor.

    The samples of ``scipy.signal.resample_poly``, by a matrix product, which takes far less time.

    Arguments
    ---------
    audio : np.ndarray [T]
        float32.
    speed : Fraction
        One of ``speeds``.

    Returns
    -------
    np.ndarray [ceil(T / speed)]
        float32.

    Example
    -------
    >>> change_speed(np.ones(2000, np.float32), Fraction(11, 10)).shape
    (1819,)
    """
    if speed == 1:
        return audio
    filters, hop, reach = _filters(speed)  # [P + 2R, Q], P, R
    num_samples = num_resampled(len(audio), speed)
    num_blocks = AT_ONCE * math.ceil(num_samples / (STEPS * AT_ONCE))
    padded = np.zeros((num_blocks + 1) * hop, np.float32)
    padded[reach : reach + len(audio)] = audio
    rows = padded.reshape(-1, hop)  # [B + 1, P]
    blocks = np.concatenate([rows[:-1], rows[1:, : 2 * reach]], axis=1)  # [B, P + 2R]
    resampled = blocks.reshape(-1, AT_ONCE, len(filters)) @ filters  # [B / 50, 50, Q]
    return resampled.reshape(-1)[:num_samples]  # [T']


@lru_cache
def _filters(speed: Fraction) -> tuple[np.ndarray, int, int]:
    """Filters by which P inputs and R on either side make Q = ``STEPS`` outputs; P and R."""
    hop = int(speed * STEPS)
    highest = max(hop, STEPS)
    taps = STEPS * firwin(2 * HALF_FILTER * highest + 1, 1 / highest, window=("kaiser", 5.0))
    reach = math.ceil(HALF_FILTER * highest / STEPS)  # inputs that a filter sees on either side
    inputs = np.arange(-reach, hop + reach)[:, None]
    tap = len(taps) // 2 + np.arange(STEPS) * hop - inputs * STEPS  # [P + 2R, Q]
    filters = np.where((tap >= 0) & (tap < len(taps)), taps.take(tap, mode="clip"), 0)
    return filters.astype(np.float32), hop, reach
