"""The short-time Fourier transform (STFT) in real numbers, for training, inference and ONNX alike.

A matrix product with a fixed DFT instead of an FFT: frames are short, a product is what every
device, compiler and runtime computes well, and no complex numbers are left to any of them.
B batch, T samples, C sources, F frequency bins, L frames of K samples, a hop apart.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class STFT(nn.Module):
    """``torch.stft`` and ``torch.istft`` with a Hann window; zeros surround the waveform.

    Arguments
    ---------
    n_fft : int
        K, frame in samples.
    hop : int
        Step in samples; a frame is two or more whole hops.

    Raises
    ------
    ValueError
        Where a frame is not.

    Example
    -------
    >>> stft = STFT(256, 64)
    >>> waveform = torch.randn(2, 1001, 3)  # [B, T, C]
    >>> real, imaginary = stft(waveform)
    >>> real.shape  # [B, C, F, L]
    torch.Size([2, 3, 129, 16])
    >>> torch.allclose(stft.inverse(real, imaginary, 1001), waveform, atol=1e-5)
    True
    """

    def __init__(self, n_fft: int, hop: int):
        super().__init__()
        if n_fft % 2 or n_fft % hop or n_fft < 2 * hop:
            raise ValueError(
                f"n_fft is {n_fft} and hop {hop}: give an even n_fft that is two or more whole "
                "hops, such as --n_fft 256 --hop 64"
            )
        self.n_fft, self.hop = n_fft, hop
        window = torch.hann_window(n_fft, dtype=torch.float64)
        bins = torch.fft.rfft(torch.eye(n_fft, dtype=torch.float64)).mT  # [F, K]
        dft = torch.cat([bins.real, bins.imag])  # [2 F, K]
        mirrored = torch.full((n_fft // 2 + 1, 1), 2.0)  # bins below 0 Hz
        mirrored[0] = mirrored[-1] = 1.0
        tables = {
            "analysis": dft * window,
            "synthesis": dft * window * mirrored.repeat(2, 1) / n_fft,  # [2 F, K]
            "power": window.square(),
        }
        for name, value in tables.items():
            self.register_buffer(name, value.float(), persistent=False)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Transform `waveform` [B, T, C] to real and imaginary part, [B, C, F, L] each."""
        num_samples = waveform.shape[1]
        half = self.n_fft // 2
        padded = F.pad(waveform.mT, (half, half - num_samples % self.hop))  # [B, C, T']
        frames = cut_frames(padded, self.n_fft, self.hop)  # [B, C, L, K]
        real, imaginary = (self.analysis @ frames.mT).chunk(2, dim=2)  # [B, C, F, L] each
        return real, imaginary

    def inverse(self, real: Tensor, imaginary: Tensor, num_samples: int) -> Tensor:
        """Transform [B, C, F, L] back to a waveform [B, `num_samples`, C]."""
        frames = torch.cat([real, imaginary], dim=2).mT @ self.synthesis  # [B, C, L, K]
        waveform = add_frames(frames, self.hop)  # [B, C, T']
        power = add_frames(self.power.expand(frames.shape[2], -1), self.hop)  # [T']
        half = self.n_fft // 2
        kept = slice(half, half + num_samples)
        return (waveform[..., kept] / power[kept]).mT  # [B, T, C]


def cut_frames(x: Tensor, size: int, hop: int) -> Tensor:
    """Cut `x` [..., T], of whole hops, into frames [..., L, K] of `size` samples, whole hops too.

    Example
    -------
    >>> cut_frames(torch.arange(8), 4, 2)
    tensor([[0, 1, 2, 3],
            [2, 3, 4, 5],
            [4, 5, 6, 7]])
    """
    hops = x.unflatten(-1, (-1, hop))  # [..., T / hop, hop]
    num_frames = hops.shape[-2] - size // hop + 1
    return torch.cat([hops[..., i : i + num_frames, :] for i in range(size // hop)], dim=-1)


def add_frames(frames: Tensor, hop: int) -> Tensor:
    """Overlap-add `frames` [..., L, K], a hop apart, to [..., (L - 1) * hop + K].

    Example
    -------
    >>> add_frames(torch.ones(3, 5, dtype=torch.int), 2)
    tensor([1, 1, 2, 2, 3, 2, 2, 1, 1], dtype=torch.int32)
    """
    size = frames.shape[-1]
    frames = F.pad(frames, (0, -size % hop)).unflatten(-1, (-1, hop))  # [..., L, K / hop, hop]
    count = frames.shape[-2]
    shifted = [F.pad(frames[..., i, :], (0, 0, i, count - 1 - i)) for i in range(count)]
    added = sum(shifted[1:], start=shifted[0]).flatten(-2)  # [..., (L - 1) * hop + K']
    return added[..., : added.shape[-1] - -size % hop]
