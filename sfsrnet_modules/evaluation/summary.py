"""Tests an exported model, and tells how sure the figures are: means, intervals, differences."""

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from sfsrnet_modules.evaluation.scoring import Scoring, name_estimates
from sfsrnet_modules.inference import SFSRNetSeparation

CONFIDENCE = 0.95
RESAMPLES = 2000  # of the bootstrap: its ends move by about 1 % of the interval's width
SEED = 0  # of the bootstrap, so that a figure can be printed again
# s, dB: at two rates a mixture is not quite the same
SAME = pd.Series({"duration": 0.005, "unprocessed": 0.5})


def evaluate(
    separator: SFSRNetSeparation,
    test_set: Dataset,
    every_block: bool = False,
    bands: bool = False,
    num_workers: int = 0,
    in_segments: bool = False,
    measures: tuple[str, ...] | None = None,
) -> pd.DataFrame:
    """Separate and score every item of a test set.

    Items are read and separated one by one in this process, without padding, and scored in others.

    Arguments
    ---------
    separator : SFSRNetSeparation
        The model.
    test_set : Dataset
        Items with ``id``, ``mixture`` [T] and ``sources`` [T, C] at the model's rate.
    every_block : bool
        Whether the separator's earlier estimates are scored as well.
    bands : bool
        Whether SI-SNRi is told in bands of 1 kHz as well.
    num_workers : int
        Processes that score; 0: none but this one.
    in_segments : bool
        Whether items are separated as long recordings are, segment by segment, the voices in one
        order throughout (``SFSRNetSeparation.stream``); then there is no estimate but the answer.
    measures : tuple of str, optional
        Of ``Scoring``.

    Returns
    -------
    pandas.DataFrame
        A row an item, as in ``test_results.csv``; ``id`` is its index.
    """
    scoring = Scoring(separator.hparams.sample_rate, num_workers, bands, measures)
    for i in tqdm(range(len(test_set)), desc="Separating", unit="item", disable=None):
        item = test_set[i]
        if in_segments:
            estimates = {"": torch.cat(list(separator.stream([item["mixture"]])))}  # [T, C]
        else:
            estimates = separate(separator, item["mixture"], every_block)
        scoring.add(item["id"], item["mixture"], item["sources"], estimates)
    return pd.DataFrame(scoring.rows()).set_index("id")


@torch.inference_mode()
def separate(separator: SFSRNetSeparation, mixture: Tensor, every_block: bool) -> dict[str, Tensor]:
    """Separate `mixture` [T] into named estimates [T, C], see :func:`name_estimates`.

    There is no estimate but the answer where it is an average of two.
    """
    if separator.twice:
        return {"": separator.separate_batch(mixture[None])[0].float().cpu()}
    model = separator.mods.model
    with separator.inference_ctx:
        estimates = model(mixture[None].to(separator.device), every_block)  # [E, 1, T, C]
    return name_estimates(estimates[:, 0].float().cpu(), model.super_resolution is not None)


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean, its 95 % interval by bootstrap over items, and median of every column.

    Arguments
    ---------
    scores : pandas.DataFrame
        A row an item; ``duration`` is left out.

    Returns
    -------
    pandas.DataFrame
        A row a column of `scores`: "mean", "low", "high", "median", and "items", the number of
        those with a value.

    Example
    -------
    >>> summarise(pd.DataFrame({"si_snr_i": [9.0, 10.0, 11.0, 14.0]})).round(1)
              mean  low  high  median  items
    si_snr_i  11.0  9.5  13.0    10.5      4
    """
    columns = scores.drop(columns="duration", errors="ignore")
    return pd.DataFrame({name: _summary(columns[name].dropna()) for name in columns}).T.astype(
        {"items": int}
    )


def compare_conditions(results: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Summarise SI-SNRi of every set, or what there is instead where sources are silent.

    Example
    -------
    >>> clean = pd.DataFrame({"si_snr_i": [9.0, 11.0]})
    >>> alone = pd.DataFrame({"voice_si_snr": [20.0, 22.0], "leak": [-15.0, -17.0]})
    >>> compare_conditions({"clean": clean, "one voice": alone})["mean"]
    clean si_snr_i            10.0
    one voice voice_si_snr    21.0
    one voice leak           -16.0
    Name: mean, dtype: float64
    """
    columns = ("si_snr_i", "voice_si_snr", "leak")
    found = {f"{set_} {c}": x[c] for set_, x in results.items() for c in columns if c in x}
    return summarise(pd.DataFrame({name: pd.Series(x.to_numpy()) for name, x in found.items()}))


def _summary(values: pd.Series) -> pd.Series:
    low, high = interval(values.to_numpy())
    summary = {"mean": values.mean(), "low": low, "high": high, "median": values.median()}
    return pd.Series({**summary, "items": len(values)})


def interval(values: np.ndarray) -> tuple[float, float]:
    """End of the 95 % interval of a mean; NaN for fewer than two values."""
    if len(values) < 2:
        return float("nan"), float("nan")
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=100,  # of the resamples at once: memory stays small
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def differences(scores: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """What each item has gained over another run, summarised: pairing takes the items' spread away.

    Arguments
    ---------
    scores, others : pandas.DataFrame
        A row an item; rows are matched by ``id``, columns by name.

    Returns
    -------
    pandas.DataFrame
        As :func:`summarise` gives it.

    Raises
    ------
    ValueError
        Where the two have no item in common, or items of one name are other mixtures.
    """
    shared = scores.index.intersection(others.index)
    if shared.empty:
        raise ValueError(
            f"no id of the {len(scores)} items is among the {len(others)} to compare with: "
            "compare results on the same manifest"
        )
    one, two = (_known_by(results.loc[shared]) for results in (scores, others))
    other = (one - two).abs().gt(SAME).any(axis=1)  # a column that either lacks tells nothing
    if other.any():
        raise ValueError(
            f"{other.sum()} of {len(shared)} items that both name are other mixtures, the first "
            f"{other.idxmax()}: compare results on the same manifest"
        )
    columns = [name for name in scores if name in others and name != "duration"]
    return summarise(scores.loc[shared, columns] - others.loc[shared, columns])


def _known_by(results: pd.DataFrame) -> pd.DataFrame:
    """What does not hang on the model: the mixtures' duration, and SI-SNR before separation."""
    known = results.filter(["duration"])
    if {"si_snr", "si_snr_i"} <= set(results):
        known = known.assign(unprocessed=results["si_snr"] - results["si_snr_i"])
    return known


def read_results(path: str | os.PathLike) -> pd.DataFrame:
    """Read a ``test_results.csv``; a ``ValueError`` says where it is none."""
    try:
        return pd.read_csv(path, dtype={"id": str}).set_index("id")
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} can't be read as results ({error}): give a csv file that evaluate.py or "
            "train.py wrote"
        ) from error
