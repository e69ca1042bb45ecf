"""The super-resolution network (SR): refines the estimates' magnitudes, above all the high band.

Source: Rixen & Renz, AAAI 2022, section on super-resolution. What the paper leaves open is a switch
of :class:`SuperResolution`; the default is named there.
B batch, T samples, C sources, F frequency bins, L frames.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from speechbrain.lobes.models.dual_path import select_norm
from torch import Tensor, nn

from sfsrnet_modules.common.precision import in_float32
from sfsrnet_modules.models.cpu import Conv2d
from sfsrnet_modules.models.stft import STFT

GRID = 4  # bins and frames that the form "subpixel" takes as one: a sixteenth of the places
FLOOR = 1e-5  # of magnitudes, -100 dB of a full-scale sine's bin: keeps quotients finite in silence
TINY = 1e-20  # of squared magnitudes, -200 dB
MAX_QUOTIENT = 2.0  # a source's share of the mixture is about 0..1, more where sources cancel


class SuperResolution(nn.Module):
    """Adds what four 2-D convolutions find missing to the spectra of the estimates.

    They see the magnitudes of the mixture, of the C estimates and, with the heuristic, of C guesses
    at the high band. As published they change magnitudes; the phase stays the estimate's own. The
    output layer starts at zero, so that training starts from the estimate itself.

    The complex targets reach the phase too. All they see and add is turned by the mixture's phase,
    so that a shift in time changes nothing: the C estimates are part of the input as real and
    imaginary part in phase with the mixture and a quarter of a turn ahead of it.

    Arguments
    ---------
    num_spks : int
        Sources C.
    n_fft : int
        STFT frame in samples (paper: 256, 32 ms at 8 kHz).
    hop : int
        STFT step in samples (paper: 64, 8 ms at 8 kHz).
    channels : sequence of int
        Filters of the convolutions but the last, which has C (paper: 128, 256, 128).
    kernels : sequence of int
        Sides of the square kernels, odd, one more than `channels` (paper: 5, 9, 11, 11).
    heuristic : bool
        Whether the guesses at the high band are part of the input.
    quotient : str
        Of the heuristic: "estimate_over_mixture" or "mixture_over_estimate".
    norm : str or None
        Before each ReLU: "cln" (over channels at each bin), "gln" or "ln" (over the whole item) as
        SpeechBrain names them, "bn" (over the batch), None.
    last_relu : bool
        A ReLU on the last convolution as well; the residual can then take no energy away, and the
        layer does not start at zero, where such a ReLU would let nothing be learnt.
    form : str
        Of the convolutions. "dense": the paper's. "separable": each as a depthwise one and a
        pointwise one, 1/49 of the multiply-accumulates at the paper's sizes. "subpixel": dense on a
        grid of 4 bins x 4 frames, whose bins become channels before and bins again after (Shi et
        al., CVPR 2016), 1/14.
    target : str
        What is added. "magnitude": the paper's. "complex_mask": a complex share of the mixture's
        spectrum. "complex_residual": a spectrum, in the phase of the mixture.

    Raises
    ------
    ValueError
        Where an option is none of those named here.

    Example
    -------
    >>> sr = SuperResolution(num_spks=2, channels=[8, 8, 8], kernels=[3, 3, 3, 3])
    >>> mixture, estimate = torch.randn(4, 1001), torch.randn(4, 1001, 2)
    >>> refined = sr(mixture, estimate)
    >>> torch.allclose(refined, estimate, atol=1e-5)
    True
    """

    def __init__(
        self,
        num_spks: int = 2,
        n_fft: int = 256,
        hop: int = 64,
        channels: tuple[int, ...] = (128, 256, 128),
        kernels: tuple[int, ...] = (5, 9, 11, 11),
        heuristic: bool = True,
        quotient: str = "estimate_over_mixture",
        norm: str | None = "cln",
        last_relu: bool = False,
        form: str = "dense",
        target: str = "magnitude",
    ):
        super().__init__()
        _check_choice("quotient", quotient, QUOTIENTS)
        _check_choice("norm", norm, ("cln", "gln", "ln", "bn", None))
        _check_choice("form", form, ("dense", "separable", "subpixel"))
        _check_choice("target", target, ("magnitude", "complex_mask", "complex_residual"))
        self.stft = STFT(n_fft, hop)
        self.heuristic = heuristic
        self.quotient = quotient
        self.target = target
        self.grid = GRID if form == "subpixel" else 1
        is_complex = target != "magnitude"
        inputs = 1 + (1 + heuristic + 2 * is_complex) * num_spks
        outputs = (1 + is_complex) * num_spks
        self.layers = _convolutions([inputs, *channels, outputs], kernels, norm, last_relu, form)

    def forward(self, mixture: Tensor, estimate: Tensor) -> Tensor:
        """Refine `estimate`.

        Arguments
        ---------
        mixture : torch.Tensor
            [B, T].
        estimate : torch.Tensor
            [B, T, C].

        Returns
        -------
        torch.Tensor
            [B, T, C], of exactly the length of the estimate.
        """
        mixture = self._spectrum(mixture.unsqueeze(2))  # [B, 1, F, L]
        spectrum = self._spectrum(estimate)  # [B, C, F, L]
        residual = self.convolve(self._features(mixture, spectrum))  # [B, C or 2 C, F, L]
        if self.target == "magnitude":
            change = _in_own_phase(residual, spectrum)  # [B, C, F, L]
        else:
            share = Spectrum(*residual.chunk(2, dim=1))  # [B, C, F, L]
            change = share * (mixture if self.target == "complex_mask" else mixture.phase)
        return self._waveform(spectrum + change, estimate.shape[1])  # [B, T, C]

    def _features(self, mixture: "Spectrum", spectrum: "Spectrum") -> Tensor:
        magnitudes = mixture.magnitude, spectrum.magnitude
        features = [*magnitudes]
        if self.heuristic:
            features.append(high_band_guess(*magnitudes, self.quotient))
        if self.target != "magnitude":
            # not by +=, which torch.compile of PyTorch 2.11 refuses of named tuples
            features.extend(spectrum * mixture.phase.conjugate)
        return torch.cat(features, dim=1)

    def convolve(self, features: Tensor) -> Tensor:
        """Run the convolutions on `features` [B, inputs, F, L]: [B, outputs, F, L]."""
        num_bins, num_frames = features.shape[2:]
        padded = F.pad(features, (0, -num_frames % self.grid, 0, -num_bins % self.grid))
        # channels last in memory: what CPUs convolve quickest, and what the norm works along
        padded = padded.contiguous(memory_format=torch.channels_last)
        return self.layers(padded)[:, :, :num_bins, :num_frames].to(features.dtype)

    @in_float32
    def _spectrum(self, waveform: Tensor) -> "Spectrum":
        return Spectrum(*self.stft(waveform))

    @in_float32
    def _waveform(self, spectrum: "Spectrum", num_samples: int) -> Tensor:
        return self.stft.inverse(*spectrum, num_samples)


class Spectrum(NamedTuple):
    """Complex numbers [B, C, F, L] as real and imaginary part, which all devices compute with.

    Example
    -------
    >>> unit = Spectrum(torch.tensor(0.0), torch.tensor(2.0)).phase
    >>> unit * unit
    Spectrum(real=tensor(-1.), imaginary=tensor(0.))
    """

    real: Tensor
    imaginary: Tensor

    def __add__(self, other: "Spectrum") -> "Spectrum":
        return Spectrum(self.real + other.real, self.imaginary + other.imaginary)

    def __mul__(self, other: "Spectrum") -> "Spectrum":
        return Spectrum(
            self.real * other.real - self.imaginary * other.imaginary,
            self.real * other.imaginary + self.imaginary * other.real,
        )

    @property
    def conjugate(self) -> "Spectrum":
        return Spectrum(self.real, -self.imaginary)

    @property
    def magnitude(self) -> Tensor:
        """[B, C, F, L]; the slope of a root has no end at zero, so that is kept away."""
        return (self.real.square() + self.imaginary.square()).clamp_min(TINY).sqrt()

    @property
    def phase(self) -> "Spectrum":
        """The numbers as they are at magnitude 1."""
        magnitude = self.magnitude.clamp_min(FLOOR)
        return Spectrum(self.real / magnitude, self.imaginary / magnitude)


def high_band_guess(mixture: Tensor, estimate: Tensor, quotient: str) -> Tensor:
    """Guess the high half of each estimate's spectrum from its low half: the paper's heuristic.

    At each frame the low halves are summed over frequency; their quotient, floored and clamped so
    that silence gives no infinity, times the mixture's high half is the guess.

    Arguments
    ---------
    mixture : torch.Tensor
        Magnitudes [B, 1, F, L].
    estimate : torch.Tensor
        Magnitudes [B, C, F, L].
    quotient : str
        "estimate_over_mixture": the estimate's share of the low band, which the paper's words
        describe. "mixture_over_estimate": its inverse, as in the paper's formula.

    Returns
    -------
    torch.Tensor
        [B, C, F, L], zero in the low half.

    Example
    -------
    >>> mixture = torch.ones(1, 1, 4, 1)
    >>> high_band_guess(mixture, 0.25 * mixture, "estimate_over_mixture").flatten()
    tensor([0.0000, 0.0000, 0.2500, 0.2500])
    """
    half = mixture.shape[2] // 2
    low_mixture = mixture[:, :, :half].sum(2, keepdim=True)  # [B, 1, 1, L]
    low_estimate = estimate[:, :, :half].sum(2, keepdim=True)  # [B, C, 1, L]
    share = QUOTIENTS[quotient](low_mixture, low_estimate)  # [B, C, 1, L]
    guess = share * mixture[:, :, half:]  # [B, C, F - half, L]
    return torch.cat([torch.zeros_like(estimate[:, :, :half]), guess], dim=2)


def _floored_quotient(over: Tensor, under: Tensor) -> Tensor:
    return (over / under.clamp_min(FLOOR)).clamp_max(MAX_QUOTIENT)


QUOTIENTS = {
    "estimate_over_mixture": lambda mixture, estimate: _floored_quotient(estimate, mixture),
    "mixture_over_estimate": lambda mixture, estimate: _floored_quotient(mixture, estimate),
}


def _in_own_phase(residual: Tensor, spectrum: Spectrum) -> Spectrum:
    """A change of the magnitude; the sum stays >= 0."""
    magnitude = spectrum.magnitude
    change = torch.relu(magnitude + residual) - magnitude  # [B, C, F, L]
    real, imaginary = spectrum.phase
    return Spectrum(change * real, change * imaginary)


def _convolutions(
    channels: list[int], kernels: tuple[int, ...], norm: str | None, last_relu: bool, form: str
) -> nn.Sequential:
    if len(kernels) != len(channels) - 1:
        raise ValueError(
            f"{len(kernels)} kernels for {len(channels) - 2} channels: give one kernel more than "
            "channels, the last convolution has a filter a source"
        )
    if form == "subpixel":
        channels = [channels[0] * GRID**2, *channels[1:-1], channels[-1] * GRID**2]
    convolution = _separable if form == "separable" else _dense
    layers = []
    for n_in, n_out, kernel in zip(channels[:-1], channels[1:], kernels, strict=True):
        layers += [convolution(n_in, n_out, kernel), _norm(norm, n_out), nn.ReLU()]
    if last_relu:
        del layers[-2]  # no norm before the last
    else:
        del layers[-2:]
        start_at_zero(layers[-1])
    if form == "subpixel":
        layers = [nn.PixelUnshuffle(GRID), *layers, nn.PixelShuffle(GRID)]
    return nn.Sequential(*layers)


def _dense(n_in: int, n_out: int, kernel: int, groups: int = 1) -> nn.Conv2d:
    return Conv2d(n_in, n_out, kernel, padding=kernel // 2, groups=groups)


def _separable(n_in: int, n_out: int, kernel: int) -> nn.Sequential:
    """A depthwise convolution on the side with more channels, a pointwise one to the other side."""
    if n_in < n_out:
        return nn.Sequential(_dense(n_in, n_out, 1), _dense(n_out, n_out, kernel, groups=n_out))
    return nn.Sequential(_dense(n_in, n_in, kernel, groups=n_in), _dense(n_in, n_out, 1))


def start_at_zero(layers: nn.Module) -> None:
    """Let the last convolution give zero at first: training starts from what it adds to."""
    kinds = nn.Conv1d | nn.Conv2d
    last = [module for module in layers.modules() if isinstance(module, kinds)][-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def _norm(name: str | None, channels: int) -> nn.Module:
    if name is None:
        return nn.Identity()
    if name == "cln":
        return ChannelNorm(channels, eps=1e-8)
    return nn.BatchNorm2d(channels) if name == "bn" else select_norm(name, channels, 4)


class ChannelNorm(nn.LayerNorm):
    """SpeechBrain's "cln" for maps [B, C, F, L], without copying them to another memory layout."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each bin of `x` [B, C, F, L] over its channels."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _check_choice(key: str, value: str | None, choices) -> None:
    if value not in choices:
        raise ValueError(f"{key} is {value!r}: choose one of {', '.join(map(str, choices))}")
