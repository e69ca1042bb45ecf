"""Separates low, restores high: a finished model of a low rate, and the band above it.

The paper's idea carried one step on: the separator works at a low rate, where it is cheap and the
corpora are; a super-resolution network sees the mixture at the full rate and restores from it what
each voice has above.
B batch, T samples, C sources, E estimates, F frequency bins, L frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfsrnet_modules.common.mixture_level import at_mixture_level
from sfsrnet_modules.common.precision import in_float32
from sfsrnet_modules.common.resampling import low_pass
from sfsrnet_modules.models.conditioning import Conditioning
from sfsrnet_modules.models.sfsrnet import SFSRNet
from sfsrnet_modules.models.upper_band import UpperBand


class FullBand(nn.Module):
    """Joins a finished model of a low rate, which stays as it is, and what restores the upper band.

    The contract is that of :class:`~sfsrnet_modules.models.sfsrnet.SFSRNet`, at the full rate.

    Arguments
    ---------
    narrow : SFSRNet
        The finished model. It is frozen: without gradients, always in evaluation.
    super_resolution : UpperBand
        ``(upper band of the mixture [B, T], voices below it [B, T, C]) -> [B, T, C]``.
    sample_rate : int
        Hz, of the mixtures: a multiple of the narrow model's.
    num_spks : int
        Voices of the narrow model, C.

    Raises
    ------
    ValueError
        Where it is no multiple.

    Example
    -------
    >>> from speechbrain.lobes.models.conv_tasnet import MaskNet
    >>> from speechbrain.lobes.models.dual_path import Decoder, Encoder
    >>> from sfsrnet_modules.models.separator import MaskSeparator
    >>> decoder = Decoder(in_channels=8, out_channels=1, kernel_size=16, stride=8, bias=False)
    >>> separator = MaskSeparator(Encoder(16, 8), MaskNet(8, 8, 16, 3, 2, 1, C=2), decoder)
    >>> model = FullBand(SFSRNet(separator, sample_rate=8000), UpperBand(), 16000)
    >>> model(torch.randn(4, 1001)).shape  # [E, B, T, C]
    torch.Size([2, 4, 1001, 2])
    """

    def __init__(
        self,
        narrow: SFSRNet,
        super_resolution: UpperBand,
        sample_rate: int = 16000,
        num_spks: int = 2,
    ):
        super().__init__()
        self.sample_rate, self.num_spks = sample_rate, num_spks
        self.conditioning = Conditioning(sample_rate)
        self.crossover = Crossover(sample_rate, narrow.sample_rate)
        self.narrow = narrow.requires_grad_(False).eval()
        self.super_resolution = super_resolution

    def train(self, mode: bool = True) -> "FullBand":
        """Put what is trained into training; the narrow model stays in evaluation."""
        super().train(mode)
        self.narrow.eval()
        return self

    def forward(
        self, mixture: Tensor, all_estimates: bool | None = None, block: int | None = None
    ) -> Tensor:
        """Separate `mixture`.

        Arguments
        ---------
        mixture : torch.Tensor
            [B, T].
        all_estimates : bool, optional
            All estimates of the narrow model, or its answer alone. Default: its answer.
        block : int, optional
            Leave off after this block of the narrow model, counted from 1: nothing is restored
            above its band then.

        Returns
        -------
        torch.Tensor
            The narrow model's estimates at the full rate with the full band appended,
            [E + 1, B, T, C]. ``[-1]`` is the answer, of exactly the mixture's length, at the level
            of the mixture, without offset and hum. Silence gives silence.
        """
        num_samples = mixture.shape[1]
        mixture, gain = self.conditioning(mixture)  # [B, T], [B, 1]
        low = self.crossover.down(mixture)  # [B, T']
        estimates = self.narrow(low, bool(all_estimates), block)  # [E, B, T', C]
        if not all_estimates:
            estimates = estimates[-1:]
        estimates = self.crossover.up(_at_level(estimates, low).mT, num_samples).mT  # [E, B, T, C]
        if block is None:
            upper = self.crossover.upper(mixture)  # [B, T]
            answer = estimates[-1] + self.super_resolution(upper, estimates[-1])  # [B, T, C]
            estimates = torch.cat([estimates, answer.unsqueeze(0)])
        return estimates / gain.unsqueeze(2)


class Crossover(nn.Module):
    """Divides signals in two: what a lower rate holds, and the rest. Both add up to the signal.

    It resamples as :func:`~sfsrnet_modules.common.resampling.resample` does, by convolutions.

    Arguments
    ---------
    sample_rate : int
        Hz, of the signals.
    low_rate : int
        Hz, of which `sample_rate` is a multiple.

    Raises
    ------
    ValueError
        Where it is none.

    Example
    -------
    >>> crossover, signal = Crossover(16000, 8000), torch.randn(3, 1001)
    >>> low = crossover.up(crossover.down(signal), 1001)
    >>> torch.allclose(low + crossover.upper(signal), signal, atol=1e-6)
    True
    """

    def __init__(self, sample_rate: int, low_rate: int):
        super().__init__()
        if sample_rate <= low_rate or sample_rate % low_rate:
            raise ValueError(
                f"sample_rate is {sample_rate} Hz and the model below works at {low_rate} Hz: "
                f"give a multiple of its rate, such as {2 * low_rate}"
            )
        self.ratio = sample_rate // low_rate
        taps = torch.from_numpy(low_pass(1, self.ratio))[None, None]  # [1, 1, taps]
        self.register_buffer("low_pass", taps, persistent=False)
        self.reach = taps.shape[2] // 2

    @in_float32
    def down(self, signal: Tensor) -> Tensor:
        """Resample `signal` [..., T] to the low rate, [..., T']."""
        flat = signal.reshape(-1, 1, signal.shape[-1])  # [N, 1, T]
        low = F.conv1d(flat, self.low_pass, stride=self.ratio, padding=self.reach)
        return low.view(*signal.shape[:-1], -1)  # [..., T']

    @in_float32
    def up(self, low: Tensor, num_samples: int) -> Tensor:
        """Resample `low` [..., T'] back to `num_samples` at the full rate."""
        flat = low.reshape(-1, 1, low.shape[-1])  # [N, 1, T']
        back = F.conv_transpose1d(flat, self.ratio * self.low_pass, stride=self.ratio)
        return back[:, 0, self.reach : self.reach + num_samples].view(*low.shape[:-1], -1)

    def upper(self, signal: Tensor) -> Tensor:
        """Return what the low rate does not hold of `signal` [..., T]."""
        return signal - self.up(self.down(signal), signal.shape[-1])


@in_float32
def _at_level(estimates: Tensor, mixture: Tensor) -> Tensor:
    """Bring `estimates` [E, B, T, C] to their levels in `mixture` [B, T], each voice to its own.

    SI-SNR leaves the scale of every output open; those of one model can lie 30 dB apart.
    """
    return torch.stack([at_mixture_level(voices, mixture) for voices in estimates])
