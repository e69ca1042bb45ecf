"""What a test item with silent sources is scored by: the voices, and what leaks beside them."""

import torch
from torch import Tensor

from sfsrnet_modules.common.permutation import best_order, reorder
from sfsrnet_modules.common.si_snr import pairwise_si_snr, silent_sources

FLOOR = 1e-10  # -100 dB: perfect silence leaks a finite number


def has_silence(sources: Tensor) -> bool:
    """Whether any of the `sources` [T, C] is silent."""
    return bool(silent_sources(sources[None]).any())


def score_silence(mixture: Tensor, sources: Tensor, estimate: Tensor) -> dict[str, float]:
    """Score an item in which not all sources speak.

    Arguments
    ---------
    mixture : torch.Tensor
        [T].
    sources, estimate : torch.Tensor
        [T, C]; the estimate in any order.

    Returns
    -------
    dict
        "voice_si_snr", in dB, mean over the sources that speak, NaN where none does; "leak", the
        energy of the estimates of silence in dB over that of the voices' estimates, or over the
        mixture where nobody speaks.

    Example
    -------
    >>> voice = torch.randn(8000, 1)
    >>> sources = torch.cat([voice, torch.zeros_like(voice)], dim=1)
    >>> estimate = torch.cat([0.1 * torch.randn(8000, 1), voice], dim=1)
    >>> scores = score_silence(voice[:, 0], sources, estimate)
    >>> round(scores["leak"])
    -20
    """
    silent = silent_sources(sources[None])[0]  # [C]
    scores = pairwise_si_snr(estimate[None], sources[None])  # [1, C, C]
    order = best_order(scores.masked_fill(silent, 0.0))  # the voices choose, the rest is silence
    estimate = reorder(estimate[None], order)[0]  # [T, C]
    si_snr = pairwise_si_snr(estimate[None], sources[None])[0].diagonal()  # [C]
    heard = mixture if silent.all() else estimate[:, ~silent]
    share = estimate[:, silent].square().sum() / heard.square().sum().clamp_min(FLOOR)
    return {
        "voice_si_snr": si_snr[~silent].mean().item(),
        "leak": 10 * torch.log10(share + FLOOR).item(),
    }
