"""Tells recordings that go on behind what libsndfile reads of them.

It guesses the length of an mp3 whose first frame does not state it, as recorders and cutters write
them, and ends at its guess. Of an Ogg file that holds several recordings one after another, as net
radio's, or of joined mp3 files it reads the first. FFmpeg reads them all.
"""

import mmap
import os
import struct

ID3 = b"ID3"  # tag before the first frame of an mp3
SYNC = b"\xff"  # how every frame of an mp3 begins
HEADERS = b"Xing", b"Info"  # in an mp3's first frame, before its number of frames and bytes
FIRST_FRAME = 1024  # bytes from its beginning in which the header is
OGG_BEGINS = b"OggS\x00\x02"  # page that begins a stream


def goes_on(path: str | os.PathLike, kind: str) -> bool:
    """Whether there may be more sound in a file than libsndfile reads.

    Arguments
    ---------
    path : str or os.PathLike
    kind : str
        libsndfile's format, "MP3" or "OGG"; of all others it reads everything.

    Example
    -------
    >>> path = getfixture("tmp_path") / "joined.ogg"
    >>> _ = path.write_bytes(2 * (OGG_BEGINS + bytes(100)))
    >>> goes_on(path, "OGG")
    True
    """
    if kind not in ("MP3", "OGG"):
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if kind == "OGG":
            return data.find(OGG_BEGINS, data.find(OGG_BEGINS) + 1) >= 0
        return _mp3_goes_on(data)


def _mp3_goes_on(data: mmap.mmap) -> bool:
    start = _behind_tag(data)
    head = data[start : start + FIRST_FRAME]
    place = max(head.find(header) for header in HEADERS)
    if place < 0:
        return True  # its length is a guess
    has_frames, has_bytes = (head[place + 7] & flag for flag in (1, 2))
    if not has_frames or not has_bytes:
        return not has_frames
    (num_bytes,) = struct.unpack_from(">I", head, place + 12)
    behind = data[start + num_bytes : start + num_bytes + 3]
    return behind == ID3 or behind[:1] == SYNC


def _behind_tag(data: mmap.mmap) -> int:
    """Where the first frame begins: behind a tag, whose size has 7 bits a byte."""
    if data[:3] != ID3:
        return 0
    size = sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size
