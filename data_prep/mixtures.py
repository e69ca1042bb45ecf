"""Fixed mixtures for validation and test: drawing and reading them.

A manifest of fixed mixtures has one row a mixture: ``ID``, ``duration`` in seconds, and for each
source i from 1 its ``speaker_i``, ``wav_i``, ``start_i`` in seconds and ``gain_db_i``, the gain of
the file's raw samples. A row says all: reading it again gives the same samples.
"""

import os
from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from tqdm import tqdm

from data_prep.audio import (
    SILENCE_DB,
    draw_levels_db,
    draw_start,
    peak_scale,
    rate_ratio,
    read_audio,
    rms_db,
)

MIN_MIXED = 1.0  # s: shorter utterances, single words mostly, are left out
DRAWS = 10  # of a mixture, until no source is a pause


def draw_mixtures(
    pool: pd.DataFrame,
    data_root: str | os.PathLike,
    number: int,
    num_spks: int,
    sample_rate: int,
    max_duration: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Draws fixed mixtures, every speaker as often, and every utterance of a speaker.

    Arguments
    ---------
    pool : pd.DataFrame
        Utterances, as in the manifest of ``data_prep.dynamic_mixing``.
    data_root : str or os.PathLike
        Replaces ``$data_root`` in the pool's paths.
    number : int
        Number of mixtures.
    num_spks : int
        Speakers in a mixture, all different.
    sample_rate : int
        Rate in Hz that the mixtures will be read at: their peaks depend on it.
    max_duration : float
        Longest mixture in seconds; a mixture is as long as its shortest utterance.
    rng : np.random.Generator

    Returns
    -------
    pd.DataFrame
        The manifest.
    """
    pool = pool[pool["duration"] >= MIN_MIXED]
    utterances = [group for _, group in pool.groupby("speaker")]
    uses = [np.zeros(len(group)) for group in utterances]
    turns = np.zeros(len(utterances))
    draw = partial(_draw_mixture, data_root, sample_rate, max_duration, rng)
    rows = []
    for n in tqdm(range(number), desc="Mixing", unit="mixture"):
        speakers = _least_used(turns, num_spks, rng)
        chosen = [utterances[s].iloc[_least_used(uses[s], 1, rng)[0]] for s in speakers]
        rows.append({"ID": f"mix{n:05d}", **draw(chosen)})
    return pd.DataFrame(rows)


def read_sources(row: Mapping, sample_rate: int, num_spks: int) -> torch.Tensor:
    """Reads the sources of one row of a manifest; the mixture is their sum.

    Arguments
    ---------
    row : Mapping
        ``duration`` and, for each source i, ``wav_i``, ``start_i`` and ``gain_db_i``.
    sample_rate : int
        Wanted sampling rate in Hz.
    num_spks : int
        Number of sources, C.

    Returns
    -------
    torch.Tensor [T, C]
        float32, T = round(duration * sample_rate).

    Raises
    ------
    OSError
        A file cannot be read.
    """
    num_samples = round(float(row["duration"]) * sample_rate)
    sources = np.empty((num_samples, num_spks), np.float32)  # [T, C]
    for c in range(num_spks):
        start, gain_db = float(row[f"start_{c + 1}"]), float(row[f"gain_db_{c + 1}"])
        audio = read_audio(row[f"wav_{c + 1}"], sample_rate, start, num_samples)  # [T]
        sources[:, c] = audio * 10 ** (gain_db / 20)
    return torch.from_numpy(sources)


def mixture_dataset(
    manifest: str | os.PathLike,
    data_root: str | os.PathLike,
    sample_rate: int,
    num_spks: int,
) -> DynamicItemDataset:
    """Dataset of the fixed mixtures of a manifest.

    Items are ``id``, ``mixture`` [T] and ``sources`` [T, C], float32; the mixture is exactly
    ``sources.sum(-1)``. ``speechbrain.dataio.batch.PaddedBatch`` collates them.

    Arguments
    ---------
    manifest : str or os.PathLike
        Made by ``data_prep.folder.prepare`` or in the same format.
    data_root : str or os.PathLike
        Replaces ``$data_root`` in the manifest's paths.
    sample_rate : int
        Wanted sampling rate in Hz.
    num_spks : int
        Number of sources, C.

    Returns
    -------
    DynamicItemDataset

    Raises
    ------
    ValueError
        No manifest, or not one of mixtures of ``num_spks`` sources.
    OSError
        While reading an item: one of its files is missing or broken.
    """
    if not os.path.isfile(manifest):
        raise ValueError(f"No manifest at {manifest}: prepare the data first")
    dataset = DynamicItemDataset.from_csv(manifest, replacements={"data_root": data_root})
    _check_sources(dataset, manifest, num_spks)
    keys = ["duration"]
    keys += [f"{k}_{c + 1}" for c in range(num_spks) for k in ("wav", "start", "gain_db")]
    read = partial(_read_values, keys, os.fspath(manifest), sample_rate, num_spks)
    dataset.add_dynamic_item(read, takes=keys, provides="sources")
    dataset.add_dynamic_item(_mix, takes="sources", provides="mixture")
    dataset.set_output_keys(["id", "mixture", "sources"])
    return dataset


def _draw_mixture(
    data_root: str | os.PathLike,
    sample_rate: int,
    max_duration: float,
    rng: np.random.Generator,
    utterances: list[pd.Series],
) -> dict:
    """Draws one mixture of given utterances: where each begins, and its gain."""
    num_samples = int(min(max_duration, *(u["duration"] for u in utterances)) * sample_rate)
    for _ in range(DRAWS):
        row = {"duration": num_samples / sample_rate}
        levels_db = draw_levels_db(rng, len(utterances))
        for i, (utterance, level_db) in enumerate(zip(utterances, levels_db, strict=True), 1):
            row |= {f"speaker_{i}": utterance["speaker"], f"wav_{i}": utterance["wav"]}
            row[f"start_{i}"] = _draw_start(utterance, num_samples, sample_rate, rng)
            row[f"gain_db_{i}"] = level_db - utterance["level_db"]
        sources = read_sources(_located(row, data_root), sample_rate, len(utterances)).numpy()
        if min(map(rms_db, sources.T)) > SILENCE_DB:  # [C, T]
            break
    scale_db = 20 * np.log10(peak_scale(sources))
    gains = {key: round(row[key] + scale_db, 4) for key in row if key.startswith("gain_db")}
    return row | gains


def _least_used(uses: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    chosen = np.lexsort((rng.random(len(uses)), uses))[:number]  # equals in random order
    uses[chosen] += 1
    return chosen


def _draw_start(
    utterance: pd.Series, num_samples: int, sample_rate: int, rng: np.random.Generator
) -> float:
    rate = utterance["sample_rate"]
    num_frames = round(utterance["duration"] * rate)
    return draw_start(rng, num_frames, num_samples, rate_ratio(rate, sample_rate)) / rate


def _located(row: dict, data_root: str | os.PathLike) -> dict:
    """The row with its paths replaced."""
    wavs = [key for key in row if key.startswith("wav_")]
    return row | {key: row[key].replace("$data_root", str(data_root), 1) for key in wavs}


def _check_sources(dataset: DynamicItemDataset, manifest: str | os.PathLike, num_spks: int) -> None:
    row = dataset.data[dataset.data_ids[0]]
    found = sum(key.startswith("wav_") for key in row)
    if found != num_spks:
        raise ValueError(
            f"{manifest} lists mixtures of {found} sources, num_spks is {num_spks}: "
            "set num_spks to that, or prepare the data again"
        )


def _read_values(keys: list[str], manifest: str, sample_rate: int, num_spks: int, *values):
    try:
        return read_sources(dict(zip(keys, values, strict=True)), sample_rate, num_spks)
    except OSError as error:
        raise OSError(
            f"{error} (listed in {manifest}): check data_root, or prepare the data again"
        ) from error


def _mix(sources: torch.Tensor) -> torch.Tensor:
    return sources.sum(dim=-1)  # [T]
