"""Separates twice and averages, which is better and takes twice the time.

A model's errors hang on the sign of the waveform and on where frames and chunks begin, its voices
do not. Found by measure, not in the paper: ``benchmarks/README.md``.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from sfsrnet_modules.common.mixture_level import at_mixture_level
from sfsrnet_modules.common.permutation import best_order, reorder
from sfsrnet_modules.common.si_snr import pairwise_si_snr

SHIFT = 0.025  # s: where a frame begins, or a chunk, is elsewhere then


def separate_twice(
    separate: Callable[[Tensor], Tensor],
    mixture: Tensor,
    rate: int,
    audible: Callable[[Tensor], Tensor] = lambda mixture: mixture,
) -> Tensor:
    """Average the voices of `mixture` and those of its negative, which begins a little later.

    Arguments
    ---------
    separate : callable
        Mixture [B, T] to voices [B, T, C], in any order and of any scale.
    mixture : torch.Tensor
        [B, T].
    rate : int
        Hz.
    audible : callable
        Mixture [B, T] to what voices can add up to, [B, T], by which they are levelled.

    Returns
    -------
    torch.Tensor
        [B, T, C], in the order of the first time, at their levels in the mixture.

    Example
    -------
    >>> halves = lambda mixture: torch.stack([mixture.clamp_min(0), mixture.clamp_max(0)], dim=2)
    >>> mixture = torch.randn(1, 800)
    >>> torch.allclose(separate_twice(halves, mixture, 8000), halves(mixture), atol=1e-4)
    True
    """
    shift = round(SHIFT * rate)
    first = separate(mixture)  # [B, T, C]
    second = -separate(-F.pad(mixture, (shift, 0)))[:, shift:]
    level = audible(mixture)
    first, second = (at_mixture_level(voices.float(), level) for voices in (first, second))
    order = best_order(pairwise_si_snr(second, first))
    return (first + reorder(second, order)) / 2
