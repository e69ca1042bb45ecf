"""The contract of every separator, and the plain one: encoder, mask, decoder.

B batch, T samples, C sources, E estimates, N encoder channels, L frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfsrnet_modules.common.precision import in_float32
from sfsrnet_modules.models.conditioning import check_shape
from sfsrnet_modules.models.cpu import linear
from sfsrnet_modules.models.filterbank import begin_as_sines
from sfsrnet_modules.models.stft import add_frames


class MaskSeparator(nn.Module):
    """Masks the encoded mixture and decodes: ``mixture [B, T] -> estimates [E, B, T, C]``.

    As it stands it gives one estimate (E = 1), from any mask network that maps [B, N, L] to
    [C, B, N, L]: SpeechBrain's Conv-TasNet and its whole ``Dual_Path_Model``. Subclasses that give
    more than one estimate override :meth:`masks` and :attr:`num_estimates`.

    Estimates have exactly the length of the mixture. Samples after the last whole frame of the
    encoder (fewer than its stride) are zero, as in SpeechBrain.

    Arguments
    ---------
    encoder : speechbrain.lobes.models.dual_path.Encoder
        Waveform to frames, [B, T] -> [B, N, L].
    masknet : torch.nn.Module
        Frames to masks, [B, N, L] -> [C, B, N, L].
    decoder : speechbrain.lobes.models.dual_path.Decoder
        Frames to waveform, [B, N, L] -> [B, T].
    filterbank : str
        What encoder and decoder begin as. "noise": as PyTorch draws them (paper). "sines": see
        :func:`~sfsrnet_modules.models.filterbank.begin_as_sines`.

    Example
    -------
    >>> from speechbrain.lobes.models.conv_tasnet import MaskNet
    >>> from speechbrain.lobes.models.dual_path import Decoder, Encoder
    >>> decoder = Decoder(in_channels=8, out_channels=1, kernel_size=16, stride=8, bias=False)
    >>> conv_tasnet = MaskSeparator(Encoder(16, 8), MaskNet(8, 8, 16, 3, 2, 1, C=2), decoder)
    >>> conv_tasnet(torch.randn(4, 500)).shape  # [E, B, T, C]
    torch.Size([1, 4, 500, 2])
    """

    num_estimates = 1

    def __init__(
        self,
        encoder: nn.Module,
        masknet: nn.Module,
        decoder: nn.Module,
        filterbank: str = "noise",
    ):
        if filterbank not in ("noise", "sines"):
            raise ValueError(f"filterbank is {filterbank!r}: choose 'noise' (paper) or 'sines'")
        super().__init__()
        self.encoder = encoder
        self.masknet = masknet
        self.decoder = decoder
        if filterbank == "sines":
            begin_as_sines(encoder, decoder)

    def forward(
        self, mixture: Tensor, all_estimates: bool | None = None, block: int | None = None
    ) -> Tensor:
        """Separate `mixture`.

        Arguments
        ---------
        mixture : torch.Tensor
            [B, T].
        all_estimates : bool, optional
            Give every estimate that the separator has, or the last alone. Default: every one in
            training, the last in evaluation.
        block : int, optional
            Leave off after this block, counted from 1, and give its estimate as the last: quicker
            and rougher. Default: the last block.

        Returns
        -------
        torch.Tensor
            Estimates [E, B, T, C]; the last of E is the separator's answer.

        Raises
        ------
        ValueError
            Where the mixture is not [B, T] or shorter than one frame of the encoder, or where the
            separator has no estimate after that block.
        """
        self._check(mixture)
        if all_estimates is None:
            all_estimates = self.training
        frames = self.encoder(mixture)  # [B, N, L]
        masks = self.masks(frames, all_estimates, block)
        return self._decode(frames, masks, mixture.shape[1])  # [E, B, T, C]

    def masks(self, frames: Tensor, all_estimates: bool, block: int | None = None) -> list[Tensor]:
        """Return the masks [B, C, N, L] of `frames` [B, N, L], one an estimate."""
        if block is not None:
            raise ValueError(f"no estimate after block {block}: this separator has the last alone")
        return [self.masknet(frames).transpose(0, 1)]

    @in_float32  # bfloat16 would leave noise at -50 dB in the waveform
    def _decode(self, frames: Tensor, masks: list[Tensor], num_samples: int) -> Tensor:
        filters = self.decoder.weight.squeeze(1).mT  # [K, N]
        frames = frames.mT.contiguous().unsqueeze(1)  # [B, 1, L, N]
        decoded = [linear(frames * mask.mT, filters) for mask in masks]  # [B, C, L, K] each
        sources = add_frames(torch.stack(decoded), self.decoder.stride[0])  # [E, B, C, T']
        if self.decoder.bias is not None:
            sources = sources + self.decoder.bias
        return F.pad(sources, (0, num_samples - sources.shape[3])).mT  # [E, B, T, C]

    def _check(self, mixture: Tensor) -> None:
        check_shape(mixture)
        frame = self.encoder.conv1d.kernel_size[0]
        if mixture.shape[1] < frame:
            raise ValueError(
                f"the mixture has {mixture.shape[1]} samples; the encoder's frame needs at least "
                f"{frame}: give a longer mixture or pad it with zeros"
            )
