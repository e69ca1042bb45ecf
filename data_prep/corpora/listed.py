"""Prepares speech of several sources that a ``manifest.csv`` in its folder lists.

The manifest has a row a recording, with the columns ``speaker``, ``path`` (relative to the folder)
and, as far as known, ``source`` and ``licence``. A name that speakers of several sources have is
taken for several speakers. Every seventh speaker of every source is kept for the test, another
seventh for validation, of a large source the first 40 of them each; mixtures are drawn within a
source, so that results can be told apart by source.
"""

import os
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from speechbrain.utils.logger import get_logger

from data_prep.mixing.drawing import MIN_MIXED, draw_mixtures
from data_prep.scan import manifests
from data_prep.scan.scan import scan, usable

logger = get_logger(__name__)

MANIFEST = "manifest.csv"
COLUMNS = ("speaker", "path")
EVERY = 7  # speakers of a source, in alphabetical order: one of them is kept for each part
KEPT = {0: "test.csv", 3: "valid.csv"}  # which of the seven
MOST_KEPT = 40  # speakers of a source for each part: figures need no more, training does


def is_listed(data_folder: Path) -> bool:
    """Whether the folder has such a manifest."""
    manifest = data_folder / MANIFEST
    return manifest.is_file() and set(COLUMNS) <= set(pd.read_csv(manifest, nrows=0).columns)


def prepare(
    data_folder: str | os.PathLike,
    output_folder: str | os.PathLike,
    sample_rate: int,
    num_spks: int = 2,
    seed: int = 1234,
    num_valid: int = 50,
    num_test: int = 200,
    max_duration: float = 10.0,
    test_only: bool = False,
) -> None:
    """Make ``pool.csv``, ``valid.csv`` and ``test.csv``, of disjoint speakers.

    A second call with the same arguments on the same files does nothing.

    Arguments
    ---------
    data_folder : str or os.PathLike
        With the ``manifest.csv``.
    output_folder : str or os.PathLike
        Where the manifests go; made if missing.
    sample_rate : int
        Rate in Hz that the mixtures will be read at.
    num_spks : int
        Speakers in a mixture.
    seed : int
        Seed of the fixed mixtures. The speakers of each part don't depend on it.
    num_valid, num_test : int
        Fixed mixtures of each source.
    max_duration : float
        Longest fixed mixture in seconds; a mixture is as long as its shortest utterance.
    test_only : bool
        Make ``test.csv`` alone.

    Raises
    ------
    ValueError
        No source has speakers enough.
    """
    data_folder, output_folder = Path(data_folder), Path(output_folder)
    listed = _read(data_folder)
    state = {
        "seed": seed,
        "sample_rate": sample_rate,
        "num_spks": num_spks,
        "mixtures": [num_valid, num_test, max_duration] + ["test"] * test_only,
        "files": manifests.fingerprint(data_folder, [MANIFEST, *listed.index]),
    }
    if manifests.is_prepared(output_folder, state):
        return
    pool = _scan(data_folder, listed, sample_rate, output_folder)
    parts = split(pool)
    draw = partial(
        _draw_by_source,
        data_root=data_folder,
        num_spks=num_spks,
        sample_rate=sample_rate,
        max_duration=max_duration,
    )
    tables = {"test.csv": draw(parts["test.csv"], number=num_test, seed=[seed, 2])}
    if not test_only:
        tables["valid.csv"] = draw(parts["valid.csv"], number=num_valid, seed=[seed, 1])
        tables["pool.csv"] = parts["pool.csv"]
    manifests.write(output_folder, tables, state)


def split(pool: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split a pool with the columns source and speaker into those of train, validation and test.

    Example
    -------
    >>> pool = pd.DataFrame({"source": "a", "speaker": list("abcdefgh")})
    >>> {name: "".join(part["speaker"]) for name, part in split(pool).items()}
    {'test.csv': 'ah', 'valid.csv': 'd', 'pool.csv': 'bcefg'}
    """
    place = pool.groupby("source")["speaker"].rank("dense").astype(int) - 1
    part = (place % EVERY).map(KEPT).where(place < EVERY * MOST_KEPT).fillna("pool.csv")
    return {name: pool[part == name] for name in (*KEPT.values(), "pool.csv")}


def _read(data_folder: Path) -> pd.DataFrame:
    listed = pd.read_csv(data_folder / MANIFEST, dtype=str, keep_default_na=False)
    listed["path"] = [_relative(path, data_folder) for path in listed["path"]]
    manifests.check_ids(listed["path"], MANIFEST)
    for column in ("source", "licence"):
        listed[column] = listed.get(column, "").replace("", "unknown")
    shared = listed.groupby("speaker")["source"].transform("nunique") > 1
    listed["speaker"] = listed["speaker"].mask(shared, listed["source"] + "/" + listed["speaker"])
    return listed.set_index("path")[["source", "licence", "speaker"]]


def _relative(path: str, data_folder: Path) -> str:
    if not os.path.isabs(path):
        return path
    try:
        return str(Path(path).relative_to(data_folder.absolute()))
    except ValueError as error:
        raise ValueError(
            f"{data_folder / MANIFEST} lists {path}, which is not in that folder: paths are "
            "relative to it"
        ) from error


def _scan(
    data_folder: Path, listed: pd.DataFrame, sample_rate: int, output_folder: Path
) -> pd.DataFrame:
    speaker_of = listed["speaker"].__getitem__
    files = scan(data_folder, list(listed.index), sample_rate, speaker_of, folder=output_folder)
    pool = usable(files)
    return pool.join(listed[["source", "licence"]], on="ID")


def _draw_by_source(
    pool: pd.DataFrame, num_spks: int, number: int, seed: list[int], **options
) -> pd.DataFrame:
    """Draw `number` mixtures of each source that has speakers enough in this part.

    That is twice as many as a mixture has: the figures of a single pair would say little. The
    mixtures of a source are the same whatever other sources there are.
    """
    tables = []
    for source, group in pool[pool["duration"] >= MIN_MIXED].groupby("source"):
        if group["speaker"].nunique() < 2 * num_spks:
            logger.info("%s: too few speakers are kept for mixtures of %d", source, num_spks)
            continue
        rng = np.random.default_rng([*seed, zlib.crc32(source.encode())])
        table = draw_mixtures(group, number=number, num_spks=num_spks, rng=rng, **options)
        tables.append(table.assign(ID=f"{source}-" + table["ID"], source=source))
    if not tables:
        raise ValueError(
            f"No source has {2 * num_spks} speakers kept for validation or test (every {EVERY}th): "
            "add speakers to its manifest.csv, or leave that file away and sort the recordings "
            "into one folder a speaker"
        )
    return pd.concat(tables, ignore_index=True)
