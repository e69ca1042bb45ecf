"""The one reader of audio: opens files of any format and reads them block by block."""

import mmap
import os
import re
import struct
from collections.abc import Iterator
from functools import cache

import numpy as np
import soundfile
from speechbrain.utils.logger import get_logger

from sfsrnet_modules.common import decoding
from sfsrnet_modules.common.decoding import decode, is_packed
from sfsrnet_modules.common.goes_on import goes_on

logger = get_logger(__name__)

ENDINGS = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"}
ENDINGS |= {".aif", ".aifc", ".oga", ".opus", ".snd", ".sph"}  # of recordings that libsndfile reads
BLOCK = 2**18  # samples of all channels that are read at once: 1 MB
FLAC_BLOCK = 2**12  # frames: where a FLAC file is broken, what was to be read with that is lost
UNKNOWN = 2**62  # frames; libsndfile gives 2^63 - 1 where a header states no length
# After a seek they decode other samples than from the beginning, for seconds at times.
INEXACT = {"MPEG_LAYER_III", "OPUS", "VORBIS"}
AUDIBLE = 1e-6  # mean square, -60 dBFS
FORMAT_UNKNOWN = 1  # libsndfile's error code

# What libsndfile logs on a file that ends before the length in its header. A wav written to a pipe
# declares the greatest size there is, and is whole.
TRUNCATED = re.compile(
    r"^(?:data|riff| *SSND| *Data Size| *Riff size) *: (?!4294967|21474)\d+ \(should be"
    r"|lacks an end-of-stream",
    re.MULTILINE,
)
# Names of chunks that may follow an empty data chunk in a wav file.
CHUNKS = (b"LIST", b"fact", b"PEAK", b"bext", b"cue ", b"smpl", b"inst", b"id3 ", b"ID3 ", b"JUNK")


class AudioError(OSError, ValueError):
    """A file can't be read as audio; both kinds of error, as readers of one or the other expect."""


class AudioFile(soundfile.SoundFile):
    """An open recording, which is read from its beginning to its end whatever its encoding.

    Reading never seeks, as telephony's GSM 6.10 and a FLAC of unknown length can't; how long a
    recording is, is known at its end, in ``frames_read``. Every error names the file.

    Arguments
    ---------
    path : str or os.PathLike
    source : file, optional
        What is read in place of the file itself.
    """

    def __init__(self, path: str | os.PathLike, source=None):
        self.path = path
        self.frames_read = 0
        # bytes: soundfile refuses names that are not UTF-8
        super().__init__(os.fsencode(path) if source is None else source)

    @property
    def name(self) -> str:
        """The path."""
        return os.fspath(self.path)

    @property
    def length(self) -> int | None:
        """Frames, as the header states them; None where it doesn't."""
        return self.frames if self.frames < UNKNOWN else None

    @property
    def seconds(self) -> float | None:
        """The same in seconds."""
        return None if self.length is None else self.length / self.samplerate

    @property
    def is_truncated(self) -> bool:
        """Whether the file is shorter than its header says. It is certain at its end."""
        ended_early = self.length is not None and self._at_end and self.frames_read < self.length
        return bool(ended_early or self._broken or TRUNCATED.search(self.extra_info))

    def seekable(self) -> bool:
        """Return False: soundfile would seek after each read."""
        return False

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """Read the next `frames`, fewer at the end: [frames, channels]."""
        try:
            block = super().read(frames, dtype, always_2d)
        except soundfile.LibsndfileError as error:
            if self.format != "FLAC" or not self.frames_read:
                raise _unreadable(self.path, error) from error
            self._broken, block = True, np.empty((0, self.channels), dtype)
        self.frames_read += len(block)
        self._at_end = len(block) < frames
        return block

    def read_blocks(self, dtype: str = "float32") -> Iterator[np.ndarray]:
        """Read all that follows, [frames, channels] each."""
        size = FLAC_BLOCK if self.format == "FLAC" else max(BLOCK // self.channels, 1)
        while len(block := self.read(size, dtype)):
            yield block

    def go_to(self, frame: int) -> None:
        """Read on from a frame; encodings that can't seek there exactly are decoded up to it."""
        try:
            if self.subtype not in INEXACT:
                self.seek(frame)
                return
        except soundfile.LibsndfileError:
            pass
        while self.frames_read < frame and not self._at_end:
            self.read(min(frame - self.frames_read, BLOCK))

    _at_end = _broken = False


def open_audio(path: str | os.PathLike) -> AudioFile:
    """Open a recording of any format that libsndfile reads, or PyAV where it is installed.

    Arguments
    ---------
    path : str or os.PathLike

    Returns
    -------
    AudioFile

    Raises
    ------
    AudioError
        An ``OSError`` and a ``ValueError``: there is no such file, or it is not audio.
    """
    if not os.path.isfile(path):
        if os.path.exists(path):
            raise AudioError(f"{_printable(path)} is no file: save what it gives to one first")
        raise AudioError(f"there is no file {_printable(path)}")
    try:
        file = AudioFile(path)
    except TypeError as error:  # what soundfile raises for the ending .raw
        raise AudioError(
            f"{_printable(path)} can't be read as audio: bare samples have no rate, save them as "
            "wav first"
        ) from error
    except soundfile.LibsndfileError as error:
        if error.code == FORMAT_UNKNOWN or is_packed(path):
            return _decoded(path)
        raise _unreadable(path, error) from error
    whole = _whole(path) if goes_on(path, file.format) else None
    if whole is not None:
        file.close()
        return whole
    if file.frames == 0 and (place := _unwritten_length(path)):
        file.close()
        return AudioFile(path, _with_length(path, place))
    return file


def readable_endings() -> set[str]:
    """List the endings of recordings that :func:`open_audio` reads here, in small letters."""
    return ENDINGS | (decoding.ENDINGS if decoding.is_installed() else set())


def count_frames(path: str | os.PathLike) -> int:
    """Return how long a recording is, at its own rate; decodes it where its header may be wrong."""
    with open_audio(path) as file:
        if file.length is None or file.is_truncated or file.subtype in INEXACT:
            return sum(map(len, file.read_blocks()))
        return file.length


def read_mono(file: AudioFile, warn: bool = True) -> Iterator[np.ndarray]:
    """Read a recording as the mean of its channels, block by block.

    Where the channels cancel each other, as one with its poles reversed does, the mean would be
    next to silence: from there on the loudest one is taken, and a warning says so.

    Arguments
    ---------
    file : AudioFile
    warn : bool
        Whether to warn of channels that cancel each other and of a truncated file.

    Yields
    ------
    np.ndarray
        [T], float32, at the file's rate.

    Raises
    ------
    ValueError
        Where the file holds no samples, or one that is NaN or infinite.
    """
    chosen = None
    for frames in file.read_blocks():
        _check_finite(file, frames)
        if chosen is None and (chosen := _uncancelled(frames)) is not None and warn:
            logger.warning(
                f"{file.name}: its channels cancel each other, their mean would lose most of the "
                f"sound: channel {chosen + 1} alone is taken"
            )
        yield frames.mean(1) if chosen is None else frames[:, chosen]  # [T]
    if file.frames_read == 0:
        raise AudioError(f"{file.name} holds no samples")
    if file.is_truncated and warn:
        logger.warning(
            f"{file.name} is truncated: only its first {file.frames_read / file.samplerate:.2f} s "
            "are there"
        )


def _check_finite(file: AudioFile, frames: np.ndarray) -> None:
    finite = np.isfinite(frames).all(1)  # [T]
    if not finite.all():
        second = (file.frames_read - len(frames) + finite.argmin()) / file.samplerate
        raise AudioError(
            f"{file.name} has samples that are NaN or infinite, the first at {second:.2f} s: "
            "repair the recording first"
        )


def _uncancelled(frames: np.ndarray) -> int | None:
    """The loudest channel of `frames` [T, channels] where the mean loses most of their energy.

    That is half of what channels that have nothing in common would leave. What nobody hears, such
    as hum in a quiet beginning, decides nothing.
    """
    energies = np.einsum("tc,tc->c", frames, frames)  # [channels]
    mean = frames.mean(1)  # [T]
    is_audible = energies.mean() > AUDIBLE * len(frames)
    if is_audible and mean @ mean < energies.mean() / (2 * len(energies)):
        return int(energies.argmax())
    return None


def _decoded(path: str | os.PathLike) -> AudioFile:
    try:
        return AudioFile(path, decode(path))
    except OSError as error:
        raise AudioError(f"{_printable(path)} can't be read as audio: {error}") from error


def _whole(path: str | os.PathLike) -> AudioFile | None:
    """Open what goes on behind what libsndfile reads; where that can't be, say so."""
    reason = decoding.WHOLE
    if decoding.is_installed():
        try:
            return AudioFile(path, decode(path))
        except OSError as error:
            reason = str(error)
    _tell_of_the_rest(os.fspath(path), reason)
    return None


@cache  # once a file
def _tell_of_the_rest(path: str, reason: str) -> None:
    logger.warning(
        f"{_printable(path)} may be longer than what is read of it, as libsndfile guesses its "
        f"length or reads the first of several parts: {reason}"
    )


def _unreadable(path: str | os.PathLike, error: soundfile.LibsndfileError) -> AudioError:
    reason = error.error_string.rstrip(".")
    return AudioError(f"{_printable(path)} can't be read as audio: {reason}")


def _printable(path: str | os.PathLike) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def _unwritten_length(path: str | os.PathLike) -> int | None:
    """Where a wav file states no bytes of samples though some follow: a recorder died."""
    with open(path, "rb") as file:
        header = file.read(2**16)
    if header[:4] != b"RIFF" or header[8:12] != b"WAVE":
        return None
    place = 12
    while (name := header[place : place + 4]) != b"data":
        if len(name) < 4 or place + 8 > len(header):
            return None
        (size,) = struct.unpack_from("<I", header, place + 4)
        place += 8 + size + size % 2
    has_samples = len(header) > place + 8 and header[place + 8 : place + 12] not in CHUNKS
    return place + 4 if header[place + 4 : place + 8] == bytes(4) and has_samples else None


def _with_length(path: str | os.PathLike, place: int) -> mmap.mmap:
    """The file with the length of all that follows at `place`; on disk it stays as it is."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    struct.pack_into("<I", mapped, place, min(len(mapped) - place - 4, 2**32 - 1))
    return mapped
