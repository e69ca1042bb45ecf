"""The one resampler: whole signals, streams, and how much a crop needs around it.

Its filter is that of ``scipy.signal.resample_poly``, with which WSJ0-2mix and LibriMix were made.
"""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from scipy.signal import firwin, resample_poly

HALF_FILTER = 10  # periods of the lower rate that the filter sees to each side


def resample(signal: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample a whole signal.

    Arguments
    ---------
    signal : np.ndarray
        [T] or [T, C].
    from_rate : int
        Its rate in Hz.
    to_rate : int
        Wanted rate in Hz.

    Returns
    -------
    np.ndarray
        [T'] or [T', C], ceil(T * to / from) samples.

    Example
    -------
    >>> len(resample(np.zeros(3000, np.float32), 44100, 8000))
    545
    """
    up, down = _ratio(from_rate, to_rate)
    return signal if up == down else resample_poly(signal, up, down, window=low_pass(up, down))


def resample_blocks(
    blocks: Iterable[np.ndarray], from_rate: int, to_rate: int
) -> Iterator[np.ndarray]:
    """Resample a stream of any length in constant memory.

    Arguments
    ---------
    blocks : iterable of np.ndarray
        [T] or [T, C] each, of any length.
    from_rate : int
        Rate of the blocks in Hz.
    to_rate : int
        Wanted rate in Hz.

    Yields
    ------
    np.ndarray
        [T'] or [T', C]. Joined they are the very samples of the resampled joined blocks.

    Example
    -------
    >>> blocks = [np.zeros((1000, 1), np.float32)] * 3
    >>> sum(len(block) for block in resample_blocks(blocks, 44100, 8000))
    545
    """
    up, down = _ratio(from_rate, to_rate)
    if up == down:
        yield from blocks
        return
    margin = -(-reach(from_rate, to_rate) // down) * down
    held, start = None, 0  # frames not done with, of which `start` are only seen by the filter
    for block in blocks:
        held = block if held is None else np.concatenate([held, block])
        ready = (len(held) - margin) // down * down  # a multiple of `down` starts at a sample
        if ready > start:
            yield resample(held, down, up)[start // down * up : ready // down * up]
            done_with = max(0, ready - margin)
            held, start = held[done_with:], ready - done_with
    if held is not None:
        yield resample(held, down, up)[start // down * up :]


def reach(from_rate: int, to_rate: int) -> int:
    """Frames that the filter sees before and after the one where a sample lies."""
    return math.ceil(HALF_FILTER * max(from_rate / to_rate, 1))


def _ratio(from_rate: int, to_rate: int) -> tuple[int, int]:
    common = math.gcd(from_rate, to_rate)
    return to_rate // common, from_rate // common


@lru_cache(maxsize=64)
def low_pass(up: int, down: int) -> np.ndarray:
    """`resample_poly`'s own filter, which takes as long to design as to apply."""
    highest = max(up, down)
    taps = firwin(2 * HALF_FILTER * highest + 1, 1 / highest, window=("kaiser", 5.0))
    return taps.astype(np.float32)
