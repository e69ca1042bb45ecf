"""Recordings of a pool at the wanted rate, read out of their files."""

import os

import numpy as np
import pandas as pd

from sfsrnet_modules.common.crops import read_audio


def read_pool(manifest: str | os.PathLike, **roots: str | os.PathLike | None) -> pd.DataFrame:
    """Read a manifest of recordings, those of a speaker one after another.

    Arguments
    ---------
    manifest : str or os.PathLike
        See ``data_prep.mixing.pool.Pool``.
    **roots : str or os.PathLike
        Each replaces its name, after a ``$``, in the manifest's paths.

    Returns
    -------
    pd.DataFrame
        The manifest's columns, and ``path``.

    Raises
    ------
    ValueError
        There is no such manifest.
    """
    if not os.path.isfile(manifest):
        raise ValueError(f"No manifest at {manifest}: prepare the data first")
    table = pd.read_csv(manifest, dtype={"ID": str, "speaker": str}, keep_default_na=False)
    table = table.sort_values("speaker", kind="stable", ignore_index=True)
    table["path"] = table["wav"]
    for name, root in roots.items():
        table["path"] = [path.replace(f"${name}", str(root), 1) for path in table["path"]]
    return table


def num_samples(table: pd.DataFrame, sample_rate: int) -> np.ndarray:
    """Count the samples of each recording of a pool, resampled to ``sample_rate`` in Hz."""
    rates = table["sample_rate"].to_numpy(np.int64)
    frames = np.rint(table["duration"] * rates).to_numpy(np.int64)
    return -(-frames * sample_rate // rates)  # rounded up


class Files:
    """Recordings that are decoded and resampled anew at each reading.

    Arguments
    ---------
    table : pd.DataFrame
        Of ``read_pool``.
    sample_rate : int
        Wanted sampling rate in Hz.
    """

    def __init__(self, table: pd.DataFrame, sample_rate: int):
        # An array, whose memory workers share; they would copy a list as they count references.
        self._paths = np.array([os.fsencode(path) for path in table["path"]])
        self._sample_rate = sample_rate

    def read(self, i: int, start: int, out: np.ndarray, gain: float = 1.0) -> None:
        """Read a crop of a recording.

        Arguments
        ---------
        i : int
            Row of the table.
        start : int
            First sample of the resampled recording; lies at a whole frame of the file.
        out : np.ndarray [T]
            float32; the crop is written into it, and as long.
        gain : float
            Factor of the samples.

        Raises
        ------
        OSError
            The file is missing, broken or shorter than the table has it.
        """
        path, second = os.fsdecode(self._paths[i]), start / self._sample_rate
        crop = read_audio(path, self._sample_rate, second, len(out))
        np.multiply(crop, np.float32(gain), out=out)
