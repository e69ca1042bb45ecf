"""Decodes what libsndfile doesn't read to its end, through PyAV (FFmpeg) where that is installed.

That is m4a and other recordings of phones and films, and the packed SPHERE files of WSJ0: the
Linguistic Data Consortium packed its ``.wv1`` with Shorten.
"""

import importlib.util
import os
import tempfile
from itertools import chain
from typing import BinaryIO

import soundfile

MAGIC = b"NIST_1A"
PACKED = b"embedded-shorten"
INSTALL = "`pip install av` lets them be read, or convert them to wav with ffmpeg"
WHOLE = "`pip install av` lets all of it be read"
UNPACK = "`pip install av` lets it be read, or unpack WSJ0 with sph2pipe"
# Endings of recordings that PyAV reads; all others that are read, libsndfile reads.
ENDINGS = frozenset(
    ".3gp .aac .ac3 .amr .ape .dss .m4a .mka .mkv .mov .mp4 .tta .webm .wma .wv .wv1 .wv2".split()
)


def is_installed() -> bool:
    """Whether PyAV is there."""
    return importlib.util.find_spec("av") is not None


def is_packed(path: str | os.PathLike) -> bool:
    """Whether a file is SPHERE with packed samples.

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


def decode(path: str | os.PathLike) -> BinaryIO:
    """Decode a file's first track of sound, once, into a nameless temporary file.

    Arguments
    ---------
    path : str or os.PathLike

    Returns
    -------
    file
        A W64 file of float32, at its beginning; it vanishes with the program.

    Raises
    ------
    OSError
        There is no sound in the file, it is broken, or PyAV is not installed.
    """
    packed = is_packed(path)
    try:
        import av
    except ImportError as error:
        raise OSError(
            f"packed with Shorten: {UNPACK}"
            if packed
            else "libsndfile doesn't know the format: `pip install av` lets it be read if it is "
            "sound, as does `ffmpeg -i THE_FILE sound.wav`"
        ) from error
    try:
        with open(path, "rb") as file, av.open(file, format=PACKED_FORMAT[packed]) as container:
            return _as_w64(av, container)
    except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile's of a full disk
        raise OSError(
            f"there is no room for it, decoded, in {tempfile.gettempdir()}: set TMPDIR to a folder "
            "on a larger disk"
        ) from error
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise OSError(f"it can't be decoded ({error}), neither libsndfile nor FFmpeg do") from error


PACKED_FORMAT = {True: "nistsphere", False: None}  # None: FFmpeg finds out


def _as_w64(av, container) -> BinaryIO:
    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="flt")  # interleaved float32, at the file's rate
    target = tempfile.TemporaryFile()
    channels, rate = stream.codec_context.channels, stream.rate
    with soundfile.SoundFile(target, "w", rate, channels, "FLOAT", format="W64") as file:
        for decoded in chain(container.decode(stream), [None]):  # None: what is left
            for frame in resampler.resample(decoded):
                file.write(frame.to_ndarray().reshape(-1, channels))
        num_frames = file.frames
    expected = stream.duration if container.format.name == "nistsphere" else 0
    if expected and num_frames < expected:
        raise ValueError(f"it ends at {num_frames} of {expected} frames")
    target.seek(0)
    return target
