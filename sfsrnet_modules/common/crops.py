"""Reading a crop of an audio file."""

import math
import os
from fractions import Fraction
from functools import lru_cache

import numpy as np

from sfsrnet_modules.common.audio_io import AudioFile, count_frames, open_audio
from sfsrnet_modules.common.resampling import reach, resample


@lru_cache(maxsize=64)
def rate_ratio(file_rate: int, sample_rate: int) -> Fraction:
    """Frames of the file that make one sample at the wanted rate.

    Arguments
    ---------
    file_rate : int
        Sampling rate of the file in Hz.
    sample_rate : int
        Wanted sampling rate in Hz.

    Returns
    -------
    Fraction
        ``file_rate / sample_rate``.

    Example
    -------
    >>> rate_ratio(16000, 8000)
    Fraction(2, 1)
    """
    return Fraction(int(file_rate), int(sample_rate))


def draw_start(rng: np.random.Generator, num_frames: int, num_samples: int, ratio: Fraction) -> int:
    """Draw where a crop begins, uniformly over the file.

    Arguments
    ---------
    rng : np.random.Generator
    num_frames : int
        Length of the file in frames.
    num_samples : int
        Length of the crop in samples at the wanted rate.
    ratio : Fraction
        See ``rate_ratio``.

    Returns
    -------
    int
        First frame of the crop, such that the crop ends within the file.
    """
    return int(rng.integers(num_frames - last_frame(num_samples, ratio) + 1))


def read_audio(
    path: str | os.PathLike,
    sample_rate: int,
    start: float = 0.0,
    num_samples: int | None = None,
    end: int | None = None,
) -> np.ndarray:
    """Read a crop of a file's first channel; only the crop is read from disk.

    A little more is read on both sides, so that a resampled crop equals the same piece of the
    resampled file.

    Arguments
    ---------
    path : str or os.PathLike
        File of any format that :func:`~sfsrnet_modules.common.audio_io.open_audio` opens.
    sample_rate : int
        Wanted sampling rate in Hz, at most the file's.
    start : float
        Where the crop begins in the file, in seconds.
    num_samples : int, optional
        Length of the crop in samples at ``sample_rate``; all the rest of the file by default.
    end : int, optional
        Frame of the file where it is taken to end; its own end by default.

    Returns
    -------
    np.ndarray [num_samples]
        float32.

    Raises
    ------
    OSError
        The file is missing, broken, shorter than asked for, or sampled below ``sample_rate``.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "tone.wav"
    >>> soundfile.write(path, np.zeros(16000), 16000)
    >>> read_audio(path, 8000, start=0.5, num_samples=1000).shape
    (1000,)
    """
    with open_audio(path) as file:
        num_frames = file.frames if num_samples is not None else count_frames(path)
        last = num_frames if end is None else min(end, num_frames)
        ratio = rate_ratio(file.samplerate, sample_rate)
        first = round(start * file.samplerate)
        if num_samples is None:
            num_samples = num_resampled(last - first, ratio)
        stop = first + last_frame(num_samples, ratio)
        _check(path, file, sample_rate, stop, last)
        before, after = _margins(first, last - stop, ratio)
        num_frames = before + stop - first + after
        file.go_to(first - before)
        audio = _read_first_channel(file, num_frames)  # [frames]
        if len(audio) < (before + stop - first if file.length is None else num_frames):
            raise OSError(f"{path} is broken: it ends at {len(audio)} of {num_frames} frames")
    resampled = resample(audio, ratio.numerator, ratio.denominator)
    skipped = before * ratio.denominator // ratio.numerator
    return resampled[skipped : skipped + num_samples]


def num_resampled(num_frames: int, ratio: Fraction) -> int:
    """Length of ``num_frames`` after resampling, at ``ratio`` frames a sample.

    Example
    -------
    >>> num_resampled(5, Fraction(2))
    3
    """
    return -(-num_frames * ratio.denominator // ratio.numerator)  # rounded up


def last_frame(num_samples: int, ratio: Fraction) -> int:
    """Number of frames that ``num_samples`` samples begin in: the least a file must have.

    Example
    -------
    >>> last_frame(3, Fraction(2))
    5
    """
    return (num_samples - 1) * ratio.numerator // ratio.denominator + 1 if num_samples else 0


def _read_first_channel(file: AudioFile, num_frames: int) -> np.ndarray:
    """Frames of the first channel, float32; libsndfile takes long to convert to float itself."""
    if file.subtype == "PCM_16":
        return file.read(num_frames, "int16")[:, 0] * np.float32(2**-15)  # [frames]
    return np.ascontiguousarray(file.read(num_frames)[:, 0])


def _margins(num_before: int, num_after: int, ratio: Fraction) -> tuple[int, int]:
    """Frames to read before and after a crop, of those there are: none without resampling."""
    if ratio == 1:
        return 0, 0
    margin = reach(ratio.numerator, ratio.denominator)
    # A multiple of the numerator makes a whole number of samples.
    before = ratio.numerator * min(
        math.ceil(margin / ratio.numerator), num_before // ratio.numerator
    )
    return before, min(margin, num_after)


def _check(path: str | os.PathLike, file: AudioFile, sample_rate: int, stop: int, last: int):
    if file.samplerate < sample_rate:
        raise OSError(
            f"{path} is sampled at {file.samplerate} Hz, {sample_rate} Hz are wanted: "
            "resampling cannot bring back the missing band"
        )
    if stop > last:
        raise OSError(f"{path} has {last} frames, {stop} are wanted: was it changed?")
