"""Compressed SPHERE files, as on the discs of WSJ0.

The Linguistic Data Consortium packed WSJ0's ``.wv1`` files with Shorten, which libsndfile does not
read; FFmpeg does, through PyAV.
"""

import importlib.util
import io
import os

import numpy as np
import soundfile as sf

MAGIC = b"NIST_1A"
PACKED = b"embedded-shorten"
INSTALL = "`pip install av` lets it be read, or unpack WSJ0 with sph2pipe"


def is_installed() -> bool:
    """Whether PyAV is there to open packed files."""
    return importlib.util.find_spec("av") is not None


def is_packed(path: str | os.PathLike) -> bool:
    """Whether a file is SPHERE with packed samples, which ``open_packed`` reads.

    Arguments
    ---------
    path : str or os.PathLike

    Returns
    -------
    bool
        False also where there is no such file.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(1024)
    except OSError:
        return False
    return header.startswith(MAGIC) and PACKED in header


def open_packed(path: str | os.PathLike) -> sf.SoundFile:
    """Opens a packed SPHERE file as if libsndfile could read it.

    Arguments
    ---------
    path : str or os.PathLike

    Returns
    -------
    soundfile.SoundFile
        16-bit wav in memory.

    Raises
    ------
    OSError
        The file is broken, or PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise OSError(f"{path} is packed with Shorten: {INSTALL}") from error
    try:
        with av.open(os.fspath(path), format="nistsphere") as container:
            stream = container.streams.audio[0]
            frames = [frame.to_ndarray() for frame in container.decode(stream)]
            expected, rate = stream.duration, stream.rate
        samples = np.concatenate(frames, axis=1).T.astype(np.int16)  # [frames, channels]
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise OSError(f"{path} cannot be unpacked: {error}") from error
    if expected and len(samples) < expected:
        raise OSError(f"{path} is broken: it ends at {len(samples)} of {expected} frames")
    wav = io.BytesIO()
    sf.write(wav, samples, rate, subtype="PCM_16", format="WAV")
    wav.seek(0)
    return sf.SoundFile(wav)
