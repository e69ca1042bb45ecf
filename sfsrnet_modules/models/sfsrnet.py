"""SFSRNet: any separator of the contract, followed by super-resolution."""

import torch
from torch import Tensor, nn

from sfsrnet_modules.common.precision import in_float32
from sfsrnet_modules.models.conditioning import Conditioning
from sfsrnet_modules.models.separator import MaskSeparator
from sfsrnet_modules.models.super_resolution import SuperResolution

SILENCE = 1e-8  # energy, below which estimates are not brought to a level


class SFSRNet(nn.Module):
    """Joins a separator and the super-resolution network.

    Level, offset and hum of a recording do not matter: each item is conditioned first, and the
    estimates are brought back to its scale.

    Arguments
    ---------
    separator : MaskSeparator
        ``mixture [B, T] -> estimates [E, B, T, C]``.
    super_resolution : SuperResolution, optional
        ``(mixture [B, T], estimate [B, T, C]) -> [B, T, C]``. None: the separator alone.
    sample_rate : int
        Hz, of the mixtures: where hum ends depends on it.
    levelled : bool
        True: the separator's estimates are brought to the mixture's level, by a gain common to an
        item's voices, so that super-resolution sees mixture and estimates on one scale. False
        (paper): SI-SNR leaves their level open.
    adds_up : bool
        True: what the estimates lack of the mixture is shared out evenly among them, so that they
        add up to it.

    Example
    -------
    >>> from speechbrain.lobes.models.conv_tasnet import MaskNet
    >>> from speechbrain.lobes.models.dual_path import Decoder, Encoder
    >>> decoder = Decoder(in_channels=8, out_channels=1, kernel_size=16, stride=8, bias=False)
    >>> separator = MaskSeparator(Encoder(16, 8), MaskNet(8, 8, 16, 3, 2, 1, C=2), decoder)
    >>> sr = SuperResolution(num_spks=2, channels=[8, 8, 8], kernels=[3, 3, 3, 3])
    >>> SFSRNet(separator, sr)(torch.randn(4, 500)).shape  # [E + 1, B, T, C]
    torch.Size([2, 4, 500, 2])
    """

    def __init__(
        self,
        separator: MaskSeparator,
        super_resolution: SuperResolution | None = None,
        sample_rate: int = 8000,
        levelled: bool = False,
        adds_up: bool = False,
    ):
        super().__init__()
        self.sample_rate = sample_rate
        self.conditioning = Conditioning(sample_rate)
        self.separator = separator
        self.super_resolution = super_resolution
        self.levelled = levelled
        self.adds_up = adds_up

    def forward(
        self, mixture: Tensor, all_estimates: bool | None = None, block: int | None = None
    ) -> Tensor:
        """Separate `mixture`.

        Arguments
        ---------
        mixture : torch.Tensor
            [B, T].
        all_estimates : bool, optional
            As for the separator: all of its estimates, or what the answer needs. Default: all in
            training.
        block : int, optional
            As for the separator: leave off after this block, counted from 1. There is no refined
            estimate then.

        Returns
        -------
        torch.Tensor
            The separator's estimates with the refined one appended, [E + 1, B, T, C] (without SR
            [E, B, T, C]). ``[-1]`` is the answer, of exactly the mixture's length, on the mixture's
            scale, without offset and hum. Silence gives silence.
        """
        mixture, gain = self.conditioning(mixture)  # [B, T], [B, 1]
        estimates = self.separator(mixture, all_estimates, block)  # [E, B, T, C]
        if self.levelled:
            estimates = _at_level_of(mixture, estimates)
        if self.super_resolution is not None and block is None:
            refined = self.super_resolution(mixture, estimates[-1])  # [B, T, C]
            estimates = torch.cat([estimates, refined.unsqueeze(0)])
        if self.adds_up:
            lacking = mixture - estimates.sum(3)  # [E + 1, B, T]
            estimates = estimates + lacking.unsqueeze(3) / estimates.shape[3]
        return estimates / gain.unsqueeze(2)


@in_float32
def _at_level_of(mixture: Tensor, estimates: Tensor) -> Tensor:
    """Bring the sum of the voices of `estimates` [E, B, T, C] nearest to `mixture` [B, T]."""
    total = estimates.sum(3)  # [E, B, T]
    power = total.square().sum(2).clamp_min(SILENCE)  # [E, B]
    gains = (total * mixture).sum(2) / power  # [E, B]
    return estimates * gains[..., None, None]
