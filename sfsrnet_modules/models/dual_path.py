"""Dual-path separators with an estimate after every block: SepFormer, DPRNN.

The parameters live in SpeechBrain's own ``Encoder``, ``Dual_Path_Model`` and ``Decoder``, so stock
weights load unchanged; what is added are the heads that turn each block's output into a mask.
K chunk length, S chunks; the other letters as in :mod:`sfsrnet_modules.models.separator`. One
layout, [B, S, K, N], is kept from chunking to overlap-add.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from speechbrain.lobes.models.dual_path import (
    Decoder,
    Dual_Computation_Block,
    Dual_Path_Model,
    Encoder,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfsrnet_modules.common.precision import in_float32
from sfsrnet_modules.models.cpu import linear
from sfsrnet_modules.models.separator import MaskSeparator
from sfsrnet_modules.models.transformer import LongPositionalEncoding, RowTransformer


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
        :class:`~sfsrnet_modules.models.transformer.ConvTransformer`.
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
    checkpointing : bool
        True: training keeps only what enters each intra model, inter model and head, and computes
        the rest once more on the way back: less memory for about a third more time.
    filterbank : str
        What encoder and decoder begin as, "noise" (paper) or "sines", as in the plain separator.

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
        checkpointing: bool = False,
        filterbank: str = "noise",
    ):
        if head not in ("linear", "gated"):
            raise ValueError(f"head is {head!r}: choose 'linear' (paper) or 'gated' (SpeechBrain)")
        super().__init__(encoder, masknet, decoder, filterbank)
        self.checkpointing = checkpointing
        self.num_estimates = len(masknet.dual_mdl) if every_block else 1
        if head == "linear":  # the gate would be left without a gradient
            del masknet.output, masknet.output_gate, masknet.end_conv1x1
            _widen_masks(masknet)
        own_heads = 0 if shared_head else self.num_estimates - 1
        self.early_heads = nn.ModuleList(_Head(masknet) for _ in range(own_heads))
        _untie_copies(masknet.dual_mdl)
        _speed_up(masknet.dual_mdl)

    def masks(self, frames: Tensor, all_estimates: bool, block: int | None = None) -> list[Tensor]:
        """Return the masks [B, C, N, L] of `frames` [B, N, L], one a block or the last alone."""
        net = self.masknet
        last = net.num_layers if block is None else block
        with_head = range(net.num_layers - self.num_estimates + 1, net.num_layers + 1)
        if last not in with_head:
            raise ValueError(
                f"no estimate after block {block}: this separator gives one after each of "
                f"{list(with_head)}"
            )
        x = net.conv1d(net.norm(frames))  # [B, N, L]
        if net.use_global_pos_enc:
            x = net.pos_enc(x.mT).mT + x * x.shape[1] ** 0.5  # [B, N, L]
        x = chunk(x.mT, net.K)  # [B, S, K, N], the layout of all blocks
        masks = []
        first_wanted = (with_head[0] if all_estimates else last) - 1
        for index, stock_block in enumerate(net.dual_mdl[:last]):
            x = self._run_block(stock_block, x)  # [B, S, K, N]
            if index >= first_wanted:
                mask = self._kept_small(self._mask, self._head(index), x, frames.shape[2])
                masks.append(mask)  # [B, C, N, L]
        return masks

    def _head(self, index: int) -> nn.Module:
        """The head of a block: its own, else the stock one, which sits in the masknet itself."""
        return self.early_heads[index] if index < len(self.early_heads) else self.masknet

    def _run_block(self, block: Dual_Computation_Block, x: Tensor) -> Tensor:
        """Run a stock block on `x` [B, S, K, N]; the same as ``block`` on [B, N, K, S]."""
        intra = self._kept_small(run_path, block, "intra", x)  # [B, S, K, N]
        if block.skip_around_intra:
            intra = intra + x
        across = intra.transpose(1, 2).contiguous()  # [B, K, S, N]
        inter = self._kept_small(run_path, block, "inter", across)  # [B, K, S, N]
        return intra + inter.transpose(1, 2)

    def _kept_small(self, function: Callable[..., Tensor], *inputs) -> Tensor:
        """Run `function`, where memory is to be saved without keeping what is inside it."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)

    def _mask(self, head: nn.Module, x: Tensor, num_frames: int) -> Tensor:
        x = head.prelu(x)  # [B, S, K, N]
        if hasattr(head, "output_gate"):
            # added up before the linear layer, not after: the same, on fewer and narrower frames
            x = overlap_add(x, num_frames)  # [B, L, N]
            x = linear(x, head.conv2d.weight.flatten(1), 2 * head.conv2d.bias)  # [B, L, C * N]
            x = x.unflatten(2, (-1, head.output[0].in_channels))  # [B, L, C, N]
            gated = torch.tanh(_pointwise(head.output[0], x))
            gated = gated * torch.sigmoid(_pointwise(head.output_gate[0], x))
            x = torch.relu(_pointwise(head.end_conv1x1, gated))
        else:
            x = overlap_add(torch.relu(_pointwise(head.conv2d, x)), num_frames)  # [B, L, C * N]
            x = x.unflatten(2, (-1, self.masknet.conv1d.in_channels))  # [B, L, C, N]
        return x.permute(0, 2, 3, 1)  # [B, C, N, L]


class _Head(nn.Module):
    """A head like the one in `masknet`, with weights of its own, for an earlier block."""

    def __init__(self, masknet: Dual_Path_Model):
        super().__init__()
        for name in ("prelu", "conv2d", "output", "output_gate", "end_conv1x1"):
            if hasattr(masknet, name):
                part = copy.deepcopy(getattr(masknet, name))
                self.add_module(name, part)
                _reset(part)


def _widen_masks(masknet: Dual_Path_Model) -> None:
    """Let the linear head give a mask for every filter where the blocks have other channels."""
    filters, channels = masknet.conv1d.in_channels, masknet.conv1d.out_channels
    if filters != channels:
        masknet.conv2d = nn.Conv2d(channels, masknet.num_spks * filters, 1)


def chunk(x: Tensor, size: int) -> Tensor:
    """Cut `x` [B, L, N] into chunks of `size` frames with 50 % overlap, [B, S, K, N].

    Zeros surround it so that every frame lies in two chunks.

    Example
    -------
    >>> chunk(torch.arange(1, 6).view(1, 5, 1), 4).squeeze()
    tensor([[0, 0, 1, 2],
            [1, 2, 3, 4],
            [3, 4, 5, 0],
            [5, 0, 0, 0]])
    """
    hop = size // 2
    gap = size - (hop + x.shape[1] % size) % size
    x = F.pad(x, (0, 0, hop, hop + gap))  # [B, L', N]
    first, second = (part.unflatten(1, (-1, size)) for part in (x[:, :-hop], x[:, hop:]))
    return torch.stack([first, second], dim=2).flatten(1, 2)  # [B, S, K, N]


@in_float32  # of mixed precision
def overlap_add(x: Tensor, num_frames: int) -> Tensor:
    """Add up the chunks `x` [B, S, K, N] to [B, L, N]: twice what :func:`chunk` took apart.

    Example
    -------
    >>> overlap_add(chunk(torch.arange(1, 6).view(1, 5, 1), 4), 5).flatten()
    tensor([ 2,  4,  6,  8, 10])
    """
    hop = x.shape[2] // 2
    first, second = x[:, ::2].flatten(1, 2), x[:, 1::2].flatten(1, 2)  # [B, L', N]
    return (first[:, hop:] + second[:, :-hop])[:, :num_frames]


def run_path(block: Dual_Computation_Block, path: str, x: Tensor) -> Tensor:
    """Run the block's intra or inter model along the rows of `x` [B, R, L, N], then its norm."""
    model = getattr(block, f"{path}_mdl")
    if getattr(model, "sees_grid", False):
        y = model(x)  # [B, R, L, N]
    else:
        y = model(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # [B, R, L, H]
    if block.linear_layer_after_inter_intra:
        y = getattr(block, f"{path}_linear")(y)  # [B, R, L, N]
    return y if block.norm is None else norm_chunks(getattr(block, f"{path}_norm"), y)


def norm_chunks(norm: nn.Module, x: Tensor) -> Tensor:
    """Run a block's norm on `x` [B, R, L, N], whose channels come last."""
    if isinstance(norm, nn.GroupNorm) and norm.num_groups == 1:
        of_items = F.layer_norm(x, x.shape[1:], eps=norm.eps)  # without a copy to channels first
        return torch.addcmul(norm.bias, of_items, norm.weight)
    return norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _pointwise(conv: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """Run a convolution of kernel 1 on `x` [..., N], whose channels come last."""
    return linear(x, conv.weight.flatten(1), conv.bias)


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


def _speed_up(blocks: nn.ModuleList) -> None:
    """Give SpeechBrain's Transformers the faster forward, and positions without an end."""
    for block in blocks:
        for path in ("intra_mdl", "inter_mdl"):
            model = getattr(block, path)
            if RowTransformer.fits(model):
                setattr(block, path, RowTransformer(model))
            elif getattr(model, "use_positional_encoding", False):
                model.pos_enc = LongPositionalEncoding.like(model.pos_enc)
