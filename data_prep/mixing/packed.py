"""A packed corpus: all recordings of a pool in one file, decoded and resampled once.

A pack is a folder. ``samples.i16`` holds the recordings at the wanted rate, one after another;
``index.csv`` has a row a recording, in the order of ``data_prep.mixing.recordings.read_pool``:

``length``       in samples; 0 where the file cannot be read
``scale``        of one step of its 16 bits: its peak is 32767 steps
``size``         of its file in bytes, and
``mtime``        its time of change in ns, by which a change is noticed

Until it is whole, the folder's name ends in ``.unfinished``. It is named by the manifest's rows, so
that runs on the same recordings share it, wherever these lie.
"""

import hashlib
import io
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from data_prep.mixing.recordings import Files, num_samples, read_pool
from sfsrnet_modules.common.writing import alone

logger = get_logger(__name__)

SAMPLES, INDEX = "samples.i16", "index.csv"
COLUMNS = ["length", "scale", "size", "mtime"]
VERSION = 1  # of what a pack holds; raise it when the same recordings give another one
PEAK = 32767  # steps of 16 bits
SPARE = 2**30  # bytes of the disk that are left to checkpoints
COMPARED = 64  # recordings whose files are looked at before a pack is trusted
AT_ONCE = 64  # recordings decoded before they are written: some hundred MB at most


class Packed:
    """Recordings of a packed pool, sliced out of one memory-mapped file.

    They are those of ``data_prep.mixing.recordings.Files`` to within half a step of 16 bits at
    full scale, the recording's peak / 65534.

    Arguments
    ---------
    folder : Path
        The pack.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        index = pd.read_csv(folder / INDEX)
        self._bounds = np.append(0, index["length"].cumsum())
        self._scales = index["scale"].to_numpy(np.float32)
        samples = np.memmap(folder / SAMPLES, np.int16, mode="r")
        self._samples = np.asarray(samples)  # slices of a memmap take several times as long

    def __reduce__(self) -> tuple:
        return Packed, (self.folder,)  # a worker that is spawned maps the file for itself

    def read(self, i: int, start: int, out: np.ndarray, gain: float = 1.0) -> None:
        """Read a crop of a recording; as ``data_prep.mixing.recordings.Files.read``."""
        begin = self._bounds[i] + start
        end = begin + len(out)
        if end > self._bounds[i + 1]:
            raise OSError(f"number {i} of {self.folder} could not be read when it was packed")
        np.multiply(self._samples[begin:end], np.float32(gain * self._scales[i]), out=out)


def find_pack(table: pd.DataFrame, sample_rate: int, folder: Path) -> Packed | None:
    """Open the pack of a pool.

    Arguments
    ---------
    table : pd.DataFrame
        Of ``data_prep.mixing.recordings.read_pool``.
    sample_rate : int
        Hz.
    folder : Path
        Where packs lie.

    Returns
    -------
    Packed or None
        None where there is none, its file does not have the index's length, or it is of other
        files of the same names and lengths, as some of them show.
    """
    pack = _name(table, sample_rate, folder)
    if not (pack / INDEX).is_file():
        return None
    index = pd.read_csv(pack / INDEX)
    whole = 0 < 2 * int(index["length"].sum()) == os.path.getsize(pack / SAMPLES)
    some = np.unique(np.linspace(0, len(table) - 1, COMPARED).astype(int))
    files = _facts(table.iloc[some])
    same = (index[["size", "mtime"]].to_numpy()[some] == files) | (files == -1)  # not there: fine
    return Packed(pack) if whole and same.all() else None


def pack(
    manifest: str | os.PathLike,
    sample_rate: int,
    folder: str | os.PathLike,
    **roots: str | os.PathLike | None,
) -> None:
    """Pack the recordings of a pool, unless that is done; one that was stopped goes on.

    Where there is no room for it, a warning says how much is missing: dynamic mixing then reads
    the files one by one.

    Arguments
    ---------
    manifest : str or os.PathLike
        See ``data_prep.mixing.pool.Pool``.
    sample_rate : int
        Rate in Hz to pack them at.
    folder : str or os.PathLike
        Where packs lie; made if missing. Runs may share it.
    **roots : str or os.PathLike
        Each replaces its name, after a ``$``, in the manifest's paths.
    """
    table, folder = read_pool(manifest, **roots), Path(folder)
    place = _name(table, sample_rate, folder)
    files = _facts(table)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(place):
            if find_pack(table, sample_rate, folder) and _num_unchanged(place, files) == len(files):
                logger.info("%s is packed already: %s", manifest, place)
                return
            shutil.rmtree(place, ignore_errors=True)
            _write(place, table, files, sample_rate)
    except OSError as error:
        if find_pack(table, sample_rate, folder):  # in a folder that only others may write to
            return
        message = "%s is not packed, its files are read one by one, which takes longer: %s"
        logger.warning(message, manifest, error)


def _name(table: pd.DataFrame, sample_rate: int, folder: Path) -> Path:
    rows = table[["wav", "duration", "sample_rate"]].to_csv(index=False)
    digest = hashlib.sha256(f"{VERSION} {rows}".encode(errors="surrogateescape")).hexdigest()
    return folder / f"{sample_rate}-{digest[:16]}"


def _facts(table: pd.DataFrame) -> np.ndarray:
    """Size and time of change of each file, [N, 2]; -1 where there is none."""
    stats = [os.stat(path) if os.path.exists(path) else None for path in table["path"]]
    return np.array([(s.st_size, s.st_mtime_ns) if s else (-1, -1) for s in stats], np.int64)


def _write(place: Path, table: pd.DataFrame, files: np.ndarray, sample_rate: int) -> None:
    """Write a pack whole, or as much of it as there is time for."""
    unfinished = place.with_name(place.name + ".unfinished")
    unfinished.mkdir(exist_ok=True)
    lengths = num_samples(table, sample_rate)
    done = _resume(unfinished, files)
    try:
        _check_room(place.parent, 2 * int(lengths[done:].sum()))
        _append(unfinished, table, files, lengths, sample_rate, done)
    except OSError:  # a full disk, mostly: others need what is left
        shutil.rmtree(unfinished, ignore_errors=True)
        _check_room(place.parent, 2 * int(lengths.sum()))
        raise
    os.rename(unfinished, place)


def _append(
    folder: Path,
    table: pd.DataFrame,
    files: np.ndarray,
    lengths: np.ndarray,
    sample_rate: int,
    done: int,
) -> None:
    """Append the recordings from number `done` on, each before its row of the index."""
    read = partial(_read_packed, Files(table, sample_rate), table, lengths)
    with (
        open(folder / SAMPLES, "ab") as samples,
        open(folder / INDEX, "a", encoding="utf-8") as index,
        # Threads, as libsndfile decodes without Python's lock: nothing to fork or to pickle.
        ThreadPoolExecutor(os.cpu_count()) as threads,
        tqdm(desc="Packing", unit="file", initial=done, total=len(table)) as progress,
    ):
        for first in range(done, len(table), AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, len(table)))
            for i, (audio, scale) in zip(numbers, threads.map(read, numbers), strict=True):
                samples.write(audio.data)
                samples.flush()
                index.write(f"{len(audio)},{scale!r},{files[i, 0]},{files[i, 1]}\n")
                index.flush()
            progress.update(len(numbers))
        for file in (samples, index):
            os.fsync(file.fileno())


def _read_packed(
    recordings: Files, table: pd.DataFrame, lengths: np.ndarray, i: int
) -> tuple[np.ndarray, float]:
    """Read a recording as int16 [T], and the scale of a step; nothing where it is broken."""
    audio = np.empty(lengths[i], np.float32)  # [T]
    try:
        recordings.read(i, 0, audio)
    except OSError as error:
        logger.warning("Packing leaves out %s: %s", table["ID"][i], error)
        return np.zeros(0, np.int16), 1.0
    scale = max(float(np.abs(audio).max(initial=0)), 1e-9) / PEAK
    return np.rint(audio / np.float32(scale)).astype(np.int16), scale


def _resume(folder: Path, files: np.ndarray) -> int:
    """Cut an unfinished pack to the recordings that it has whole; return their number."""
    done = _num_unchanged(folder, files)
    header = ",".join(COLUMNS) + "\n"
    rows = (folder / INDEX).read_text().splitlines(True)[1 : done + 1] if done else []
    num_bytes = 2 * sum(int(row.split(",")[0]) for row in rows)
    if done and os.path.getsize(folder / SAMPLES) < num_bytes:  # lost in a crash of the machine
        done, rows, num_bytes = 0, [], 0
    (folder / INDEX).write_text(header + "".join(rows))
    with open(folder / SAMPLES, "ab") as samples:
        samples.truncate(num_bytes)
    return done


def _num_unchanged(folder: Path, files: np.ndarray) -> int:
    """Number of recordings of a pack up to the first one whose file is another now."""
    if not (folder / INDEX).is_file():
        return 0
    whole_lines, _, _ = (folder / INDEX).read_text().rpartition("\n")
    index = pd.read_csv(io.StringIO(whole_lines or ",".join(COLUMNS)))
    facts = index[["size", "mtime"]].to_numpy(np.int64)[: len(files)]
    changed = (facts != files[: len(facts)]).any(axis=1)
    return int(changed.argmax()) if changed.any() else len(facts)


def _check_room(folder: Path, num_bytes: int) -> None:
    missing = num_bytes + SPARE - shutil.disk_usage(folder).free
    if missing > 0:
        raise OSError(
            f"it needs {num_bytes / 1e9:.2f} GB and {SPARE / 1e9:.2f} GB to spare in "
            f"{folder}, {missing / 1e9:.2f} GB are missing: make room, or set cache_folder "
            "to another disk"
        )
