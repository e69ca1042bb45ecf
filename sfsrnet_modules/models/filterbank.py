"""Where the encoder's and the decoder's filters begin: windowed sines instead of noise.

N filters, K samples of a filter.
"""

import math

import torch
from torch import Tensor, nn


def begin_as_sines(encoder: nn.Module, decoder: nn.Module) -> None:
    """Set the filters of an encoder and its decoder to windowed sines; training moves them on.

    From noise the filters have to find out about frequency first, which takes a large part of a
    short training. Not in the paper; after Pariente et al., *Filterbank design for end-to-end
    speech separation* (ICASSP 2020), whose filters come with their quadrature too.

    Arguments
    ---------
    encoder : speechbrain.lobes.models.dual_path.Encoder
        Its filters number a multiple of 4: see :func:`windowed_sines`.
    decoder : speechbrain.lobes.models.dual_path.Decoder
        Gets the same filters.

    Raises
    ------
    ValueError
        Where the number of filters is no multiple of 4.
    """
    filters = windowed_sines(*encoder.conv1d.weight.shape[::2])  # [N, K]
    with torch.no_grad():
        for layer in (encoder.conv1d, decoder):
            layer.weight.copy_(filters.unsqueeze(1))  # [N, 1, K]


def windowed_sines(num_filters: int, size: int) -> Tensor:
    """Cosine and sine of N / 4 frequencies, each with both signs, as the encoder ends in a ReLU.

    The window is Hann's: half a sine, with which decoding would give back just what was encoded,
    learnt a little slower. The filters are as strong as the noise that PyTorch draws.

    Arguments
    ---------
    num_filters : int
        N, a multiple of 4.
    size : int
        K, in samples.

    Returns
    -------
    torch.Tensor
        [N, K].

    Example
    -------
    >>> filters = windowed_sines(256, 64)
    >>> filters.shape, filters.square().sum(1).mean()
    (torch.Size([256, 64]), tensor(0.3333))
    """
    if num_filters % 4:
        raise ValueError(
            f"{num_filters} filters cannot begin as sines: give a multiple of 4, or let them begin "
            "as noise with --filterbank noise"
        )
    time = torch.arange(size) - (size - 1) / 2  # [K], samples from the middle
    frequencies = (torch.arange(num_filters // 4) + 0.5) * 2 * math.pi / (num_filters // 2)
    phases = frequencies.unsqueeze(1) * time  # [N / 4, K]
    waves = torch.cat([phases.cos(), phases.sin()])  # [N / 2, K]
    filters = torch.cat([waves, -waves]) * torch.cos(time * math.pi / size) ** 2  # [N, K]
    return filters / filters.square().sum(1).mean().sqrt() / math.sqrt(3)
