"""The Transformer of SFSRNet, whose feed-forward part is a 2-D convolution over the chunk grid.

Source: Rixen & Renz, "SFSRNet: Super-Resolution for Single-Channel Audio Source Separation",
AAAI 2022, section on the separator; open points in the README under "Where the paper is silent".
"""

import torch
from speechbrain.lobes.models.transformer.Transformer import PositionalEncoding
from torch import Tensor, nn


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

    def forward(self, x: Tensor) -> Tensor:
        """Return the encoding of the positions of `x` [B, L, N] as [1, L, N]."""
        length, channels = x.shape[1:]
        if length > self.pe.shape[1]:
            longer = PositionalEncoding(channels, max_len=length).pe
            return longer.to(self.pe)
        return self.pe[:, :length]


class ConvTransformer(nn.Module):
    """A stack of Transformer layers that sees the whole chunk grid, not one chunk at a time.

    Attention runs along the rows of the grid, the convolution of the feed-forward part over rows
    and positions. It takes the place of ``SBTransformerBlock`` as intra or inter model of
    SpeechBrain's ``Dual_Path_Model``, run by :class:`~sfsrnet_modules.dual_path.DualPathSeparator`.

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
        rows = self.norm1(x).flatten(0, 1)  # [B * R, L, N]
        attended, _ = self.attention(rows, rows, rows, need_weights=False)  # [B * R, L, N]
        x = x + attended.view_as(x)  # [B, R, L, N]
        return x + self.feed_forward(self.norm2(x))


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
        self.conv = nn.Conv2d(d_ffn, d_model, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `x` [B, R, L, N]; items of the batch don't see each other."""
        x = torch.relu(self.linear(x))  # [B, R, L, F]
        x = self.conv(x.permute(0, 3, 1, 2))  # [B, N, R, L]
        return x.permute(0, 2, 3, 1)  # [B, R, L, N]
