"""Made-up voices: harmonics of a speaker's own pitch, in syllables."""

from pathlib import Path

import numpy as np
import soundfile


def voice(pitch: float, seconds: float, rng: np.random.Generator, rate: int = 8000) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    glide = pitch * (time + 0.02 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time))
    tone = sum(np.sin(2 * np.pi * k * glide) / k for k in range(1, 9))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6)), 0, 1)
    return 0.1 * tone * syllables + 1e-4 * rng.standard_normal(len(time))


def write_corpus(folder: Path, num_speakers: int = 9, num_files: int = 2, rate: int = 8000) -> Path:
    """Write `<folder>/<speaker>/<utterance>.wav`, 3 s each at `rate` Hz."""
    rng = np.random.default_rng(0)
    for speaker in range(num_speakers):
        (folder / f"s{speaker}").mkdir(parents=True)
        for utterance in range(num_files):
            waveform = voice(90 + 25 * speaker, 3.0, rng, rate)
            soundfile.write(folder / f"s{speaker}" / f"{utterance}.wav", waveform, rate)
    return folder
