"""How estimates are scored in training: SI-SNR, and SNR where a source is silent.

B batch, T samples, C sources; the source axis comes last, as in SpeechBrain.
"""

import torch
from torch import Tensor

from sfsrnet_modules.common.si_snr import mean_square, pairwise_si_snr, silent_sources, valid_mask

THRESHOLD = 1e-3  # -30 dB: an error or a leak below it pulls no more (Wisdom et al., NeurIPS 2020)
FLOOR = 1e-8  # mean square, -80 dBFS: silence as a mixture gives a finite score


def pairwise_scores(
    estimates: Tensor, sources: Tensor, mixture_power: Tensor, lengths: Tensor | None = None
) -> Tensor:
    """Score every estimate against every source.

    Where all sources speak it is SI-SNR. That is undefined for silence, and leaves the level of an
    estimate open, so that nothing would say how soft silence has to be. An item with a silent
    source is scored by thresholded SNR: ``-10 log10(|e - s|^2 / r + 0.001)`` of estimate e and
    source s, with r the power of the source, or of the mixture where the source is silent.

    Arguments
    ---------
    estimates, sources : torch.Tensor
        [B, T, C].
    mixture_power : torch.Tensor
        Mean square of the mixtures, [B].
    lengths : torch.Tensor, optional
        Length of each item as a share of T, [B]; what lies beyond does not count.

    Returns
    -------
    torch.Tensor
        dB, [B, estimate, source].

    Example
    -------
    >>> voice = torch.randn(1, 800, 1)
    >>> sources = torch.cat([voice, torch.zeros_like(voice)], dim=2)
    >>> estimates = torch.cat([voice, 0.1 * voice], dim=2)
    >>> pairwise_scores(estimates, sources, voice.square().mean((1, 2))).round(decimals=1)
    tensor([[[30.0000,  0.0000],
             [ 0.9000, 19.6000]]])
    """
    silent = silent_sources(sources, lengths)  # [B, C]
    mask = valid_mask(sources, lengths)  # [B, T, 1]
    product = (estimates * mask).mT @ sources / mask.sum(1, keepdim=True)  # [B, C, C]
    power = mean_square(sources, lengths)  # [B, C]
    error = mean_square(estimates, lengths).unsqueeze(2) - 2 * product + power.unsqueeze(1)
    reference = torch.where(silent, mixture_power.unsqueeze(1), power).clamp_min(FLOOR)  # [B, C]
    snr = -10 * torch.log10(error.clamp_min(0) / reference.unsqueeze(1) + THRESHOLD)
    level_counts = silent.any(1)[:, None, None]  # [B, 1, 1]
    return torch.where(level_counts, snr, pairwise_si_snr(estimates, sources, lengths))
