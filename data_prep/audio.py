"""Reading a crop of an audio file, and the level convention of all mixtures."""

import math
import os
from fractions import Fraction

import numpy as np
import soundfile as sf
from scipy.signal import resample_poly

# A speed such as 1.0371 would need a resampling filter of a million taps: the nearest ratio of
# small numbers is taken, within 0.5 % of the speed asked for.
MAX_DENOMINATOR = 100

# The level convention, of fixed and dynamic mixing alike. Each source is brought to LEVEL_DB, by
# the level of its whole utterance, plus a gain drawn uniformly within +-GAIN_DB. The item,
# mixture and sources together, is then scaled down where the mixture or a source peaks above PEAK.
LEVEL_DB = -25.0  # dBFS RMS: two such speakers seldom reach PEAK, so that levels stay as drawn
GAIN_DB = 2.5  # dB: two sources differ by at most 5 dB, as in WSJ0-2mix
PEAK = 0.9  # of full scale, as in WSJ0-2mix and LibriMix

# A source at or below this level is a pause: there is nothing to separate, and SI-SNR against
# silence is undefined.
SILENCE_DB = LEVEL_DB - 40.0  # dBFS RMS


def rate_ratio(file_rate: int, sample_rate: int, speed: float = 1.0) -> Fraction:
    """Frames of the file that make one sample at the wanted rate.

    Arguments
    ---------
    file_rate : int
        Sampling rate of the file in Hz.
    sample_rate : int
        Wanted sampling rate in Hz.
    speed : float
        Speed and pitch relative to the recording, met within 0.5 %; 1 leaves it as it is.

    Returns
    -------
    Fraction
        ``speed * file_rate / sample_rate``.

    Example
    -------
    >>> rate_ratio(16000, 8000)
    Fraction(2, 1)
    """
    ratio = Fraction(int(file_rate), int(sample_rate))
    if speed == 1.0:
        return ratio
    return (ratio * Fraction(speed)).limit_denominator(MAX_DENOMINATOR)


def draw_start(rng: np.random.Generator, num_frames: int, num_samples: int, ratio: Fraction) -> int:
    """Draws where a crop begins, uniformly over the file.

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
    return int(rng.integers(num_frames - math.ceil(num_samples * ratio) + 1))


def read_audio(
    path: str | os.PathLike,
    sample_rate: int,
    start: float = 0.0,
    num_samples: int | None = None,
    speed: float = 1.0,
) -> np.ndarray:
    """Reads a crop of a file's first channel; only the crop is read from disk.

    Arguments
    ---------
    path : str or os.PathLike
        File of any format that libsndfile reads.
    sample_rate : int
        Wanted sampling rate in Hz, at most the file's.
    start : float
        Where the crop begins in the file, in seconds.
    num_samples : int, optional
        Length of the crop in samples at ``sample_rate``; all the rest of the file by default.
    speed : float
        See ``rate_ratio``.

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
    >>> path = getfixture("tmp_path") / "tone.wav"
    >>> sf.write(path, np.zeros(16000), 16000)
    >>> read_audio(path, 8000, start=0.5, num_samples=1000).shape
    (1000,)
    """
    try:
        with sf.SoundFile(path) as file:
            ratio = rate_ratio(file.samplerate, sample_rate, speed)
            start_frame = round(start * file.samplerate)
            if num_samples is None:
                num_samples = int((file.frames - start_frame) / ratio)
            num_frames = math.ceil(num_samples * ratio)
            _check(path, file, sample_rate, start_frame + num_frames)
            file.seek(start_frame)
            audio = file.read(num_frames, dtype="float32", always_2d=True)[:, 0]  # [frames]
    except sf.LibsndfileError as error:
        raise OSError(f"{path} cannot be read: {error.error_string}") from error
    if len(audio) < num_frames:
        raise OSError(f"{path} is broken: it ends at {len(audio)} of {num_frames} frames")
    if ratio == 1:
        return np.ascontiguousarray(audio)
    return resample_poly(audio, ratio.denominator, ratio.numerator)[:num_samples]


def rms_db(audio: np.ndarray) -> float:
    """RMS level of a signal in dBFS; minus infinity for digital silence.

    Example
    -------
    >>> rms_db(np.full(4, 0.1))
    -20.0
    """
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(np.mean(np.square(audio, dtype=np.float64))))


def draw_levels_db(rng: np.random.Generator, num_spks: int) -> np.ndarray:
    """Draws the level of each source of a mixture in dBFS RMS.

    Arguments
    ---------
    rng : np.random.Generator
    num_spks : int

    Returns
    -------
    np.ndarray [num_spks]
        Within ``LEVEL_DB`` +- ``GAIN_DB``.
    """
    return LEVEL_DB + rng.uniform(-GAIN_DB, GAIN_DB, num_spks)


def peak_scale(sources: np.ndarray) -> float:
    """Factor that keeps mixture and sources within ``PEAK``; 1 where they are.

    Arguments
    ---------
    sources : np.ndarray [T, C]

    Returns
    -------
    float

    Example
    -------
    >>> peak_scale(np.array([[0.9, 0.9], [0.1, 0.0]]))
    0.5
    """
    peak = max(np.abs(sources).max(), np.abs(sources.sum(axis=-1)).max())
    return float(PEAK / max(peak, PEAK))


def _check(path: str | os.PathLike, file: sf.SoundFile, sample_rate: int, end: int) -> None:
    if file.samplerate < sample_rate:
        raise OSError(
            f"{path} is sampled at {file.samplerate} Hz, {sample_rate} Hz are wanted: "
            "resampling cannot bring back the missing band"
        )
    if end > file.frames:
        raise OSError(f"{path} has {file.frames} frames, {end} are wanted: was it changed?")
