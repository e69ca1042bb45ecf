"""Dual-path separators with an estimate after every block: SepFormer, DPRNN.

The parameters live in SpeechBrain's own ``Encoder``, ``Dual_Path_Model`` and ``Decoder``, so stock
weights load unchanged; what is added are the heads that turn each block's output into a mask.
K chunk length, S chunks; the other letters as in :mod:`sfsrnet_modules.separator`.
"""

import copy

import torch
from speechbrain.lobes.models.dual_path import (
    Decoder,
    Dual_Computation_Block,
    Dual_Path_Model,
    Encoder,
)
from torch import Tensor, nn

from sfsrnet_modules.separator import MaskSeparator
from sfsrnet_modules.transformer import LongPositionalEncoding


class DualPathSeparator(MaskSeparator):
    """Wraps SpeechBrain's stock dual-path separator and gives the estimate after every block.

    With the gated head its last estimate equals ``SepformerWrapper.forward`` on the same weights.

    Arguments
    ---------
    encoder : Encoder
        Waveform to frames, [B, T] -> [B, N, L].
    masknet : Dual_Path_Model
        Norm, linear, chunks, blocks and last head. Its intra and inter models may be SpeechBrain's
        (``SBTransformerBlock``, ``SBRNNBlock``) or a
        :class:`~sfsrnet_modules.transformer.ConvTransformer`.
    decoder : Decoder
        Frames to waveform, [B, N, L] -> [B, T].
    head : str
        "linear": PReLU, linear, ReLU, overlap-add (paper). "gated": SpeechBrain's, with a gate
        after the overlap-add.
    shared_head : bool
        One head for all blocks; by default every block has its own (the paper's 59 M parameters
        are reached only so).
    every_block : bool
        False: no estimates but the last, as in the stock separator.

    Example
    -------
    >>> from speechbrain.lobes.models.dual_path import SBTransformerBlock
    >>> transformer = SBTransformerBlock(1, 8, 2, d_ffn=16)
    >>> masknet = Dual_Path_Model(8, 8, transformer, transformer, num_layers=3, K=10)
    >>> decoder = Decoder(in_channels=8, out_channels=1, kernel_size=16, stride=8, bias=False)
    >>> separator = DualPathSeparator(Encoder(16, 8), masknet, decoder)
    >>> separator(torch.randn(4, 500)).shape  # [E, B, T, C]
    torch.Size([3, 4, 500, 2])
    >>> separator.eval()(torch.randn(4, 500)).shape
    torch.Size([1, 4, 500, 2])
    """

    def __init__(
        self,
        encoder: Encoder,
        masknet: Dual_Path_Model,
        decoder: Decoder,
        head: str = "linear",
        shared_head: bool = False,
        every_block: bool = True,
    ):
        if head not in ("linear", "gated"):
            raise ValueError(f"head is {head!r}: choose 'linear' (paper) or 'gated' (SpeechBrain)")
        super().__init__(encoder, masknet, decoder)
        self.num_estimates = len(masknet.dual_mdl) if every_block else 1
        if head == "linear":  # the gate would be left without a gradient
            del masknet.output, masknet.output_gate, masknet.end_conv1x1
        own_heads = 0 if shared_head else self.num_estimates - 1
        self.early_heads = nn.ModuleList(_Head(masknet) for _ in range(own_heads))
        _untie_copies(masknet.dual_mdl)
        _lengthen_positions(masknet.dual_mdl)

    def masks(self, frames: Tensor, all_estimates: bool) -> list[Tensor]:
        """Return the masks [B, C, N, L] of `frames` [B, N, L], one a block or the last alone."""
        net = self.masknet
        x = net.conv1d(net.norm(frames))  # [B, N, L]
        if net.use_global_pos_enc:
            x = net.pos_enc(x.mT).mT + x * x.shape[1] ** 0.5  # [B, N, L]
        x, gap = net._Segmentation(x, net.K)  # [B, N, K, S]
        masks = []
        first_wanted = net.num_layers - (self.num_estimates if all_estimates else 1)
        for index, block in enumerate(net.dual_mdl):
            x = run_block(block, x)  # [B, N, K, S]
            if index >= first_wanted:
                masks.append(self._mask(self._head(index), x, gap))  # [B, C, N, L]
        return masks

    def _head(self, index: int) -> nn.Module:
        """The head of a block: its own, else the stock one, which sits in the masknet itself."""
        return self.early_heads[index] if index < len(self.early_heads) else self.masknet

    def _mask(self, head: nn.Module, x: Tensor, gap: int) -> Tensor:
        net = self.masknet
        x = head.conv2d(head.prelu(x))  # [B, N * C, K, S]
        x = x.unflatten(1, (net.num_spks, -1)).flatten(0, 1)  # [B * C, N, K, S]
        if hasattr(head, "output_gate"):
            x = net._over_add(x, gap)  # [B * C, N, L]
            x = torch.relu(head.end_conv1x1(head.output(x) * head.output_gate(x)))
        else:
            x = net._over_add(torch.relu(x), gap)  # [B * C, N, L]
        return x.unflatten(0, (-1, net.num_spks))  # [B, C, N, L]


class _Head(nn.Module):
    """A head like the one in `masknet`, with weights of its own, for an earlier block."""

    def __init__(self, masknet: Dual_Path_Model):
        super().__init__()
        for name in ("prelu", "conv2d", "output", "output_gate", "end_conv1x1"):
            if hasattr(masknet, name):
                part = copy.deepcopy(getattr(masknet, name))
                self.add_module(name, part)
                _reset(part)


def run_block(block: Dual_Computation_Block, x: Tensor) -> Tensor:
    """Run a stock block on `x` [B, N, K, S], giving models that want it the whole grid.

    Equals ``block(x)`` where both models are SpeechBrain's, which see one chunk at a time.
    """
    intra = _along_rows(block, "intra", x.permute(0, 3, 2, 1))  # [B, S, K, N]
    intra = _normed(block, "intra", intra.permute(0, 3, 2, 1))  # [B, N, K, S]
    if block.skip_around_intra:
        intra = intra + x
    inter = _along_rows(block, "inter", intra.permute(0, 2, 3, 1))  # [B, K, S, N]
    inter = _normed(block, "inter", inter.permute(0, 3, 1, 2))  # [B, N, K, S]
    return inter + intra


def _along_rows(block: Dual_Computation_Block, path: str, x: Tensor) -> Tensor:
    """Run the block's intra or inter model along the rows of `x` [B, R, L, N]."""
    model = getattr(block, f"{path}_mdl")
    if getattr(model, "sees_grid", False):
        y = model(x)  # [B, R, L, N]
    else:
        y = model(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # [B, R, L, H]
    if block.linear_layer_after_inter_intra:
        y = getattr(block, f"{path}_linear")(y)  # [B, R, L, N]
    return y


def _normed(block: Dual_Computation_Block, path: str, x: Tensor) -> Tensor:
    return x if block.norm is None else getattr(block, f"{path}_norm")(x)


def _untie_copies(blocks: nn.ModuleList) -> None:
    """Draw new weights wherever the very same matrix was met before.

    ``Dual_Path_Model`` deep-copies its blocks, a yaml file its Transformer, so they all start
    alike, and SpeechBrain's reset does not reach attention's input projection. Trained weights
    differ and stay as they are.
    """
    met = set()
    for module in blocks.modules():
        matrices = [p for p in module.parameters(recurse=False) if p.dim() > 1]
        if not matrices:
            continue
        fingerprint = (matrices[0].shape, matrices[0].detach().double().sum().item())
        if fingerprint in met:
            _reset(module, recurse=False)
        met.add(fingerprint)


def _reset(module: nn.Module, recurse: bool = True) -> None:
    for part in module.modules() if recurse else [module]:
        if isinstance(part, nn.MultiheadAttention):
            part._reset_parameters()  # it has no public reset
        elif hasattr(part, "reset_parameters"):
            part.reset_parameters()


def _lengthen_positions(blocks: nn.ModuleList) -> None:
    """Let SpeechBrain's Transformers run on more chunks than their table of positions holds."""
    for block in blocks:
        for model in (block.intra_mdl, block.inter_mdl):
            if getattr(model, "use_positional_encoding", False):
                model.pos_enc = LongPositionalEncoding(model.pos_enc.pe.shape[2]).to(
                    model.pos_enc.pe
                )
