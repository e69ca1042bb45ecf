"""The multi-loss, whose targets grow in sampling rate; the loss of an upper band restored alone.

B batch, T samples, C sources, E estimates; the source axis comes last, as in SpeechBrain.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.transforms import Resample

from sfsrnet_modules.common.permutation import best_order, reorder
from sfsrnet_modules.common.precision import in_float32
from sfsrnet_modules.common.si_snr import EPS, mean_square, valid_mask
from sfsrnet_modules.models.full_band import Crossover
from sfsrnet_modules.training.silence import THRESHOLD, pairwise_scores, scale_of

SHARE_OF_MIXTURE = 0.01  # of its power, beside a voice's own: what is -20 dB below it need not fit


class MultiLoss(nn.Module):
    """The paper's loss: mean over the blocks' estimates, plus the super-resolution output's.

    Every term is a permutation-invariant negative SI-SNR of its own (uPIT); where a source is
    silent, an SNR (``sfsrnet_modules.training.silence``). Estimate k is compared with the sources
    at the k-th rate, so that early blocks may leave the fine detail to later ones.

    Arguments
    ---------
    rates : sequence of int
        Hz, one a block (paper: 500, 1000, 2000, 3000, 4000, 5000, 8000, 8000). A separator with E
        estimates takes the last E of them.
    sample_rate : int
        Hz, of estimates and sources.
    low_rate : str
        "resample": estimate and source are resampled to the rate and compared there. "lowpass": the
        source is low-passed to the rate's band and compared at the full rate.
    max_si_snr : float, optional
        dB; an item that is separated better than this stops pulling at the weights.
    block_weight : float
        Of the mean over the blocks' estimates, where super-resolution follows (paper: 1).
    last_block_weight : float, optional
        What it falls to in a straight line by the end of training, as ``progress`` goes from 0 to
        1; in validation it stays, so that epochs can be compared. Default: it stays (paper).
    joint_order : bool
        True: all estimates are held against the sources in the answer's best order. False: each in
        its own (paper).

    Example
    -------
    >>> loss = MultiLoss([2000, 8000], sample_rate=8000)
    >>> sources = torch.randn(4, 800, 2)
    >>> total, terms = loss(torch.randn(3, 4, 800, 2), sources, has_refined=True)
    >>> list(terms)
    ['block1_2000Hz', 'block2_8000Hz', 'sr']
    """

    def __init__(
        self,
        rates: Sequence[int],
        sample_rate: int,
        low_rate: str = "resample",
        max_si_snr: float | None = None,
        block_weight: float = 1.0,
        last_block_weight: float | None = None,
        joint_order: bool = False,
    ):
        super().__init__()
        if low_rate not in ("resample", "lowpass"):
            raise ValueError(f"low_rate is {low_rate!r}: choose 'resample' or 'lowpass'")
        if not rates or not all(0 < rate <= sample_rate for rate in rates):
            raise ValueError(
                f"rates are {list(rates)}: give at least one, each above 0 and at most the sample "
                f"rate of {sample_rate} Hz"
            )
        self.rates = list(rates)
        self.sample_rate = sample_rate
        self.low_rate = low_rate
        self.max_si_snr = max_si_snr
        last = block_weight if last_block_weight is None else last_block_weight
        self.block_weights = block_weight, last
        self.register_buffer("progress", torch.tensor(0.0), persistent=False)  # of training, 0 to 1
        self.joint_order = joint_order
        low = sorted(set(self.rates) - {sample_rate})
        self.down = nn.ModuleDict({str(rate): Resample(sample_rate, rate) for rate in low})
        self.up = nn.ModuleDict({str(rate): Resample(rate, sample_rate) for rate in low})

    @in_float32
    def forward(
        self,
        estimates: Tensor,
        sources: Tensor,
        lengths: Tensor | None = None,
        has_refined: bool = False,
        mixture: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Arguments
        ---------
        estimates : torch.Tensor
            [E, B, T, C], with the refined estimate last where there is one.
        sources : torch.Tensor
            [B, T, C].
        lengths : torch.Tensor, optional
            Length of each item as a share of T, [B].
        has_refined : bool
            Whether the last estimate is that of super-resolution.
        mixture : torch.Tensor, optional
            [B, T], against which the estimates of silent sources are held. Default: the sources'
            sum.
        weights : torch.Tensor, optional
            How much each item counts in the means over the batch, [B]. Default: all alike.

        Returns
        -------
        total : torch.Tensor
            The loss, a scalar.
        terms : dict of str to torch.Tensor
            Each term's score in dB, mean over the batch, detached.

        Raises
        ------
        ValueError
            Where there are more blocks' estimates than rates, or the answer's is not the sample
            rate.
        """
        if mixture is None:
            mixture = sources.sum(2)  # [B, T]
        power = mean_square(mixture.unsqueeze(2), lengths).squeeze(1)  # [B]
        names, rates = self._names_and_rates(len(estimates), has_refined)
        scores, done = [], 0
        for rate, same in groupby(rates):
            group = estimates[done : (done := done + len(list(same)))]  # [E', B, T, C]
            group, truth = self._at(rate, group, sources, lengths)  # [E', B, T', C], [B, T', C]
            scale = scale_of(group, truth, lengths, weights)  # [E']
            scores.append(pairwise_scores(group, truth, power, lengths, scale))  # [E', B, C, C]
        scores = _in_best_order(torch.cat(scores), self.joint_order)  # [E, B]
        means = _mean(self._limited(scores), weights)  # [E]
        if has_refined:
            loss = -self._block_weight() * means[:-1].mean() - means[-1]
        else:
            loss = -means.mean()
        return loss, dict(zip(names, _mean(scores.detach(), weights), strict=True))

    def _names_and_rates(self, num_estimates: int, has_refined: bool) -> tuple[list[str], list]:
        num_blocks = num_estimates - has_refined
        if num_blocks > len(self.rates):
            raise ValueError(
                f"{num_blocks} estimates but {len(self.rates)} rates: give `rates` a value a block"
            )
        first = len(self.rates) - num_blocks  # without the early blocks' estimates the last
        rates = self.rates[first:]
        if not has_refined and rates[-1] != self.sample_rate:
            raise ValueError(
                f"the last of rates is {rates[-1]}, the answer would be held against the sources "
                f"up to {rates[-1] / 2:g} Hz alone: set it to the sample rate of "
                f"{self.sample_rate} Hz"
            )
        names = [f"block{i}_{rate}Hz" for i, rate in enumerate(rates, start=first + 1)]
        if has_refined:
            names, rates = [*names, "sr"], [*rates, self.sample_rate]
        return names, rates

    def _block_weight(self) -> Tensor:
        first, last = self.block_weights
        return first + (last - first) * self.progress * self.training

    def _limited(self, score: Tensor) -> Tensor:
        return score if self.max_si_snr is None else score.clamp_max(self.max_si_snr)

    def _at(
        self, rate: int, estimates: Tensor, sources: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Bring estimates [E', B, T, C] and sources [B, T, C] to where they are compared."""
        if rate == self.sample_rate:
            return estimates, sources
        mask = valid_mask(sources, lengths)  # [B, T, 1]
        sources = _along_time(self.down[str(rate)], sources * mask)  # [B, T', C]
        if self.low_rate == "resample":
            return _along_time(self.down[str(rate)], estimates * mask), sources
        return estimates * mask, _along_time(self.up[str(rate)], sources)[:, : mask.shape[1]]


class UpperBandLoss(nn.Module):
    """The loss of :class:`~sfsrnet_modules.models.full_band.FullBand`: of the upper band alone.

    A negative, thresholded SNR of each voice's upper band, in the order that the lower band fixes:
    it has no permutation of its own. Not SI-SNR, since the upper band has to fit the lower one's
    level. A voice that has next to nothing above is held against a share of the mixture's power.

    Arguments
    ---------
    sample_rate : int
        Hz, of estimates and sources.
    low_rate : int
        Hz, of the narrow model.

    Example
    -------
    >>> loss = UpperBandLoss(16000, low_rate=8000)
    >>> sources = torch.randn(4, 800, 2)
    >>> lower = sources - loss.crossover.upper(sources.mT).mT
    >>> total, terms = loss(torch.stack([lower, sources]).flip(3), sources)
    >>> terms["sr"].round()
    tensor(30.)
    """

    def __init__(self, sample_rate: int, low_rate: int):
        super().__init__()
        self.crossover = Crossover(sample_rate, low_rate)

    @in_float32
    def forward(
        self,
        estimates: Tensor,
        sources: Tensor,
        lengths: Tensor | None = None,
        has_refined: bool = True,
        mixture: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss; arguments and return values are those of :class:`MultiLoss`.

        The last two estimates are the lower band and the full band.
        """
        if mixture is None:
            mixture = sources.sum(2)  # [B, T]
        power = mean_square(mixture.unsqueeze(2), lengths).squeeze(1)  # [B]
        lower, answer = estimates[-2:]  # [B, T, C]
        above = self.crossover.upper(sources.mT).mT  # [B, T, C]
        scale = scale_of(lower, sources - above, lengths, weights)
        order = best_order(pairwise_scores(lower, sources - above, power, lengths, scale))
        error = mean_square(reorder(answer - lower, order) - above, lengths)  # [B, C]
        of_mixture = mean_square(self.crossover.upper(mixture).unsqueeze(2), lengths)  # [B, 1]
        reference = mean_square(above, lengths) + SHARE_OF_MIXTURE * of_mixture + EPS  # [B, C]
        snr = -10 * torch.log10(error / reference + THRESHOLD).mean(1, keepdim=True).mT  # [1, B]
        (score,) = _mean(snr, weights)
        return -score, {"sr": score.detach()}


def _in_best_order(scores: Tensor, joint: bool) -> Tensor:
    """Scores [E, B, C, C] in each estimate's best order, or the last one's: means [E, B]."""
    deciding = scores[-1:] if joint else scores
    order = best_order(deciding.flatten(0, 1)).unflatten(0, deciding.shape[:2])  # [1 or E, B, C]
    return scores.gather(2, order.unsqueeze(2).expand_as(scores[:, :, :1])).mean((2, 3))


def _mean(scores: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over the batch: [E, B] to [E]."""
    return scores.mean(1) if weights is None else scores @ weights / weights.sum()


def _along_time(resample: Resample, x: Tensor) -> Tensor:
    """Resample `x` [..., T, C] as `resample` does, which waits for the length to cut off."""
    old, new = (f // resample.gcd for f in (resample.orig_freq, resample.new_freq))
    *others, num_samples, num_spks = x.shape
    padded = F.pad(x.mT, (resample.width, resample.width + old))  # [..., C, T + ...]
    phases = F.conv1d(padded.flatten(0, -2).unsqueeze(1), resample.kernel, stride=old)
    resampled = phases.mT.reshape(*others, num_spks, -1)  # [..., C, T']
    return resampled[..., : -(-new * num_samples // old)].mT  # [..., T', C]
