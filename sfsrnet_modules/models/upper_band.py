"""Super-resolution above the band of a finished model: what each voice has of the mixture there.

B batch, T samples, C sources, F frequency bins, L frames, N channels.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfsrnet_modules.common.precision import in_float32
from sfsrnet_modules.models.stft import STFT
from sfsrnet_modules.models.super_resolution import Spectrum, start_at_zero

EDGE = 0.84  # of the lower band: from there on the resampling filter leaves something above
TOP = 0.75  # of the lower band: the quarter above it tells best whose the upper band is
GROUPS = 32  # equal parts of the lower band whose levels the convolutions see
FLOOR = 1e-4  # of magnitudes, -80 dB of a full-scale sine's bin: keeps logarithms finite
TINY = 1e-6  # of sums of magnitudes: in silence all voices have equal shares


class UpperBand(nn.Module):
    """Restores the upper band of each voice from the mixture's, by what the voices do below it.

    The heuristic: a voice's share of the uppermost quarter of the lower band, frame by frame, is
    its share of the upper band. Convolutions over time, whose channels are frequencies, add to the
    logarithms of these shares at each bin. The shares of all voices add up to one: the real part of
    a complex mask on the mixture's spectrum, whose imaginary part the convolutions give too. They
    see the spectrum of the mixture's upper band, and the levels of the voice and of the others in
    narrow parts of the lower one. They are the same for each voice, so that the order of the voices
    makes no difference, and their last layer starts at zero: training starts from the heuristic.

    Arguments
    ---------
    sample_rate : int
        Hz, of mixture and voices.
    low_rate : int
        Hz, twice the width of the lower band.
    n_fft : int
        STFT frame in samples.
    hop : int
        STFT step in samples.
    channels : int
        N of the convolutions.
    layers : int
        Convolutions before the last.
    kernel : int
        Frames that each of them sees, odd.

    Example
    -------
    >>> upper_band = UpperBand()
    >>> mixture, voices = torch.randn(4, 1001), torch.randn(4, 1001, 2)
    >>> upper_band(mixture, voices).shape
    torch.Size([4, 1001, 2])
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        low_rate: int = 8000,
        n_fft: int = 512,
        hop: int = 128,
        channels: int = 128,
        layers: int = 3,
        kernel: int = 3,
    ):
        super().__init__()
        self.stft = STFT(n_fft, hop)
        self.num_low = n_fft * low_rate // sample_rate // 2  # bins of the lower band
        self.first = round(EDGE * self.num_low)  # bin of the upper band
        num_upper = n_fft // 2 + 1 - self.first
        self.layers = _convolutions(
            [2 * GROUPS + num_upper, *[channels] * layers, 2 * num_upper], kernel
        )

    @in_float32
    def forward(self, mixture: Tensor, voices: Tensor) -> Tensor:
        """Restore the upper band.

        Arguments
        ---------
        mixture : torch.Tensor
            Upper band of the mixture, [B, T].
        voices : torch.Tensor
            Lower band of the voices, [B, T, C].

        Returns
        -------
        torch.Tensor
            Upper band of the voices, [B, T, C].
        """
        mixture_spectrum = self._spectrum(mixture.unsqueeze(2))
        upper = Spectrum(*(part[:, :, self.first :] for part in mixture_spectrum))  # [B, 1, F, L]
        lower = self._spectrum(voices).magnitude[:, :, : self.num_low]  # [B, C, F', L]
        real, imaginary = self._correction(upper.magnitude, lower).chunk(2, dim=2)  # [B, C, F, L]
        mask = Spectrum((share_of_top(lower).log() + real).softmax(1), imaginary)
        silent = (0, 0, self.first, 0)  # bins of the lower band
        restored = (F.pad(part, silent) for part in mask * upper)
        return self.stft.inverse(*restored, voices.shape[1])  # [B, T, C]

    def _spectrum(self, waveform: Tensor) -> Spectrum:
        return Spectrum(*self.stft(waveform))

    def _correction(self, upper: Tensor, lower: Tensor) -> Tensor:
        """Convolve magnitudes [B, 1, F, L] and [B, C, F', L]: [B, C, 2 F, L]."""
        others = lower.sum(1, keepdim=True) - lower
        levels = (_in_groups(lower), _in_groups(others), upper.expand(-1, lower.shape[1], -1, -1))
        features = 1 + torch.cat(levels, dim=2).clamp_min(FLOOR).log10()  # [B, C, N, L]
        return self.layers(features.flatten(0, 1)).unflatten(0, lower.shape[:2])


def share_of_top(magnitudes: Tensor) -> Tensor:
    """Return each voice's share of the upper quarter of a band, frame by frame: the heuristic.

    The paper's is the share of the whole band. What lies next to the upper band tells more of it:
    by it alone the upper band comes out 2 dB better (``benchmarks/wide.md``).

    Arguments
    ---------
    magnitudes : torch.Tensor
        Of the voices, [B, C, F, L].

    Returns
    -------
    torch.Tensor
        [B, C, 1, L]; equal shares in silence.

    Example
    -------
    >>> magnitudes = torch.tensor([[9.0, 9.0, 9.0, 1.0], [0.0, 0.0, 0.0, 3.0]])
    >>> share_of_top(magnitudes[None, :, :, None]).flatten()
    tensor([0.2500, 0.7500])
    """
    first = round(TOP * magnitudes.shape[2])
    top = magnitudes[:, :, first:].sum(2, keepdim=True) + TINY  # [B, C, 1, L]
    return top / top.sum(1, keepdim=True)


def _in_groups(magnitudes: Tensor) -> Tensor:
    """Average `magnitudes` [B, C, F, L] over neighbouring bins: [B, C, GROUPS, L]."""
    return magnitudes.unflatten(2, (GROUPS, -1)).mean(3)


def _convolutions(channels: list[int], kernel: int) -> nn.Sequential:
    *hidden, last = pairwise(channels)
    layers = []
    for n_in, n_out in hidden:
        convolution = nn.Conv1d(n_in, n_out, kernel, padding=kernel // 2)
        layers += [convolution, nn.GroupNorm(1, n_out), nn.PReLU()]
    layers.append(nn.Conv1d(*last, 1))  # of the mask
    start_at_zero(layers[-1])
    return nn.Sequential(*layers)
