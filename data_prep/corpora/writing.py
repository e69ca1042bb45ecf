"""Writing mixtures as files, each whole or not at all."""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile as sf
from tqdm.contrib.concurrent import thread_map

from data_prep.scan.manifests import write_whole


def write_wav(path: Path, audio: np.ndarray, sample_rate: int) -> None:
    """Writes 16-bit wav, whole or not at all.

    Arguments
    ---------
    path : Path
    audio : np.ndarray [T]
        int16, or float within full scale, which libsndfile rounds down and clips.
    sample_rate : int
        Hz.

    Raises
    ------
    OSError
        It cannot be written, for instance as the disk is full.
    """
    wav = io.BytesIO()
    sf.write(wav, audio, sample_rate, subtype="PCM_16", format="WAV")
    write_whole(path, wav.getvalue())


def write_all(write: Callable[[dict], None], items: list[dict], folder: Path, names: list[str]):
    """Writes the items of a part in parallel, with a progress bar.

    Arguments
    ---------
    write : callable
        Writes one item, unless it is there.
    items : list of dict
    folder : Path
        Of the part.
    names : list of str
        Its sub-folders, made if missing.
    """
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    thread_map(write, items, desc=f"Writing {folder}", unit="mixture")


def told(write: Callable, arguments: argparse.Namespace) -> int:
    """Runs a command; an error is told in one line, and makes the exit status 1."""
    try:
        write(**vars(arguments))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
