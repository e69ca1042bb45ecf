"""Speed perturbation by a small set of speeds, the filters of each made once."""

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from scipy.signal import firwin

from sfsrnet_modules.common.crops import num_resampled

STEPS = 40  # to 1: neighbouring speeds are 0.4 semitones apart, and filters stay short
HALF_FILTER = 10  # periods of the lower rate, as `resample_poly` has it


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
    first, second, reach = _filters(speed)  # [P, Q], [2R, Q], R
    hop, num_out = first.shape
    num_samples = num_resampled(len(audio), speed)
    num_blocks = -(-num_samples // num_out)
    padded = np.zeros((num_blocks + 1) * hop, np.float32)
    padded[reach : reach + len(audio)] = audio
    # By torch, which takes one thread in a worker; numpy's product would take all cores.
    rows = torch.from_numpy(padded).view(num_blocks + 1, hop)  # [B + 1, P]
    blocks = rows[:-1] @ first  # [B, Q]
    blocks.addmm_(rows[1:, : 2 * reach], second)
    return blocks.view(-1)[:num_samples].numpy()  # [T']


@lru_cache
def _filters(speed: Fraction) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Filters by which P inputs and the 2 R around them make Q = ``STEPS`` outputs.

    As columns: their taps on P inputs, and on the next 2 R.
    """
    hop = int(speed * STEPS)
    highest = max(hop, STEPS)
    taps = STEPS * firwin(2 * HALF_FILTER * highest + 1, 1 / highest, window=("kaiser", 5.0))
    reach = math.ceil(HALF_FILTER * highest / STEPS)  # inputs that a filter sees on either side
    inputs = np.arange(-reach, hop + reach)[:, None]
    tap = len(taps) // 2 + np.arange(STEPS) * hop - inputs * STEPS  # [P + 2R, Q]
    filters = np.where((tap >= 0) & (tap < len(taps)), taps.take(tap, mode="clip"), 0)
    first, second = torch.from_numpy(filters.astype(np.float32)).split([hop, 2 * reach])
    return first, second, reach
