"""What a test is scored by: SI-SNR, SDR and their improvements over the mixture, in dB."""

from torch import Tensor
from torchmetrics.functional.audio import signal_distortion_ratio

from sfsrnet_modules.losses import best_order, pairwise_si_snr, reorder


def score(mixture: Tensor, sources: Tensor, estimate: Tensor) -> dict[str, float]:
    """Score one separated item, mean over its sources.

    Arguments
    ---------
    mixture : torch.Tensor
        [T].
    sources : torch.Tensor
        [T, C].
    estimate : torch.Tensor
        [T, C], in any order: the one with the best SI-SNR counts.

    Returns
    -------
    dict
        "si_snr", "si_snr_i", "sdr", "sdr_i" in dB; "_i" is the improvement over taking the mixture
        itself for every source. SDR is that of BSS-eval, with a distortion filter of 512 taps.

    Example
    -------
    >>> sources = torch.randn(8000, 2)
    >>> scores = score(sources.sum(1), sources, sources.flip(1) + 0.1 * torch.randn(8000, 2))
    >>> {name: round(value) for name, value in scores.items()}
    {'si_snr': 20, 'si_snr_i': 20, 'sdr': 20, 'sdr_i': 20}
    """
    unprocessed = mixture.unsqueeze(1).expand_as(sources)  # [T, C]
    estimate = in_order(sources, estimate)
    si_snr, si_snr_before = (_si_snr(x, sources) for x in (estimate, unprocessed))
    sdr, sdr_before = (_sdr(x, sources) for x in (estimate, unprocessed))
    return {
        "si_snr": si_snr,
        "si_snr_i": si_snr - si_snr_before,
        "sdr": sdr,
        "sdr_i": sdr - sdr_before,
    }


def in_order(sources: Tensor, estimate: Tensor) -> Tensor:
    """Bring `estimate` [T, C] into the order of `sources` [T, C]."""
    scores = pairwise_si_snr(estimate[None], sources[None])  # [1, C, C]
    return reorder(estimate[None], best_order(scores))[0]


def _si_snr(estimate: Tensor, sources: Tensor) -> float:
    pairs = pairwise_si_snr(estimate[None], sources[None])[0]  # [C, C]
    return pairs.diagonal().mean().item()


def _sdr(estimate: Tensor, sources: Tensor) -> float:
    # double precision: the 512-tap system of speech is badly conditioned
    return signal_distortion_ratio(estimate.double().mT, sources.double().mT).mean().item()


def si_snr_i(mixture: Tensor, sources: Tensor, estimate: Tensor) -> float:
    """SI-SNR improvement alone, in dB; arguments as of :func:`score`."""
    unprocessed = mixture.unsqueeze(1).expand_as(sources)  # [T, C]
    return _si_snr(in_order(sources, estimate), sources) - _si_snr(unprocessed, sources)
