"""Trees of WSJ0 and LibriSpeech with the names of the published lists, filled with other speech."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf

LISTS = Path(__file__).parents[2] / "shared" / "metadata"
RATE = 16000


def recordings(speech: Path, number: int = 40, seconds: float = 4.0) -> list[np.ndarray]:
    """Real recordings at 16 kHz, each of another length of up to `seconds`."""
    paths = sorted((speech / "librispeech").glob("*/*.flac"))[:number]
    lengths = np.linspace(0.5, 1, number) * seconds * RATE
    return [sf.read(p, dtype="float32")[0][: int(n)] for p, n in zip(paths, lengths, strict=True)]


def fill(names: list[str], folder: Path, audio: list[np.ndarray]) -> Path:
    """Give each name some recording; few files, many links."""
    store = folder / ".store"
    store.mkdir(parents=True)
    for name, (i, samples) in zip(sorted(set(names)), itertools.cycle(enumerate(audio))):
        original = store / f"{i}{Path(name).suffix}"
        if not original.exists():
            sf.write(original, samples, RATE)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(original)
    return folder


def wsj0_names(lists: Path) -> list[str]:
    """Paths of the utterances of all lists in a folder."""
    tables = [pd.read_csv(p, sep=r"\s+", header=None) for p in sorted(lists.glob("mix_*.txt"))]
    columns = [table[c].astype(str) for table in tables for c in table]
    return [name for column in columns for name in column if name.endswith(".wav")]


def librimix_names(lists: Path, prefix: str) -> list[str]:
    """Paths of the speech ("source") or of the noise ("noise") of all lists in a folder."""
    tables = [pd.read_csv(path) for path in sorted(lists.glob("libri*.csv"))]
    columns = [table[c] for table in tables for c in table.filter(regex=f"^{prefix}.*path$")]
    return [name for column in columns for name in column]
