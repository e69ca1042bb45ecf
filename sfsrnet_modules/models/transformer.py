"""The Transformers of the separators: SpeechBrain's, run faster, and SFSRNet's.

SFSRNet's has a 2-D convolution over the chunk grid in its feed-forward part. Source: Rixen & Renz,
"SFSRNet: Super-Resolution for Single-Channel Audio Source Separation", AAAI 2022, section on the
separator; open points in the README under "Where the paper is silent".
B batch, R rows of L positions, N channels.
"""

import torch
from speechbrain.lobes.models.dual_path import SBTransformerBlock
from speechbrain.lobes.models.transformer.Transformer import (
    PositionalEncoding,
    TransformerEncoderLayer,
)
from speechbrain.nnet.attention import MultiheadAttention
from torch import Tensor, nn

from sfsrnet_modules.models.cpu import Conv2d, attention, in_slices, linear


class LongPositionalEncoding(PositionalEncoding):
    """SpeechBrain's sinusoidal encoding without its end at 2500 positions.

    2500 positions are 62 s of 8 kHz audio at this paper's chunk of 50 frames. Beyond the table that
    SpeechBrain keeps (and stores in its checkpoints), the same formula is evaluated on the fly.

    Arguments
    ---------
    input_size : int
        Number of channels, even.
    persistent : bool
        Whether the table belongs to the state_dict, as it does in SpeechBrain.

    Example
    -------
    >>> LongPositionalEncoding(8)(torch.zeros(1, 3000, 8)).shape
    torch.Size([1, 3000, 8])
    """

    def __init__(self, input_size: int, persistent: bool = True):
        super().__init__(input_size)
        self.register_buffer("pe", self.pe, persistent=persistent)
        self.longer = torch.empty(1, 0, input_size)  # no buffer: on each process of its own length

    @classmethod
    def like(cls, stock: PositionalEncoding) -> "LongPositionalEncoding":
        """Make one that takes the place of `stock`, also in the state_dict."""
        return cls(stock.pe.shape[2]).to(stock.pe)

    def forward(self, x: Tensor) -> Tensor:
        """Return the encoding of the positions of `x` [B, L, N] as [1, L, N]."""
        length, channels = x.shape[1:]
        if length <= self.pe.shape[1]:
            return self.pe[:, :length]
        if length > self.longer.shape[1]:
            self.longer = PositionalEncoding(channels, max_len=length).pe
        self.longer = self.longer.to(self.pe)
        return self.longer[:, :length]


def self_attention(layer: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """Run `layer` along the rows of `x` [R, L, N], by fused kernels.

    The same as ``layer(x, x, x)``, whose averaged maps SpeechBrain asks for and throws away.
    """
    qkv = linear(x, layer.in_proj_weight, layer.in_proj_bias)  # [R, L, 3 * N]
    y = attention(qkv, layer.num_heads, layer.dropout if layer.training else 0.0)  # [R, L, N]
    return linear(y, layer.out_proj.weight, layer.out_proj.bias)  # [R, L, N]


class RowTransformer(nn.Module):
    """SpeechBrain's Transformer for dual-path models: its very parameters, a faster forward.

    It takes over the parts of the stock module under their names, so that the state_dict stays.

    Arguments
    ---------
    stock : SBTransformerBlock
        See :meth:`fits`.

    Example
    -------
    >>> stock = SBTransformerBlock(2, 8, nhead=2, d_ffn=16, use_positional_encoding=True).eval()
    >>> x = torch.randn(3, 10, 8)
    >>> torch.allclose(RowTransformer(stock)(x), stock(x), atol=1e-5)
    True
    """

    def __init__(self, stock: SBTransformerBlock):
        super().__init__()
        self.mdl = stock.mdl
        if stock.use_positional_encoding:
            self.pos_enc = LongPositionalEncoding.like(stock.pos_enc)
        for layer in self.mdl.layers:
            activation = layer.pos_ffn.ffn[1]
            if isinstance(activation, nn.ReLU):
                activation.inplace = True  # half the memory of the widest tensor

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Whether `model` is SpeechBrain's Transformer with its usual attention."""
        return isinstance(model, SBTransformerBlock) and all(
            isinstance(layer.self_att, MultiheadAttention)
            and layer.self_att.att.in_proj_weight is not None
            for layer in model.mdl.layers
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform the rows `x` [R, L, N] along L."""
        if hasattr(self, "pos_enc"):
            x = x + self.pos_enc(x)
        return in_slices(self._layers, x)

    def _layers(self, x: Tensor) -> Tensor:
        for layer in self.mdl.layers:
            x = _run_layer(layer, x)  # [R, L, N]
        return self.mdl.norm(x)


def _run_layer(layer: TransformerEncoderLayer, x: Tensor) -> Tensor:
    """Run SpeechBrain's layer on `x` [R, L, N]."""
    if layer.normalize_before:
        x = x + layer.dropout1(self_attention(layer.self_att.att, layer.norm1(x)))
        return x + layer.dropout2(_feed_forward(layer, layer.norm2(x)))
    x = layer.norm1(x + layer.dropout1(self_attention(layer.self_att.att, x)))
    return layer.norm2(x + layer.dropout2(_feed_forward(layer, x)))


def _feed_forward(layer: TransformerEncoderLayer, x: Tensor) -> Tensor:
    for part in layer.pos_ffn.ffn:
        x = linear(x, part.weight, part.bias) if isinstance(part, nn.Linear) else part(x)
    return x


class ConvTransformer(nn.Module):
    """A stack of Transformer layers that sees the whole chunk grid, not one chunk at a time.

    Attention runs along the rows of the grid, the convolution of the feed-forward part over rows
    and positions. It takes the place of ``SBTransformerBlock`` as intra or inter model of
    SpeechBrain's ``Dual_Path_Model``, run by
    :class:`~sfsrnet_modules.models.dual_path.DualPathSeparator`.

    Arguments
    ---------
    num_layers : int
        Layers in the stack (paper: 2).
    d_model : int
        Channels N.
    nhead : int
        Attention heads.
    d_ffn : int
        Channels between the two steps of the feed-forward part.
    kernel_size : int
        Side of the square convolution kernel, odd.

    Example
    -------
    >>> ConvTransformer(1, 8, 2, 16)(torch.zeros(2, 5, 10, 8)).shape
    torch.Size([2, 5, 10, 8])
    """

    sees_grid = True  # forward takes [B, R, L, N]; SpeechBrain's sequence models take [B * R, L, N]

    def __init__(self, num_layers: int, d_model: int, nhead: int, d_ffn: int, kernel_size: int = 3):
        super().__init__()
        self.pos_enc = LongPositionalEncoding(d_model, persistent=False)
        self.layers = nn.ModuleList(
            ConvTransformerLayer(d_model, nhead, d_ffn, kernel_size) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Transform the grid `x` [B, R, L, N]: R rows of L positions, attention along L."""
        x = x + self.pos_enc(x[:, 0])  # [B, R, L, N]
        for layer in self.layers:
            x = layer(x)  # [B, R, L, N]
        return self.norm(x)


class ConvTransformerLayer(nn.Module):
    """Self-attention along the rows, then the convolutional feed-forward part; norms come first.

    Arguments
    ---------
    d_model, nhead, d_ffn, kernel_size : int
        As in :class:`ConvTransformer`.
    """

    def __init__(self, d_model: int, nhead: int, d_ffn: int, kernel_size: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(d_model, eps=1e-6)
        self.attention = nn.MultiheadAttention(d_model, nhead, batch_first=True)
        self.norm2 = nn.LayerNorm(d_model, eps=1e-6)
        self.feed_forward = ConvFeedForward(d_model, d_ffn, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `x` [B, R, L, N]."""
        attended = in_slices(self._attend, x.flatten(0, 1))  # [B * R, L, N]
        x = x + attended.view_as(x)  # [B, R, L, N]
        return x + self.feed_forward(self.norm2(x))

    def _attend(self, rows: Tensor) -> Tensor:
        return self_attention(self.attention, self.norm1(rows))


class ConvFeedForward(nn.Module):
    """Linear N -> F, ReLU, 2-D convolution F -> N over (row x position): never over the batch.

    Arguments
    ---------
    d_model : int
        Channels N in and out (paper: 256).
    d_ffn : int
        Channels F between (paper: 512).
    kernel_size : int
        Side of the kernel (paper: 3); the grid is padded so that its size stays.
    """

    def __init__(self, d_model: int, d_ffn: int, kernel_size: int):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size is {kernel_size}: give an odd number, so the grid's size stays"
            )
        self.linear = nn.Linear(d_model, d_ffn)
        self.conv = Conv2d(d_ffn, d_model, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `x` [B, R, L, N]; items of the batch don't see each other."""
        x = linear(x, self.linear.weight, self.linear.bias).relu_()  # [B, R, L, F]
        x = self.conv(x.permute(0, 3, 1, 2))  # [B, N, R, L]
        return x.permute(0, 2, 3, 1)  # [B, R, L, N]
