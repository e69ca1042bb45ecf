"""Noise under a mixture: recorded, babble of many speakers, or coloured."""

import os
from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter

from data_prep.mixing.levels import LEVEL_DB, draw_noise_db, from_db, rms_db
from data_prep.mixing.pool import Pool
from sfsrnet_modules.common.audio_io import count_frames, open_audio
from sfsrnet_modules.common.crops import read_audio
from sfsrnet_modules.common.resampling import resample

KINDS = ("recordings", "babble", "coloured")
FADE = 1.0  # s, length of the whole Hann window, LibriMix
TALKERS = (5, 8)  # of babble: fewer can be followed, more sound like a hum
BROWNEST = 0.98  # pole: at 8 kHz the power falls by 6 dB an octave from 26 Hz on


class Noise:
    """Noise that dynamic mixing puts under its mixtures.

    Each is of a kind that is drawn evenly: a crop of a recording; the babble of other speakers of
    the speech; or coloured noise, white to brown.

    Arguments
    ---------
    sample_rate : int
        Hz.
    kinds : sequence of str
        Some of ``KINDS``; "recordings" count where there are some.
    snr : tuple of float
        Range of the level in dB of all voices together over the noise. LibriMix's recordings have
        levels of their own, see ``data_prep.mixing.levels``.
    share : float
        Of the mixtures that have noise.
    recordings : Pool, optional
        Recorded noise, each recording a speaker.
    """

    def __init__(
        self,
        sample_rate: int,
        kinds: Sequence[str] = ("recordings",),
        snr: tuple[float, float] = (5.0, 15.0),
        share: float = 1.0,
        recordings: Pool | None = None,
    ):
        self.sample_rate = sample_rate
        self.kinds = [kind for kind in kinds if kind != "recordings" or recordings is not None]
        self.snr = snr
        self.share = share
        self.recordings = recordings

    def draw(
        self, rng: np.random.Generator, voices: np.ndarray, speech: Pool, speakers: Sequence[int]
    ) -> np.ndarray:
        """Draw noise to go under a mixture.

        Arguments
        ---------
        rng : np.random.Generator
        voices : np.ndarray [T]
            The sum of all voices: sets the level of the noise.
        speech : Pool
            Whose speakers babble.
        speakers : sequence of int
            Of the voices, who do not.

        Returns
        -------
        np.ndarray [T]
            float32; silence where there is to be no noise.
        """
        if not self.kinds or rng.random() >= self.share:
            return np.zeros_like(voices)
        kind = self.kinds[rng.integers(len(self.kinds))]
        if kind == "recordings":
            return self._recorded(rng, voices)
        if kind == "babble":
            noise = babble(rng, speech, speakers, len(voices))
        else:
            noise = coloured(rng, len(voices))
        return noise * snr_gain(voices, noise, rng.uniform(*self.snr))

    def _recorded(self, rng: np.random.Generator, voices: np.ndarray) -> np.ndarray:
        recording = rng.integers(self.recordings.num_speakers)
        if self.recordings.measure == "lufs":
            level_db = draw_noise_db(rng)
            return self.recordings.draw(rng, recording, len(voices), level_db)
        noise = self.recordings.draw(rng, recording, len(voices), LEVEL_DB)
        return noise * snr_gain(voices, noise, rng.uniform(*self.snr))


def snr_gain(voices: np.ndarray, noise: np.ndarray, snr: float) -> np.float32:
    """Factor that brings noise to `snr` dB under the voices; 1 where either is silent."""
    gain_db = rms_db(voices) - rms_db(noise) - snr
    return np.float32(from_db(gain_db) if np.isfinite(gain_db) else 1.0)


def babble(
    rng: np.random.Generator, speech: Pool, speakers: Sequence[int], num_samples: int
) -> np.ndarray:
    """Draw the sum [T] of several speakers of a pool, all but `speakers`, at one level."""
    others = np.delete(np.arange(speech.num_speakers), speakers)
    number = rng.integers(TALKERS[0], TALKERS[1] + 1)
    talkers = rng.choice(others, min(number, len(others)), replace=False)
    voices = [speech.draw(rng, talker, num_samples, LEVEL_DB) for talker in talkers]
    return np.sum([np.zeros(num_samples, np.float32), *voices], axis=0)


def coloured(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Draw Gaussian noise [T] from white to brown, of which one pole takes the high band.

    Example
    -------
    >>> coloured(np.random.default_rng(0), 24000).shape
    (24000,)
    """
    pole = np.float32(rng.uniform(0, BROWNEST))
    white = rng.standard_normal(num_samples, np.float32)
    return lfilter(np.ones(1, np.float32), np.array([1, -pole], np.float32), white)


def check_kinds(kinds: Sequence[str]) -> None:
    """Stop where a kind of noise is none: a ``ValueError`` names it."""
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(
                f"noise_kinds has {kind}: give a list of {', '.join(KINDS[:-1])} and {KINDS[-1]}"
            )


def check_range(key: str, bounds: Sequence[float]) -> None:
    """Stop where a value is no range of numbers: a ``ValueError`` says so."""
    match bounds:
        case [int() | float() as low, int() | float() as high] if low <= high:
            return
    given = list(bounds) if isinstance(bounds, tuple) else bounds
    raise ValueError(f"{key} is {given}: give the lowest and the highest value")


def check_share(key: str, share: float) -> None:
    """Stop where a number is no share: a ``ValueError`` says so."""
    if not 0 <= share <= 1:
        raise ValueError(f"{key} is {share}: set it to a share from 0 to 1")


def read_noise(
    path: str | os.PathLike, sample_rate: int, start: float, num_samples: int, end: int
) -> np.ndarray:
    """Read a crop of a noise recording that ends, or is repeated up to, a frame of the file.

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
        rate = file.samplerate
    if count_frames(path) >= end:
        return read_audio(path, sample_rate, start, num_samples, end=end)
    noise = extend_noise(read_audio(path, rate), end, rate)  # [end]
    begin = round(start * sample_rate)
    return resample(noise.astype(np.float32), rate, sample_rate)[begin : begin + num_samples]


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
