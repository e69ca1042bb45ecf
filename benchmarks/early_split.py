"""Splits the voices early and runs the blocks that follow on each, with shared weights.

A row of the search: voices part before the last blocks instead of in the heads, as in SepReformer
(Shin et al., NeurIPS 2024), and before every block each voice is told what the others have.
"""

import torch
from speechbrain.lobes.models.dual_path import Dual_Path_Model
from torch import Tensor, nn

from sfsrnet_modules.models.cpu import linear
from sfsrnet_modules.models.dual_path import DualPathSeparator, chunk


class EarlySplit(DualPathSeparator):
    """A dual-path separator whose voices are split after some of its blocks.

    Arguments
    ---------
    encoder, masknet, decoder, **options
        Of :class:`~sfsrnet_modules.models.dual_path.DualPathSeparator`, with the gated head.
    split_after : int
        Block, counted from 1, after which each voice is a sequence of its own. The first estimate
        is given there.
    """

    def __init__(
        self,
        encoder: nn.Module,
        masknet: Dual_Path_Model,
        decoder: nn.Module,
        split_after: int,
        **options,
    ):
        channels = masknet.conv1d.out_channels  # N
        masknet.conv2d = nn.Conv2d(channels, channels, 1)  # a head gives the mask of one voice
        super().__init__(encoder, masknet, decoder, head="gated", **options)
        self.split_after = split_after
        self.early_heads = self.early_heads[split_after - 1 :]
        self.num_estimates = len(self.early_heads) + 1
        self.split = nn.Linear(channels, masknet.num_spks * channels)
        self.exchanges = nn.ModuleList(
            nn.Linear(2 * channels, channels) for _ in masknet.dual_mdl[split_after:]
        )

    def masks(self, frames: Tensor, all_estimates: bool, block: int | None = None) -> list[Tensor]:
        """Return the masks [B, C, N, L] of `frames` [B, N, L], from the split on or the last."""
        net, num_frames = self.masknet, frames.shape[2]
        x = chunk(net.conv1d(net.norm(frames)).mT, net.K)  # [B, S, K, N]
        for shared in net.dual_mdl[: self.split_after]:
            x = self._run_block(shared, x)  # [B, S, K, N]
        voices = linear(x, self.split.weight, self.split.bias)  # [B, S, K, C * N]
        voices = voices.unflatten(3, (net.num_spks, -1)).movedim(3, 1)  # [B, C, S, K, N]
        masks = [self._masks_of(voices, 0, num_frames)]
        later = zip(self.exchanges, net.dual_mdl[self.split_after : block], strict=False)
        for index, (exchange, shared) in enumerate(later, start=1):
            voices = _told_of_the_others(voices, exchange)
            each = self._run_block(shared, voices.flatten(0, 1))  # [B * C, S, K, N]
            voices = each.unflatten(0, voices.shape[:2])  # [B, C, S, K, N]
            masks.append(self._masks_of(voices, index, num_frames))
        return masks if all_estimates else masks[-1:]

    def _masks_of(self, voices: Tensor, index: int, num_frames: int) -> Tensor:
        """One mask a voice, [B, C, N, L]."""
        masks = self._mask(self._head(index), voices.flatten(0, 1), num_frames)  # [B * C, 1, N, L]
        return masks.squeeze(1).unflatten(0, voices.shape[:2])


def _told_of_the_others(voices: Tensor, exchange: nn.Linear) -> Tensor:
    """Add what `exchange` makes of each voice and the mean of the others, [B, C, S, K, N]."""
    others = (voices.sum(1, keepdim=True) - voices) / (voices.shape[1] - 1)
    both = torch.cat([voices, others], dim=-1)  # [B, C, S, K, 2 N]
    return voices + linear(both, exchange.weight, exchange.bias)
