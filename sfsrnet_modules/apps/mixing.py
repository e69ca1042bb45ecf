"""Mixes recordings of single speakers, so that a separation of the mixture can be scored."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sfsrnet_modules.common.writing import PEAK
from sfsrnet_modules.evaluation.metrics import in_order, si_snrs

SHORTEST = 0.5  # s; of less no score can be given


@dataclass
class Scores:
    """Voices in the order of their sources, and how near they come to them.

    Arguments
    ---------
    voices : torch.Tensor
        [T, C].
    before, after : list of float
        SI-SNR in dB of the mixture and of the voice, a source each.
    """

    voices: Tensor
    before: list[float]
    after: list[float]


def mix(first: Tensor, second: Tensor, difference_db: float, sample_rate: int) -> Tensor:
    """Bring two recordings to levels that differ by `difference_db`; their sum is the mixture.

    Arguments
    ---------
    first, second : torch.Tensor
        [T1], [T2]; the longer one is cut at its end.
    difference_db : float
        By how much the first is louder (RMS), in dB.
    sample_rate : int
        Hz.

    Returns
    -------
    torch.Tensor
        [T, 2], such that the sum does not clip.

    Raises
    ------
    ValueError
        Where one is silent or too short.

    Example
    -------
    >>> sources = mix(torch.randn(8000), 0.1 * torch.randn(9000), 6.0, 8000)
    >>> first, second = sources.square().mean(0)
    >>> sources.shape, round(10 * (first / second).log10().item(), 2)
    (torch.Size([8000, 2]), 6.0)
    """
    num_samples = min(len(first), len(second))
    if num_samples < SHORTEST * sample_rate:
        raise ValueError(
            f"the shorter recording lasts {num_samples / sample_rate:.2f} s: give {SHORTEST} s or "
            "more of each"
        )
    sources = torch.stack([first[:num_samples], second[:num_samples]], dim=1)  # [T, 2]
    rms = sources.square().mean(0).sqrt()  # [2]
    if rms.min() < 1e-5:
        which = ("first", "second")[rms.argmin()]
        raise ValueError(f"the {which} recording is silent where the two overlap: give another one")
    gains = 10 ** (torch.tensor([difference_db, -difference_db]) / 40)
    sources = 0.1 * sources / rms * gains
    loudest = torch.cat([sources, sources.sum(1, keepdim=True)], dim=1).abs().max().item()
    return sources * min(1.0, PEAK / loudest)


def score_voices(sources: Tensor, voices: Tensor) -> Scores:
    """Compare `voices` [T, C] with `sources` [T, C], in whatever order they come.

    Example
    -------
    >>> sources = torch.randn(8000, 2)
    >>> scores = score_voices(sources, sources.flip(1) + 0.1 * torch.randn(8000, 2))
    >>> [round(value) for value in scores.after]
    [20, 20]
    """
    voices = in_order(sources, voices)
    mixture = sources.sum(1, keepdim=True).expand_as(sources)  # [T, C]
    before, after = si_snrs(torch.stack([mixture, voices]), sources).tolist()
    return Scores(voices, before, after)
