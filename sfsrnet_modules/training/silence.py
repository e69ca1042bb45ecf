"""How estimates are scored in training: SI-SNR, and SNR where a source is silent.

B batch, T samples, C sources; the source axis comes last, as in SpeechBrain.
"""

import torch
from torch import Tensor

from sfsrnet_modules.common.si_snr import mean_square, pairwise_si_snr, silent_sources, valid_mask

THRESHOLD = 1e-3  # -30 dB: an error or a leak below it pulls no more (Wisdom et al., NeurIPS 2020)
FLOOR = 1e-8  # mean square, -80 dBFS: silence as a mixture gives a finite score


def scale_of(
    estimates: Tensor,
    sources: Tensor,
    lengths: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the gain, common to the batch, that brings the sum of the voices nearest to the truth.

    SI-SNR leaves a model's scale open, and so does this: what counts is how the levels of voices
    and silence stand to one another, within an item and between items.

    Arguments
    ---------
    estimates : torch.Tensor
        [..., B, T, C]; what comes before are estimates of the same sources.
    sources : torch.Tensor
        [B, T, C].
    lengths : torch.Tensor, optional
        Length of each item as a share of T, [B].
    weights : torch.Tensor, optional
        How much each item counts, [B].

    Returns
    -------
    torch.Tensor
        [...].

    Example
    -------
    >>> sources = torch.randn(4, 800, 2)
    >>> scale_of(10 * sources, sources)
    tensor(0.1000)
    """
    mask = valid_mask(sources, lengths)  # [B, T, 1]
    if weights is not None:
        mask = mask * weights[:, None, None]
    total, truth = estimates.sum(-1), sources.sum(-1)  # [..., B, T], [B, T]
    weighted = total * mask.squeeze(2)  # [..., B, T]
    return (weighted * truth).sum((-2, -1)) / ((weighted * total).sum((-2, -1)) + FLOOR)


def pairwise_scores(
    estimates: Tensor,
    sources: Tensor,
    mixture_power: Tensor,
    lengths: Tensor | None = None,
    scale: Tensor | float = 1.0,
) -> Tensor:
    """Score every estimate against every source.

    Where all sources speak it is SI-SNR. That is undefined for silence, and leaves the level of an
    estimate open, so that nothing would say how soft silence has to be. An item with a silent
    source is scored by thresholded SNR: ``-10 log10(|g e - s|^2 / r + 0.001)`` of estimate e and
    source s, with the scale g, and r the power of the source, or of the mixture where the source is
    silent.

    Arguments
    ---------
    estimates : torch.Tensor
        [..., B, T, C]; what comes before are estimates of the same sources.
    sources : torch.Tensor
        [B, T, C].
    mixture_power : torch.Tensor
        Mean square of the mixtures, [B].
    lengths : torch.Tensor, optional
        Length of each item as a share of T, [B]; what lies beyond does not count.
    scale : torch.Tensor or float
        Of :func:`scale_of`, [...]; in SNR alone.

    Returns
    -------
    torch.Tensor
        dB, [..., B, estimate, source].

    Example
    -------
    >>> voice = torch.randn(1, 800, 1)
    >>> sources = torch.cat([voice, torch.zeros_like(voice)], dim=2)
    >>> estimates = torch.cat([voice, 0.2 * voice], dim=2)
    >>> pairwise_scores(estimates, sources, voice.square().mean((1, 2))).round(decimals=1)
    tensor([[[30.0000, -0.0000],
             [ 1.9000, 13.9000]]])
    """
    silent = silent_sources(sources, lengths)  # [B, C]
    mask = valid_mask(sources, lengths)  # [B, T, 1]
    scale = torch.as_tensor(scale)[..., None, None, None]  # [..., 1, 1, 1]
    product = scale * (estimates * mask).mT @ sources / mask.sum(1, keepdim=True)  # [..., B, C, C]
    power = mean_square(sources, lengths)  # [B, C]
    error = scale**2 * mean_square(estimates, lengths).unsqueeze(-1)  # [..., B, C, 1]
    error = error - 2 * product + power.unsqueeze(1)  # [..., B, C, C]
    reference = torch.where(silent, mixture_power.unsqueeze(1), power).clamp_min(FLOOR)  # [B, C]
    snr = -10 * torch.log10(error.clamp_min(0) / reference.unsqueeze(1) + THRESHOLD)
    level_counts = silent.any(1)[:, None, None]  # [B, 1, 1]
    return torch.where(level_counts, snr, pairwise_si_snr(estimates, sources, lengths))
