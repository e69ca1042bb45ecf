"""What a test is scored by: SI-SNR, SDR, PESQ and STOI, as a whole and band by band."""

import warnings
from importlib.util import find_spec

import torch
from torch import Tensor
from torchmetrics.functional.audio import signal_distortion_ratio
from torchmetrics.functional.audio.pesq import perceptual_evaluation_speech_quality
from torchmetrics.functional.audio.stoi import short_time_objective_intelligibility

from sfsrnet_modules.common.permutation import best_order, reorder
from sfsrnet_modules.common.si_snr import pairwise_si_snr

MAX_SDR = 100.0  # dB, either way
DIAGONAL = 1e-12  # of a unit: keeps silence solvable; too little to show in the SDR of speech
PESQ_MODES = {8000: "nb", 16000: "wb"}  # Hz: those that PESQ is defined for
PESQ_LONGEST = 30.0  # s; of more than 50 utterances its C code runs over, which ends the process
BAND = 1000  # Hz


def score(mixture: Tensor, sources: Tensor, estimate: Tensor) -> dict[str, float]:
    """Score one separated item, mean over its sources; arguments as of :func:`score_all`.

    Example
    -------
    >>> sources = torch.randn(8000, 2)
    >>> scores = score(sources.sum(1), sources, sources.flip(1) + 0.1 * torch.randn(8000, 2))
    >>> {name: round(value) for name, value in scores.items()}
    {'si_snr': 20, 'si_snr_i': 20, 'sdr': 20, 'sdr_i': 20}
    """
    return score_all(mixture, sources, estimate[None])[0]


def score_all(mixture: Tensor, sources: Tensor, estimates: Tensor) -> list[dict[str, float]]:
    """Score several estimates of one item, each as the mean over its sources.

    Arguments
    ---------
    mixture : torch.Tensor
        [T].
    sources : torch.Tensor
        [T, C].
    estimates : torch.Tensor
        [E, T, C], each in any order: the one with the best SI-SNR counts.

    Returns
    -------
    list of dict
        "si_snr", "si_snr_i", "sdr", "sdr_i" of each estimate, in dB; "_i" is the improvement over
        taking the mixture itself for every source. SDR is that of BSS-eval.
    """
    unprocessed = mixture[None, :, None].expand(1, *sources.shape)  # [1, T, C]
    both = torch.cat([in_order(sources, estimates), unprocessed])  # [E + 1, T, C]
    si_snr, sdr = si_snrs(both, sources), sdrs(both, sources)  # [E + 1, C]
    values = {"si_snr": si_snr.mean(1).tolist(), "sdr": sdr.mean(1).tolist()}
    rows = []
    for i in range(len(estimates)):
        row = {}
        for name, (*scores, before) in values.items():
            row |= {name: scores[i], f"{name}_i": scores[i] - before}
        rows.append(row)
    return rows


def in_order(sources: Tensor, estimate: Tensor) -> Tensor:
    """Bring `estimate`, [T, C] or [E, T, C], into the order of `sources` [T, C]."""
    estimates = estimate if estimate.dim() == 3 else estimate[None]  # [E, T, C]
    scores = pairwise_si_snr(estimates, sources.expand_as(estimates))  # [E, C, C]
    return reorder(estimates, best_order(scores)).view_as(estimate)


def si_snrs(estimates: Tensor, sources: Tensor) -> Tensor:
    """SI-SNR of `estimates` [E, T, C] against `sources` [T, C] in the same order: dB, [E, C]."""
    estimates, sources = estimates.double(), sources.double()  # bears any number of dB
    return pairwise_si_snr(estimates, sources.expand_as(estimates)).diagonal(dim1=1, dim2=2)


def si_snr_i(mixture: Tensor, sources: Tensor, estimate: Tensor) -> float:
    """SI-SNR improvement alone, in dB; arguments as of :func:`score`."""
    unprocessed = mixture.unsqueeze(1).expand_as(sources)  # [T, C]
    both = torch.stack([in_order(sources, estimate), unprocessed])  # [2, T, C]
    after, before = si_snrs(both, sources).mean(1).tolist()
    return after - before


def sdrs(estimates: Tensor, sources: Tensor) -> Tensor:
    """SDR of BSS-eval (Vincent et al., 2006), where a filter of 512 taps is no distortion.

    Arguments
    ---------
    estimates : torch.Tensor
        [E, T, C].
    sources : torch.Tensor
        [T, C], in the same order.

    Returns
    -------
    torch.Tensor
        dB, [E, C], within 100 dB: -100 where source or estimate is silent.
    """
    # double precision: the system of equations of speech is badly conditioned
    estimates, sources = estimates.double().mT, sources.double().mT  # [E, C, T], [C, T]
    # one at a time: batches of such systems fail in MKL on several threads (PyTorch 2.13, AMD)
    pairs = zip(estimates.flatten(0, 1), sources.repeat(len(estimates), 1), strict=True)
    sdr = torch.stack([signal_distortion_ratio(*pair, load_diag=DIAGONAL) for pair in pairs])
    sdr = sdr.nan_to_num(nan=MAX_SDR).clamp(-MAX_SDR, MAX_SDR)  # NaN: all is explained
    return sdr.view(estimates.shape[:2])  # [E, C]


def perceptual_measures(sample_rate: int) -> tuple[str, ...]:
    """Which of "pesq" and "stoi" can be had: their packages are extras, PESQ knows two rates."""
    names = ["pesq"] if find_spec("pesq") and sample_rate in PESQ_MODES else []
    return (*names, "stoi") if find_spec("pystoi") else tuple(names)


def perceptual(measure: str, estimate: Tensor, sources: Tensor, sample_rate: int) -> float:
    """PESQ or STOI of `estimate` [T, C], mean over `sources` [T, C]; NaN where it is undefined."""
    estimate, sources = estimate.mT, sources.mT  # [C, T]
    if measure == "stoi":
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
                scores = short_time_objective_intelligibility(estimate, sources, sample_rate)
        except RuntimeWarning:  # less than 0.4 s of speech
            return float("nan")
    else:
        import pesq  # an extra

        if estimate.shape[-1] > PESQ_LONGEST * sample_rate:
            return float("nan")
        try:
            mode = PESQ_MODES[sample_rate]
            scores = perceptual_evaluation_speech_quality(estimate, sources, sample_rate, mode)
        except pesq.PesqError:  # silence, or less than a quarter of a second
            return float("nan")
    return scores.double().mean().item()


def band_si_snr_i(
    mixture: Tensor, sources: Tensor, estimate: Tensor, sample_rate: int
) -> dict[str, float]:
    """SI-SNR improvement in each band of 1 kHz, mean over sources; arguments as of :func:`score`.

    Returns
    -------
    dict
        "band_0_1khz" and so on, in dB. The order of the estimates is that of the whole band.
    """
    unprocessed = mixture.unsqueeze(1).expand_as(sources)  # [T, C]
    both = torch.stack([in_order(sources, estimate), unprocessed, sources])  # [3, T, C]
    spectrum = torch.fft.rfft(both.double(), dim=1)  # [3, F, C]
    frequencies = torch.fft.rfftfreq(both.shape[1], 1 / sample_rate)  # [F]
    gains = {}
    for low in range(0, sample_rate // 2, BAND):
        inside = (frequencies >= low) & (frequencies < low + BAND)
        band = torch.fft.irfft(spectrum * inside.unsqueeze(1), both.shape[1], dim=1)  # [3, T, C]
        after, before = si_snrs(band[:2], band[2]).mean(1).tolist()
        gains[f"band_{low // BAND}_{low // BAND + 1}khz"] = after - before
    return gains
