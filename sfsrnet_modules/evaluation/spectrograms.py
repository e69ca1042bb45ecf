"""Draws waveforms as spectrograms, in dB over time and linear frequency."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

matplotlib.use("Agg")  # no screen on a cluster
from matplotlib import pyplot as plt

DYNAMIC_RANGE = 70  # dB below the loudest bin: what is softer is drawn black
SILENCE_DB = -100  # a picture's loudest bin is not below it: silence is drawn black
FRAME, HOP = 0.032, 0.008  # s, those of SR
MAX_COLUMNS = 1500  # of a picture: of long recordings a column is the mean of several frames


def spectrogram(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return the spectrogram of a `waveform` [T] in dB, [F, L] with L of at most 1500.

    Example
    -------
    >>> spectrogram(torch.randn(8000), 8000).shape
    torch.Size([129, 125])
    """
    return spectrogram_of_blocks([waveform.numpy()], len(waveform), sample_rate)


def spectrogram_of_blocks(
    blocks: Iterable[np.ndarray], num_samples: int, sample_rate: int
) -> Tensor:
    """Return the spectrogram of a stream in dB, [F, L], in constant memory.

    Arguments
    ---------
    blocks : iterable of np.ndarray
        [T] each.
    num_samples : int
        Of all blocks.
    sample_rate : int
        Hz.
    """
    n_fft, hop = round(FRAME * sample_rate), round(HOP * sample_rate)
    num_frames = -(-num_samples // (hop * MAX_COLUMNS))  # in a column
    window = torch.hann_window(n_fft)
    columns = []
    for piece in _pieces(blocks, hop * num_frames, n_fft - hop):
        spectrum = torch.stft(piece, n_fft, hop, window=window, center=False, return_complex=True)
        columns.append(spectrum.abs().square().mean(1))  # [F]
    return 10 * torch.stack(columns, dim=1).clamp_min(1e-16).log10()  # [F, L]


def _pieces(blocks: Iterable[np.ndarray], hop: int, overlap: int) -> Iterator[Tensor]:
    """Cut a stream into pieces [hop + overlap], the last one filled with zeros."""
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= hop + overlap:
            yield torch.from_numpy(held[: hop + overlap])
            held = held[hop:]
    while len(held):
        yield torch.from_numpy(np.pad(held, (0, hop + overlap))[: hop + overlap])
        held = held[hop:]


def draw_grid(rows: dict[str, list[Tensor]], seconds: float, sample_rate: int, path: Path) -> None:
    """Write spectrograms [F, L] as a picture, a row a name.

    Arguments
    ---------
    rows : dict
        Name to one spectrogram, or to one a speaker.
    seconds : float
        What they last.
    sample_rate : int
        Hz.
    path : Path
        The picture, a png file.
    """
    num_columns = max(len(row) for row in rows.values())
    top = max(SILENCE_DB, *(x.max() for row in rows.values() for x in row))
    figure, axes = plt.subplots(
        len(rows),
        num_columns,
        figsize=(6 * num_columns, 2.2 * len(rows)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    extent = (0, seconds, 0, sample_rate / 2000)
    for axes_of_row, (name, row) in zip(axes, rows.items(), strict=True):
        for c, (axis, x) in enumerate(zip(axes_of_row, row, strict=False), start=1):
            image = _draw_one(axis, x - top, extent)
            axis.set_title(name if len(row) == 1 or name == "mixture" else f"{name}, speaker {c}")
        axes_of_row[0].set_ylabel("kHz")
    for axis in axes[-1]:
        axis.set_xlabel("s")
    figure.colorbar(image, ax=axes, label="dB", shrink=0.5)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def _draw_one(axis, decibels: Tensor, extent: tuple[float, ...]):
    return axis.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap="magma",
        vmin=-DYNAMIC_RANGE,
        vmax=0,
    )
