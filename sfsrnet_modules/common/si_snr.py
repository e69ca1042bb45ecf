"""Scale-invariant signal-to-noise ratio (SI-SNR), of every pair and under the best order.

B batch, T samples, C sources; the source axis comes last, as in SpeechBrain.
"""

import torch
from speechbrain.dataio.dataio import length_to_mask
from torch import Tensor

from sfsrnet_modules.common.permutation import best_order

EPS = 1e-8  # on powers: SI-SNR of silence is finite, about -80 dB
SILENT = 1e-6  # of the loudest source's power, -60 dB: nobody hears it beside that one


def pairwise_si_snr(estimates: Tensor, sources: Tensor, lengths: Tensor | None = None) -> Tensor:
    """SI-SNR of every estimate against every source.

    From inner products, so that nothing of the signals' size is made for each pair. In float32 they
    bear up to some 50 dB; who wants more gives float64.

    Arguments
    ---------
    estimates : torch.Tensor
        [..., B, T, C]; what comes before are estimates of the same sources.
    sources : torch.Tensor
        [B, T, C].
    lengths : torch.Tensor, optional
        Length of each item as a share of T, [B]; what lies beyond does not count.

    Returns
    -------
    torch.Tensor
        dB, [..., B, estimate, source].

    Example
    -------
    >>> sources = torch.randn(1, 800, 2).double()
    >>> (pairwise_si_snr(3 * sources.flip(2), sources) > 60).squeeze()
    tensor([[False,  True],
            [ True, False]])
    """
    mask = valid_mask(sources, lengths)  # [B, T, 1]
    estimates = _zero_mean(estimates, mask)  # [..., B, T, C]
    sources = _zero_mean(sources, mask)  # [B, T, C]
    power = estimates.square().sum(-2).unsqueeze(-1)  # [..., B, C, 1]
    product = estimates.mT @ sources  # [..., B, C, C]
    target = product.square() / (sources.square().sum(1).unsqueeze(1) + EPS)  # [..., B, C, C]
    noise = (power - target).clamp_min(0)
    return 10 * torch.log10((target + EPS) / (noise + EPS))


def pit_si_snr(estimates: Tensor, sources: Tensor, lengths: Tensor | None = None) -> Tensor:
    """SI-SNR under the best order of the estimates, mean over sources: dB, [B]."""
    scores = pairwise_si_snr(estimates, sources, lengths)  # [B, C, C]
    return scores.gather(1, best_order(scores).unsqueeze(1)).mean((1, 2))


def silent_sources(sources: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return which of the `sources` [B, T, C] are silent, beside the loudest or all: [B, C].

    Example
    -------
    >>> silent_sources(torch.ones(1, 800, 3) * torch.tensor([1.0, 1e-4, 0.0]))
    tensor([[False,  True,  True]])
    """
    power = mean_square(sources, lengths)  # [B, C]
    return power <= SILENT * power.amax(1, keepdim=True)


def mean_square(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return the power of `x` [..., B, T, C] over the samples that each item has: [..., B, C]."""
    mask = valid_mask(x, lengths)  # [B, T, 1]
    return (x * mask).square().sum(-2) / mask.sum(1)


def valid_mask(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return 1 where an item of `x` [..., B, T, C] has samples, 0 beyond its length: [B, T, 1]."""
    batch, num_samples = x.shape[-3:-1]
    if lengths is None:
        return x.new_ones(batch, num_samples, 1)
    # ceil, as resampling makes ceil(T * new / old) samples; the margin forgives rounding of a share
    valid = (lengths * num_samples - 1e-3).ceil()
    return length_to_mask(valid, num_samples, dtype=x.dtype).unsqueeze(2)  # [B, T, 1]


def _zero_mean(x: Tensor, mask: Tensor) -> Tensor:
    mean = (x * mask).sum(-2, keepdim=True) / mask.sum(1, keepdim=True)
    return (x - mean) * mask
