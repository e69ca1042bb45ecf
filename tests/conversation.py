"""A conversation of two voices that training never heard, as long as wanted."""

from pathlib import Path

import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor

RATE = 8000  # Hz
PAUSE = 20  # s that one of the voices rests, each in turn


def held_out_speakers(speech: Path) -> list[Path]:
    """Files of LibriSpeech's speakers that are kept for tests: every seventh."""
    return [
        next(folder.glob("*.flac")) for folder in sorted((speech / "librispeech").iterdir())[::7]
    ]


def conversation(
    files: list[Path], seconds: float, pause_every: float = 120, seed: int = 0
) -> Tensor:
    """Both voices talk throughout, but for long pauses: [T, 2], each at its own level."""
    rng = np.random.default_rng(seed)
    voices = [_talk(path, seconds, rng) for path in files]
    for i, start in enumerate(np.arange(pause_every / 2, seconds - PAUSE, pause_every)):
        span = slice(round(start * RATE), round((start + PAUSE) * RATE))
        voices[i % len(voices)][span] = 0
    return torch.from_numpy(np.stack(voices, axis=1))


def _talk(path: Path, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Phrases of 2 to 5 s out of one recording, with short breaks, in an order drawn anew."""
    audio, rate = soundfile.read(path, dtype="float32")
    audio = resample_poly(audio, RATE, rate)
    audio *= 0.05 * rng.uniform(0.7, 1.4) / np.sqrt(np.mean(audio**2))
    parts, length = [], 0
    while length < seconds * RATE:
        size = round(rng.uniform(2, 5) * RATE)
        start = rng.integers(max(1, len(audio) - size))
        phrase = audio[start : start + size].copy()
        phrase[:80] *= np.linspace(0, 1, 80)
        phrase[-80:] *= np.linspace(1, 0, 80)
        parts += [phrase, np.zeros(round(rng.uniform(0.1, 0.8) * RATE), np.float32)]
        length += sum(map(len, parts[-2:]))
    return np.concatenate(parts)[: round(seconds * RATE)].astype(np.float32)
