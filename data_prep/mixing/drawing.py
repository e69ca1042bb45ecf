"""Drawing fixed mixtures, whose manifest ``data_prep.mixing.fixed`` reads."""

import os
from functools import partial

import numpy as np
import pandas as pd
from tqdm import tqdm

from data_prep.mixing.fixed import located, read_mixture
from data_prep.mixing.levels import (
    PAUSE_DB,
    draw_levels_db,
    from_db,
    peak_scale,
    rms_db,
)
from sfsrnet_modules.common.crops import draw_start, last_frame, rate_ratio

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
    """Draw fixed mixtures, every speaker as often, and every utterance of a speaker.

    Arguments
    ---------
    pool : pd.DataFrame
        Utterances, as in the manifest of ``data_prep.mixing.dynamic``.
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


def _draw_mixture(
    data_root: str | os.PathLike,
    sample_rate: int,
    max_duration: float,
    rng: np.random.Generator,
    utterances: list[pd.Series],
) -> dict:
    """Draw one mixture of given utterances: where each begins, and its gain."""
    num_samples = int(min(max_duration, *(u["duration"] for u in utterances)) * sample_rate)
    for _ in range(DRAWS):
        row = {"duration": num_samples / sample_rate}
        levels_db = draw_levels_db(rng, len(utterances))
        for i, (utterance, level_db) in enumerate(zip(utterances, levels_db, strict=True), 1):
            row |= {f"speaker_{i}": utterance["speaker"], f"wav_{i}": utterance["wav"]}
            row[f"start_{i}"] = _draw_start(utterance, num_samples, sample_rate, rng)
            row[f"gain_{i}"] = from_db(level_db - utterance["level_db"])
        placed = located(pd.DataFrame([row]), data_root, None).iloc[0]
        mixture, sources = read_mixture(placed, sample_rate, len(utterances), 0, num_samples)
        if all(rms_db(s) > db + PAUSE_DB for s, db in zip(sources.T, levels_db, strict=True)):
            break
    scale = peak_scale(mixture, sources)
    return row | {key: row[key] * scale for key in row if key.startswith("gain")}


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


def draw_noise_crop(
    noise: pd.Series, num_samples: int, sample_rate: int, rng: np.random.Generator
) -> dict:
    """Draw where in a recording, a row of a pool, the noise of a mixture lies: its columns."""
    ratio = rate_ratio(noise["sample_rate"], sample_rate)
    needed = last_frame(num_samples, ratio)
    is_long = round(noise["duration"] * noise["sample_rate"]) >= needed
    start = _draw_start(noise, num_samples, sample_rate, rng) if is_long else 0.0
    end = round(start * noise["sample_rate"]) + needed
    return {"wav_noise": noise["wav"], "start_noise": start, "end_noise": end}
