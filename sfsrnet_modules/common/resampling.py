"""Resamples a stream: block by block, with the very samples that the whole would give."""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from scipy.signal import firwin, resample_poly

HALF_FILTER = 10  # periods of the lower rate, as scipy's `resample_poly` has it


def resample_blocks(
    blocks: Iterable[np.ndarray], from_rate: int, to_rate: int
) -> Iterator[np.ndarray]:
    """Resample a stream of any length in constant memory.

    The filter is that of ``scipy.signal.resample_poly``, with which training data are read too.

    Arguments
    ---------
    blocks : iterable of np.ndarray
        [T, C] each, of any length.
    from_rate : int
        Rate of the blocks in Hz.
    to_rate : int
        Wanted rate in Hz.

    Yields
    ------
    np.ndarray
        [T', C], float32. Joined they are the resampled joined blocks, ceil(T * to / from) samples.

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
    window = _low_pass(up, down)
    margin = _round_up(math.ceil(HALF_FILTER * max(up, down) / up), down)  # what the filter sees
    held, start = None, 0  # frames not done with, of which `start` are only seen by the filter
    for block in blocks:
        held = block if held is None else np.concatenate([held, block])
        ready = (len(held) - margin) // down * down  # a multiple of `down` starts at a sample
        if ready > start:
            yield resample_poly(held, up, down, window=window)[_span(start, ready, up, down)]
            done_with = max(0, ready - margin)
            held, start = held[done_with:], ready - done_with
    if held is not None:
        yield resample_poly(held, up, down, window=window)[_span(start, None, up, down)]


def _ratio(from_rate: int, to_rate: int) -> tuple[int, int]:
    common = math.gcd(from_rate, to_rate)
    return to_rate // common, from_rate // common


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _span(start: int, stop: int | None, up: int, down: int) -> slice:
    """Samples that lie at frames `start` to `stop`, both multiples of `down`."""
    return slice(start // down * up, None if stop is None else stop // down * up)


@lru_cache(maxsize=4)
def _low_pass(up: int, down: int) -> np.ndarray:
    """`resample_poly`'s own filter, which would be designed anew for each block."""
    highest = max(up, down)
    taps = firwin(2 * HALF_FILTER * highest + 1, 1 / highest, window=("kaiser", 5.0))
    return taps.astype(np.float32)
