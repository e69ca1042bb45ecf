"""Writes a model as ONNX: mixture [B, T] in, voices [B, T, C] out, any batch and any length.

What ONNX cannot hold is computed otherwise here, with the same outcome: the STFT of SR as a
convolution with a fixed DFT, without complex numbers; positions beyond a table by their formula;
norms over a whole item with their sums in float64. Attention, convolutions, other norms, chunks and
overlap-add are the model's own. SepFormer, SFSRNet and Conv-TasNet can be exported. DPRNN can't:
PyTorch's export fixes the length of an LSTM's input.
B batch, T samples, C sources, F frequency bins, L frames.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfsrnet_modules.models import transformer
from sfsrnet_modules.models.sfsrnet import SFSRNet
from sfsrnet_modules.models.super_resolution import FLOOR, SuperResolution, high_band_guess

OPSET = 18
TOLERANCE = 1e-4  # of the loudest sample: largest difference between ONNX and PyTorch
TRACED = (2, 0.75)  # items, s: what the export is shown
CHECKED = ((1, 0.4), (3, 1.01), (1, 2.7))  # items, s: what it is then checked on


def export_onnx(model: SFSRNet, path: str | Path, sample_rate: int) -> Path:
    """Write `model` as ONNX and check it with onnxruntime on other lengths than it was shown.

    The file says its ``sample_rate`` in its metadata. Input ``mixture`` [B, T], of at least one
    frame of the encoder; output ``voices`` [B, T, C], whose scale is open.

    Arguments
    ---------
    model : SFSRNet
        The trained model.
    path : str or Path
        The file.
    sample_rate : int
        Hz.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        Where a package is missing, or ONNX can't hold the model.
    """
    _check_exportable(model)
    model = model.eval()
    program = _trace(OnnxSeparation(model).eval(), sample_rate)
    program.model.metadata_props["sample_rate"] = str(sample_rate)
    program.save(path)
    difference = largest_difference(model, path, sample_rate)
    if difference > TOLERANCE:
        Path(path).unlink()
        raise ValueError(
            f"the ONNX network differs from PyTorch's by {difference:.1e} of the loudest sample, "
            f"more than {TOLERANCE:.0e}: leave --onnx away and report the model"
        )
    return Path(path)


def _check_exportable(model: SFSRNet) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise ValueError(
                f"no package {package}: pip install 'sfsrnet-speechbrain[onnx]', or leave --onnx "
                "away"
            )
    if any(isinstance(part, nn.RNNBase) for part in model.modules()):
        raise ValueError(
            "a model with recurrent layers (DPRNN) can't be exported as ONNX, as PyTorch's export "
            "fixes the length of their input: leave --onnx away"
        )


def _trace(network: nn.Module, sample_rate: int) -> torch.onnx.ONNXProgram:
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    batch, seconds = TRACED
    with any_length():
        return torch.onnx.export(
            network,
            (torch.randn(batch, round(seconds * sample_rate)),),
            input_names=["mixture"],
            output_names=["voices"],
            dynamic_shapes={"mixture": {0: torch.export.Dim("batch"), 1: torch.export.Dim.DYNAMIC}},
            opset_version=OPSET,
            verbose=False,
        )


@torch.inference_mode()
def largest_difference(model: SFSRNet, path: str | Path, sample_rate: int) -> float:
    """Return how far onnxruntime is from PyTorch at most, as a share of the loudest sample."""
    import onnxruntime  # an extra of the package

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch, seconds in CHECKED:
        mixture = 0.1 * torch.randn(batch, round(seconds * sample_rate))
        expected = model(mixture)[-1]  # [B, T, C]
        voices = torch.from_numpy(session.run(None, {"mixture": mixture.numpy()})[0])
        difference = (voices - expected).abs().max() / expected.abs().max()
        worst = max(worst, difference.item())
    return worst


class OnnxSeparation(nn.Module):
    """An :class:`~sfsrnet_modules.models.sfsrnet.SFSRNet`'s answer, in operations that ONNX knows.

    Arguments
    ---------
    model : SFSRNet
        In evaluation.

    Example
    -------
    >>> from conftest import tiny_sfsrnet
    >>> model = tiny_sfsrnet().eval()
    >>> mixture = torch.randn(2, 1001)
    >>> torch.allclose(OnnxSeparation(model)(mixture), model(mixture)[-1], atol=1e-5)
    True
    """

    def __init__(self, model: SFSRNet):
        super().__init__()
        self.conditioning = model.conditioning
        self.separator = model.separator
        sr = model.super_resolution
        self.super_resolution = None if sr is None else RealSuperResolution(sr)

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate `mixture` [B, T] into [B, T, C]."""
        mixture, gain = self.conditioning(mixture)  # [B, T], [B, 1]
        estimate = self.separator(mixture, False)[-1]  # [B, T, C]
        if self.super_resolution is not None:
            estimate = self.super_resolution(mixture, estimate)
        return estimate / gain.unsqueeze(2)


class RealSuperResolution(nn.Module):
    """A :class:`~sfsrnet_modules.models.super_resolution.SuperResolution` without complex numbers.

    Arguments
    ---------
    sr : SuperResolution
        Whose convolutions are used.
    """

    def __init__(self, sr: SuperResolution):
        super().__init__()
        self.sr = sr
        self.stft = RealSTFT(sr.n_fft, sr.hop, sr.window)

    def forward(self, mixture: Tensor, estimate: Tensor) -> Tensor:
        """Refine `estimate` [B, T, C] of `mixture` [B, T], as the original does."""
        mixture_real, mixture_imaginary = self.stft(mixture.unsqueeze(2))  # [B, 1, F, L] each
        mixture_magnitude = _magnitude(mixture_real, mixture_imaginary)  # [B, 1, F, L]
        real, imaginary = self.stft(estimate)  # [B, C, F, L] each
        magnitude = _magnitude(real, imaginary)  # [B, C, F, L]
        features = [mixture_magnitude, magnitude]
        if self.sr.heuristic:
            features.append(high_band_guess(mixture_magnitude, magnitude, self.sr.quotient))
        if self.sr.target == "magnitude":
            residual = self.sr.convolve(torch.cat(features, dim=1))  # [B, C, F, L]
            change = torch.relu(magnitude + residual) - magnitude
            gain = 1 + change / magnitude.clamp_min(FLOOR)  # [B, C, F, L], the phase stays
            real, imaginary = gain * real, gain * imaginary
        else:
            floored = mixture_magnitude.clamp_min(FLOOR)
            cos, sin = mixture_real / floored, mixture_imaginary / floored  # [B, 1, F, L]
            features += [real * cos + imaginary * sin, imaginary * cos - real * sin]
            share = self.sr.convolve(torch.cat(features, dim=1)).chunk(
                2, dim=1
            )  # [B, C, F, L] each
            of_mixture = self.sr.target == "complex_mask"
            turn = (mixture_real, mixture_imaginary) if of_mixture else (cos, sin)
            real = real + share[0] * turn[0] - share[1] * turn[1]
            imaginary = imaginary + share[0] * turn[1] + share[1] * turn[0]
        return self.stft.inverse(real, imaginary, estimate.shape[1])  # [B, T, C]


def _magnitude(real: Tensor, imaginary: Tensor) -> Tensor:
    return (real.square() + imaginary.square()).sqrt()


class RealSTFT(nn.Module):
    """``torch.stft`` and ``torch.istft`` as convolutions with a fixed DFT.

    Arguments
    ---------
    n_fft : int
        Frame in samples.
    hop : int
        Step in samples, at most half a frame.
    window : torch.Tensor
        [n_fft].

    Example
    -------
    >>> stft = RealSTFT(256, 64, torch.hann_window(256))
    >>> waveform = torch.randn(2, 1001, 3)  # [B, T, C]
    >>> torch.allclose(stft.inverse(*stft(waveform), 1001), waveform, atol=1e-5)
    True
    """

    def __init__(self, n_fft: int, hop: int, window: Tensor):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        bins = torch.fft.rfft(torch.eye(n_fft, dtype=torch.float64)).mT  # [F, n_fft]
        dft = torch.cat([bins.real, bins.imag]) * window.double()  # [2 F, n_fft]
        mirrored = torch.full((n_fft // 2 + 1, 1), 2.0, dtype=torch.float64)  # bins below 0 Hz
        mirrored[0] = mirrored[-1] = 1.0
        synthesis = dft * mirrored.repeat(2, 1) / n_fft  # [2 F, n_fft]
        for name, kernel in (("dft", dft), ("synthesis", synthesis), ("power", window[None] ** 2)):
            self.register_buffer(name, kernel.unsqueeze(1).float(), persistent=False)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Transform `waveform` [B, T, C] to real and imaginary part, [B, C, F, L] each."""
        signals = waveform.mT.flatten(0, 1).unsqueeze(1)  # [B * C, 1, T]
        spectrum = F.conv1d(signals, self.dft, stride=self.hop, padding=self.n_fft // 2)
        spectrum = spectrum.unflatten(0, (-1, waveform.shape[2]))  # [B, C, 2 F, L]
        real, imaginary = spectrum.chunk(2, dim=2)
        return real, imaginary

    def inverse(self, real: Tensor, imaginary: Tensor, num_samples: int) -> Tensor:
        """Transform [B, C, F, L] back to a waveform [B, `num_samples`, C]."""
        spectrum = torch.cat([real, imaginary], dim=2).flatten(0, 1)  # [B * C, 2 F, L]
        envelope = self._overlap_add(torch.ones_like(spectrum[:1, :1]), self.power, num_samples)
        waveform = self._overlap_add(spectrum, self.synthesis, num_samples) / envelope
        return waveform.unflatten(0, (-1, real.shape[1])).mT  # [B, T, C]

    def _overlap_add(self, frames: Tensor, kernel: Tensor, num_samples: int) -> Tensor:
        start = self.n_fft // 2  # the zeros that surround the waveform
        signals = F.conv_transpose1d(frames, kernel, stride=self.hop)[:, 0]  # [B * C, T']
        return signals[:, start : start + num_samples]


def encode_positions(table: transformer.LongPositionalEncoding, x: Tensor) -> Tensor:
    """Return what `table` gives for `x` [B, L, N], without a table: [1, L, N]."""
    length, channels = x.shape[1:]
    steps = torch.arange(0, channels, 2, device=x.device)
    frequencies = torch.exp(steps * -(torch.log(torch.tensor(10000.0)) / channels))  # [N / 2]
    angles = torch.arange(length, device=x.device).unsqueeze(1) * frequencies  # [L, N / 2]
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).unsqueeze(0)


def norm_of_item(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Return what `norm` gives for `x` [B, N, ...], its sums over a long recording in float64.

    onnxruntime adds up the millions of values one after the other in float32, and is 1e-3 off.
    """
    if norm.num_groups != 1:
        return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    # scaled, as the export drops "+ eps", taking 1e-8 for zero, but not "+ 1"
    centred = (x - _mean_of_item(x)) * norm.eps**-0.5
    x = centred * (_mean_of_item(centred.square()) + 1).rsqrt()
    per_channel = (-1, *[1] * (x.dim() - 2))
    return x * norm.weight.view(per_channel) + norm.bias.view(per_channel)


def _mean_of_item(x: Tensor) -> Tensor:
    of_channels = x.mean(1, keepdim=True).double()  # [B, 1, ...]
    return of_channels.mean(list(range(2, x.dim())), keepdim=True).to(x.dtype)


@contextmanager
def any_length() -> Iterator[None]:
    """Within it nothing in the network depends on the length that it is shown."""
    with (
        patch.object(transformer.LongPositionalEncoding, "forward", encode_positions),
        patch.object(nn.GroupNorm, "forward", norm_of_item),
    ):
        yield
