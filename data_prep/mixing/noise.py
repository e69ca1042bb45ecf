"""Noise under a mixture: repeated, by a cross-fade, where the recording is shorter."""

import os

import numpy as np
from scipy.signal import resample_poly

from sfsrnet_modules.common.crops import open_audio, rate_ratio, read_audio

FADE = 1.0  # s, length of the whole Hann window, LibriMix


def read_noise(
    path: str | os.PathLike, sample_rate: int, start: float, num_samples: int, end: int
) -> np.ndarray:
    """Reads a crop of a noise recording that ends, or is repeated up to, a frame of the file.

    Arguments
    ---------
    path : str or os.PathLike
    sample_rate : int
        Wanted sampling rate in Hz, at most the file's.
    start : float
        Where the crop begins, in seconds.
    num_samples : int
        Length of the crop in samples at ``sample_rate``.
    end : int
        Number of frames, at the file's rate, that the noise is taken to have.

    Returns
    -------
    np.ndarray [num_samples]
        float32.

    Raises
    ------
    OSError
        The file is missing or broken.
    """
    with open_audio(path) as file:
        num_frames, rate = file.frames, file.samplerate
    if num_frames >= end:
        return read_audio(path, sample_rate, start, num_samples, end=end)
    noise = extend_noise(read_audio(path, rate), end, rate)  # [end]
    ratio, begin = rate_ratio(rate, sample_rate), round(start * sample_rate)
    resampled = resample_poly(noise, ratio.denominator, ratio.numerator)
    return resampled[begin : begin + num_samples].astype(np.float32)


def extend_noise(noise: np.ndarray, num_frames: int, rate: int) -> np.ndarray:
    """Repeats a noise, faded into itself by the halves of a Hann window of ``FADE``.

    As LibriMix does it; noise that is too short for that fade has a shorter one.

    Arguments
    ---------
    noise : np.ndarray [T']
    num_frames : int
        Wanted length, T.
    rate : int
        Hz.

    Returns
    -------
    np.ndarray [T]
    """
    fade = round(FADE * rate)
    if len(noise) <= fade // 2 + 1:  # nothing of the noise would be left between its fades
        fade = len(noise) - len(noise) % 2  # even: the window has a middle
    if fade <= 2:
        return np.resize(noise, num_frames)
    rise = np.hanning(fade + 1)[: fade // 2 + 1]  # up to the middle of the window
    fall = rise[::-1]
    extended = noise
    while len(extended) < num_frames:
        joint = extended[-len(fall) :] * fall + noise[: len(rise)] * rise
        extended = np.concatenate([extended[: -len(fall)], joint, noise[len(rise) :]])
    return extended[:num_frames]
