"""The one way to write files: each whole, or as it was before."""

import fcntl
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from speechbrain.utils.logger import get_logger
from torch import Tensor

logger = get_logger(__name__)

BLOCK = 2**18  # samples of all voices that are copied at once: 1 MB
PEAK = 0.99  # of full scale: 16-bit wav clips above 1
SOFT = 0.01  # of full scale: with a lower peak, 16 bits would be too few
WAV_LIMIT = 4_000_000_000  # bytes; the size of a wav file is a 32-bit number, RF64 has 64


@contextmanager
def whole_or_not_at_all(paths: list[Path]) -> Iterator[list[Path]]:
    """Give names to write to; at the end the files take their own, on an error they go.

    Arguments
    ---------
    paths : list of Path
        In folders that exist.
    """
    partials = [_partial(path) for path in paths]
    try:
        yield partials
        for partial, path in zip(partials, paths, strict=True):
            os.replace(partial, path)
    finally:
        for partial in partials:
            with suppress(OSError):
                partial.unlink()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait for another run that makes the same file or folder, which it may leave as it should be.

    Arguments
    ---------
    path : Path
        What is made; a file beside it, whose name ends in ``.lock``, stays.
    """
    with open(path.with_name(path.name + ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("Another run makes %s: waiting for it", path)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all.

    Raises
    ------
    OSError
        It cannot be written, for instance as the disk is full.
    """
    try:
        with whole_or_not_at_all([path]) as (partial,):
            partial.write_bytes(data)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from error


def write_wav(path: Path, waveform: np.ndarray | Tensor, sample_rate: int) -> None:
    """Write 16-bit wav, whole or not at all.

    Arguments
    ---------
    path : Path
    waveform : np.ndarray or torch.Tensor
        [T], int16, or float within full scale, which libsndfile rounds down and clips.
    sample_rate : int
        Hz.

    Raises
    ------
    OSError
        It cannot be written, for instance as the disk is full.
    """
    wav = io.BytesIO()
    soundfile.write(wav, np.asarray(waveform), sample_rate, subtype="PCM_16", format="WAV")
    write_whole(path, wav.getvalue())


def write_voices(
    blocks: Iterable[np.ndarray],
    paths: list[Path],
    sample_rate: int,
    heard: Callable[[], np.ndarray] | None = None,
) -> float:
    """Write voices as wav, whole or not at all, in constant memory.

    With 16 bits; with 24 where all are so soft that 16 would be heard.

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
    heard : callable, optional
        Asked at the end which voices [C] there are: the files of the others are silent.

    Returns
    -------
    float
        The gain given to all voices alike so that none clips, 1 for most recordings.

    Raises
    ------
    OSError
        Where the folder can't be written to, or the disk is full.
    """
    check_names(paths)
    blocks = iter(blocks)
    first = next(blocks)  # what can't be separated leaves no folder behind
    folder = paths[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as spool:
            peak = _spool(chain([first], blocks), spool)
            gain = min(1.0, PEAK / peak) if peak else 1.0
            with whole_or_not_at_all(paths) as partials:
                gains = gain * (np.ones(len(paths)) if heard is None else heard())  # [C]
                _write_wavs(spool, gains, partials, sample_rate, 3 if 0 < peak < SOFT else 2)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"the voices can't be written to {folder}: {reason}") from error
    return gain


def check_names(paths: list[Path]) -> None:
    """Check that a folder can hold files of these names, before the work for them is done.

    Raises
    ------
    OSError
        A name is too long.
    """
    for path in paths:
        folder = next(parent for parent in path.absolute().parents if parent.is_dir())
        longest = os.pathconf(folder, "PC_NAME_MAX")  # bytes
        for name in path.parts:
            if len(os.fsencode(name)) > longest:
                raise OSError(
                    f"the name {os.fsencode(name).decode(errors='backslashreplace')} is too long: "
                    f"{len(os.fsencode(name))} bytes, {longest} are allowed in {folder}; give the "
                    "recording a shorter one"
                )


def _partial(path: Path) -> Path:
    """A hidden name, short whatever the path's, and always the same: a kill leaves one at most."""
    digest = hashlib.md5(os.fsencode(path.name)).hexdigest()
    return path.with_name(f".{digest}.partial")


def _spool(blocks: Iterable[np.ndarray], spool: BinaryIO) -> float:
    """Append `blocks` [T, C] to a file of bare samples; return their peak."""
    peak = 0.0
    for block in blocks:
        peak = max(peak, float(np.abs(block).max(initial=0)))
        spool.write(np.ascontiguousarray(block, "<f4").data)
    spool.flush()
    return peak


def _write_wavs(
    spool: BinaryIO, gains: np.ndarray, paths: list[Path], sample_rate: int, num_bytes: int
) -> None:
    num_samples = spool.tell() // (4 * len(paths))
    kind = "WAV" if num_bytes * num_samples < WAV_LIMIT else "RF64"
    subtype = f"PCM_{8 * num_bytes}"
    for channel, path in enumerate(paths):
        with (
            _disk_may_be_full(path),
            soundfile.SoundFile(
                os.fsencode(path), "w", sample_rate, 1, subtype=subtype, format=kind
            ) as file,
        ):
            for block in _read_spool(spool, len(paths)):
                file.write(gains[channel] * block[:, channel])


def _read_spool(spool: BinaryIO, num_voices: int) -> Iterator[np.ndarray]:
    spool.seek(0)
    while samples := spool.read(4 * num_voices * (BLOCK // num_voices)):
        yield np.frombuffer(samples, "<f4").reshape(-1, num_voices)  # [T, C]


@contextmanager
def _disk_may_be_full(path: Path) -> Iterator[None]:
    """Turn what soundfile raises on a full disk into an OSError."""
    try:
        yield
    except (soundfile.LibsndfileError, AssertionError) as error:
        raise OSError(f"writing {path} failed: is the disk full?") from error
