"""Recordings, block by block: reads them as one channel, writes voices whole or not at all."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from torch import Tensor

BLOCK = 2**18  # samples of all channels that are read at once: 1 MB
PEAK = 0.99  # of full scale: 16-bit wav clips above 1
WAV_LIMIT = 4_000_000_000  # bytes; the size of a wav file is a 32-bit number, RF64 has 64


@contextmanager
def open_recording(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """Open a file of any format that libsndfile reads.

    Raises
    ------
    ValueError
        Where there is no such file, or it is not audio; also where reading fails later on.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    try:
        with _opened(path) as file:
            yield file
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise ValueError(f"{path} can't be read as audio: {reason}") from error


def _opened(path: str | Path) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(path)
    except TypeError as error:  # what soundfile raises for the ending .raw
        raise ValueError(f"{path} can't be read as audio: bare samples have no rate") from error


def read_mono(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Read a recording as the mean of its channels, block by block.

    Yields
    ------
    np.ndarray
        [T], float32, at the file's rate.

    Raises
    ------
    ValueError
        Where the file holds no samples, or one that is NaN or infinite.
    """
    start = 0
    while len(frames := file.read(BLOCK // file.channels, "float32", always_2d=True)):
        finite = np.isfinite(frames).all(1)  # [T]
        if not finite.all():
            second = (start + finite.argmin()) / file.samplerate
            raise ValueError(
                f"{file.name} has samples that are NaN or infinite, the first at {second:.2f} s: "
                "repair the recording first"
            )
        start += len(frames)
        yield frames.mean(1)  # [T]
    if start == 0:
        raise ValueError(f"{file.name} holds no samples")


def write_voices(blocks: Iterable[np.ndarray], paths: list[Path], sample_rate: int) -> float:
    """Write voices as 16-bit wav, whole or not at all, in constant memory.

    Whether a voice clips is only known at its end: the samples go through a nameless temporary
    file in the same folder, which takes 4 bytes a sample and vanishes with the program.

    Arguments
    ---------
    blocks : iterable of np.ndarray
        [T, C] each, full scale is 1.
    paths : list of Path
        One a voice. Existing files are replaced; folders are made if need be.
    sample_rate : int
        Hz.

    Returns
    -------
    float
        The gain given to all voices alike so that none clips, 1 for most recordings.

    Raises
    ------
    OSError
        Where the folder can't be written to, or the disk is full.
    """
    blocks = iter(blocks)
    first = next(blocks)  # what can't be separated leaves no folder behind
    folder = paths[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as spool:
            peak = _spool(chain([first], blocks), spool)
            gain = min(1.0, PEAK / peak) if peak else 1.0
            with whole_or_not_at_all(paths) as partials:
                _write_wavs(spool, gain, partials, sample_rate)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"the voices can't be written to {folder}: {reason}") from error
    return gain


def write_wav(path: Path, waveform: Tensor, sample_rate: int) -> None:
    """Write `waveform` [T] as 16-bit wav, whole or not at all; above full scale it clips."""
    with whole_or_not_at_all([path]) as (partial,), _told(partial):
        soundfile.write(partial, waveform.numpy(), sample_rate, subtype="PCM_16", format="WAV")


def _spool(blocks: Iterable[np.ndarray], spool: BinaryIO) -> float:
    """Append `blocks` [T, C] to a file of bare samples; return their peak."""
    peak = 0.0
    for block in blocks:
        peak = max(peak, float(np.abs(block).max(initial=0)))
        spool.write(np.ascontiguousarray(block, "<f4").data)
    spool.flush()
    return peak


def _write_wavs(spool: BinaryIO, gain: float, paths: list[Path], sample_rate: int) -> None:
    num_samples = spool.tell() // (4 * len(paths))
    kind = "WAV" if 2 * num_samples < WAV_LIMIT else "RF64"
    for channel, path in enumerate(paths):
        with (
            _told(path),
            soundfile.SoundFile(path, "w", sample_rate, 1, subtype="PCM_16", format=kind) as file,
        ):
            for block in _read_spool(spool, len(paths)):
                file.write(gain * block[:, channel])


def _read_spool(spool: BinaryIO, num_voices: int) -> Iterator[np.ndarray]:
    spool.seek(0)
    while samples := spool.read(4 * num_voices * (BLOCK // num_voices)):
        yield np.frombuffer(samples, "<f4").reshape(-1, num_voices)  # [T, C]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what soundfile raises on a full disk into an OSError."""
    try:
        yield
    except (soundfile.LibsndfileError, AssertionError) as error:
        raise OSError(f"writing {path} failed: is the disk full?") from error


@contextmanager
def whole_or_not_at_all(paths: list[Path]) -> Iterator[list[Path]]:
    """Give names to write to; at the end the files take their own, on an error they go."""
    partials = [path.with_name(f".{path.name}.partial") for path in paths]
    try:
        yield partials
        for partial, path in zip(partials, paths, strict=True):
            os.replace(partial, path)
    finally:
        for partial in partials:
            with suppress(OSError):
                partial.unlink()
