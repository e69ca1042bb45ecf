"""Stands in for a model: it knows the sources, and gives them in an order of its own each time."""

import torch
from torch import Tensor

from sfsrnet_modules.inference.segments import cut

WINDOW = torch.hann_window(256)  # of the masks


class Oracle:
    """Separates the segments of one recording, one after the other.

    Arguments
    ---------
    sources : torch.Tensor
        [T, C].
    size, overlap : int
        Those of the segments, in samples.
    scales : tuple of float
        Of the estimates: SI-SNR leaves it open.
    roughness : float, optional
        Separate with masks of this much noise. Default: give the sources themselves.
    """

    def __init__(self, sources: Tensor, size: int, overlap: int, scales=(1.0, 1.0), roughness=None):
        self.sources, self.mixture = sources, sources.sum(1)
        indices = [torch.arange(len(sources))]
        self.starts = [int(segment[0]) for segment, _ in cut(indices, size, overlap)]
        self.scales, self.roughness = torch.tensor(scales), roughness
        self.estimates = []  # as they were given, [T, C] each

    def __call__(self, mixture: Tensor) -> Tensor:
        start = self.starts[len(self.estimates)]
        assert torch.equal(mixture, self.mixture[start : start + len(mixture)])
        sources = self.sources[start : start + len(mixture)]
        voices = sources if self.roughness is None else masked(mixture, sources, self.roughness)
        voices = (voices * self.scales)[:, torch.randperm(sources.shape[1])]
        self.estimates.append(voices)
        return voices


def masked(mixture: Tensor, sources: Tensor, roughness: float) -> Tensor:
    """Separate `mixture` [T] with ratio masks to which noise is added: [T, C]."""
    spectrum = _stft(mixture)
    masks = _stft(sources.mT).abs() + 1e-6
    masks = masks / masks.sum(0)
    masks = masks + roughness * torch.rand(masks.shape)
    voices = spectrum * masks / masks.sum(0)
    return torch.istft(voices, 256, 64, window=WINDOW, length=len(mixture)).mT


def _stft(x: Tensor) -> Tensor:
    return torch.stft(x, 256, 64, window=WINDOW, pad_mode="constant", return_complex=True)
