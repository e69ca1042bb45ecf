"""Clips of one voice: cut out of their silence, brought to one level, joined to utterances.

>>> import numpy as np
>>> clip = level(np.sin(np.arange(8000, dtype=np.float32)))
>>> round(float(20 * np.log10(np.sqrt(np.mean(clip**2)))), 2)
-29.0
"""

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
from scipy.signal import butter, resample_poly, sosfilt

logger = logging.getLogger(__name__)

LEVEL_DB = -29.0  # dBFS RMS of each clip; two of them mixed stay far from clipping
PEAK = 0.95  # of full scale; a clip with a higher crest factor stays below the level instead
RUMBLE_HZ = 60  # mains hum and microphone rumble; the lowest voice here is above 100 Hz
FRAME_S = 0.02  # s, frame of the silence detector
MARGIN = 2  # frames kept at each end for soft consonants
SILENCE_DB = -30.0  # a frame this far below the clip's loudest is silence
FLOOR_DB = -60.0  # dBFS; a clip whose loudest frame is below holds no speech
MIN_CLIP_S = 0.2  # s; shorter is a click rather than a word
MAX_CLIP_S = 8.0  # s; longer clips are cut into equal pieces
GAP_S = 0.1  # s of silence between two clips
MIN_UTTERANCE_S = 4.0  # s; with MAX_CLIP_S none is longer than 12.1 s


def read_clip(path: Path, sample_rate: int) -> np.ndarray:
    """Read a recording: mono, resampled, without DC and rumble, trimmed and levelled.

    Arguments
    ---------
    path : Path
        Audio file of any rate and number of channels.
    sample_rate : int
        Hz.

    Returns
    -------
    np.ndarray
        [samples], empty where the file holds no speech.
    """
    try:
        clip, rate = sf.read(path, dtype="float32", always_2d=True)  # [samples, channels]
    except sf.LibsndfileError:
        logger.warning("mini corpus: cannot read %s; skipped", path.name)
        return np.zeros(0, np.float32)
    if not len(clip):
        return clip[:, 0]
    clip = clip[:, np.square(clip).sum(axis=0).argmax()]  # [samples]; the other may be silent
    common = math.gcd(rate, sample_rate)
    clip = resample_poly(clip, sample_rate // common, rate // common)
    rumble = butter(4, RUMBLE_HZ, "highpass", fs=sample_rate, output="sos")
    clip = sosfilt(rumble, clip - clip.mean()).astype(np.float32)  # a step of DC would ring
    return level(trim(clip, sample_rate))


def trim(clip: np.ndarray, sample_rate: int) -> np.ndarray:
    """Remove the silence before the first and after the last loud frame.

    Arguments
    ---------
    clip : np.ndarray
        [samples]
    sample_rate : int
        Hz.

    Returns
    -------
    np.ndarray
        [samples], with `MARGIN` frames more at each end; empty where too little is left.
    """
    frame = int(FRAME_S * sample_rate)
    frames = len(clip) // frame
    if not frames:
        return clip[:0]
    power = np.square(clip[: frames * frame]).reshape(frames, frame).mean(axis=1)  # [frames]
    loud = np.flatnonzero(power > power.max() * 10 ** (SILENCE_DB / 10))
    if power.max() < 10 ** (FLOOR_DB / 10) or np.ptp(loud) * FRAME_S < MIN_CLIP_S:
        return clip[:0]
    return clip[max(loud[0] - MARGIN, 0) * frame : (loud[-1] + 1 + MARGIN) * frame]


def level(clip: np.ndarray) -> np.ndarray:
    """Bring a clip to `LEVEL_DB`, or below it where its peak would exceed `PEAK`.

    Arguments
    ---------
    clip : np.ndarray
        [samples], empty or not silent.

    Returns
    -------
    np.ndarray
        [samples]
    """
    if not len(clip):
        return clip
    gain = 10 ** (LEVEL_DB / 20) / np.sqrt(np.mean(np.square(clip)))
    return clip * min(gain, PEAK / np.abs(clip).max())


def join(clips: Iterator[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
    """Join clips to utterances of at least `MIN_UTTERANCE_S`; a shorter rest is dropped.

    Arguments
    ---------
    clips : Iterator[np.ndarray]
        [samples] each; empty ones are passed over.
    sample_rate : int
        Hz.

    Yields
    ------
    np.ndarray
        [samples], at most `MIN_UTTERANCE_S` + `GAP_S` + `MAX_CLIP_S` long.
    """
    gap = np.zeros(int(GAP_S * sample_rate), np.float32)
    utterance = gap[:0]
    for clip in clips:
        pieces = math.ceil(len(clip) / (MAX_CLIP_S * sample_rate))
        for piece in np.array_split(clip, pieces) if pieces else ():
            utterance = np.concatenate((utterance, gap, piece)) if len(utterance) else piece
            if len(utterance) >= MIN_UTTERANCE_S * sample_rate:
                yield utterance
                utterance = gap[:0]
