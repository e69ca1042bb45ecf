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

    Arguments
    ---------
    estimates, sources : torch.Tensor
        [B, T, C].
    lengths : torch.Tensor, optional
        Length of each item as a share of T, [B]; what lies beyond does not count.

    Returns
    -------
    torch.Tensor
        dB, [B, estimate, source].

    Example
    -------
    >>> sources = torch.randn(1, 800, 2)
    >>> (pairwise_si_snr(3 * sources.flip(2), sources) > 60).squeeze()
    tensor([[False,  True],
            [ True, False]])
    """
    mask = valid_mask(estimates, lengths)  # [B, T, 1]
    estimates = _zero_mean(estimates, mask).unsqueeze(3)  # [B, T, C, 1]
    sources = _zero_mean(sources, mask).unsqueeze(2)  # [B, T, 1, C]
    product = (estimates * sources).sum(1, keepdim=True)  # [B, 1, C, C]
    target = product * sources / (sources.square().sum(1, keepdim=True) + EPS)  # [B, T, C, C]
    noise = estimates - target
    return 10 * torch.log10((target.square().sum(1) + EPS) / (noise.square().sum(1) + EPS))


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
    """Return the power of `x` [B, T, C] over the samples that each item has: [B, C]."""
    mask = valid_mask(x, lengths)  # [B, T, 1]
    return (x * mask).square().sum(1) / mask.sum(1)


def valid_mask(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return 1 where an item of `x` [B, T, C] has samples, 0 beyond its length: [B, T, 1]."""
    batch, num_samples = x.shape[:2]
    if lengths is None:
        return x.new_ones(batch, num_samples, 1)
    # ceil, as resampling makes ceil(T * new / old) samples; the margin forgives rounding of a share
    valid = (lengths * num_samples - 1e-3).ceil()
    return length_to_mask(valid, num_samples, dtype=x.dtype).unsqueeze(2)  # [B, T, 1]


def _zero_mean(x: Tensor, mask: Tensor) -> Tensor:
    mean = (x * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return (x - mean) * mask
