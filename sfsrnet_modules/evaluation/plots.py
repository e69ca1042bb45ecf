"""Draws results: SI-SNRi band by band, and the curves of trainings.

``python -m sfsrnet_modules.evaluation.plots OUTPUT_FOLDER... -o curves.png`` draws the curves of
one or more trainings out of their ``train_log.txt``.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from sfsrnet_modules.common.hparams import one_line_errors
from sfsrnet_modules.evaluation.scoring import BEFORE_SR
from sfsrnet_modules.evaluation.summary import interval

matplotlib.use("Agg")  # no screen on a cluster
from matplotlib import pyplot as plt

LOG = "train_log.txt"
BINS = 5  # of SNR or reverberation time


def draw_bands(scores: pd.DataFrame, picture: Path, kinds: Mapping[str, str] | None = None) -> Path:
    """Draw SI-SNRi in bands, before and after SR, with 95 % intervals over the items.

    Arguments
    ---------
    scores : pandas.DataFrame
        Of ``evaluate.py --bands``.
    picture : Path
        Where to.
    kinds : mapping, optional
        Label, and what the columns of its estimates end in. Default: before and after SR.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    ValueError
        Where the scores have no bands.
    """
    bands = [name for name in scores if re.fullmatch(r"band_\d+_\d+khz", name)]
    if not bands:
        raise ValueError("the results have no bands: make them with evaluate.py --bands")
    if kinds is None:
        has_sr = bands[0] + BEFORE_SR in scores
        kinds = {"without SR": BEFORE_SR, "with SR": ""} if has_sr else {"without SR": ""}
    width = 0.8 / max(len(kinds), 2)
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for i, (label, suffix) in enumerate(kinds.items()):
        place = np.arange(len(bands)) + width * (i - (len(kinds) - 1) / 2)
        values = [scores[band + suffix].dropna() for band in bands]
        _draw_bars(axes, place, width, values, label)
    axes.set_xticks(range(len(bands)), [_kilohertz(band) for band in bands])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="band, kHz", ylabel="SI-SNRi, dB", title=f"{len(scores)} mixtures")
    axes.legend()
    figure.savefig(picture, dpi=120)
    plt.close(figure)
    return picture


def draw_conditions(results: Mapping[str, pd.DataFrame], picture: Path) -> Path:
    """Draw SI-SNRi over the SNR and over the reverberation time, with 95 % intervals.

    Arguments
    ---------
    results : dict
        Scores of each set, with what is known of its mixtures: ``snr`` (dB), ``t60`` (s).
    picture : Path
        Where to.

    Returns
    -------
    Path
        The picture.
    """
    labels = {"snr": "SNR, dB", "t60": "T60, s"}
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
    for axes, (column, label) in zip(panels, labels.items(), strict=True):
        for name, scores in results.items():
            if column in scores and "si_snr_i" in scores:
                _draw_binned(axes, pd.to_numeric(scores[column]), scores["si_snr_i"], name)
        axes.set(xlabel=label, ylabel="SI-SNRi, dB")
        if axes.has_data():
            axes.legend()
    figure.savefig(picture, dpi=120)
    plt.close(figure)
    return picture


def _draw_binned(axes, x: pd.Series, y: pd.Series, label: str) -> None:
    """Draw the mean of `y` in equal parts of the range of `x`."""
    bins = [y[part.index] for _, part in x.groupby(pd.cut(x, BINS), observed=True)]
    means = np.array([b.mean() for b in bins])
    ends = np.array([interval(b.to_numpy()) for b in bins])  # [bins, 2]
    places = [x[b.index].mean() for b in bins]
    axes.errorbar(places, means, np.abs(ends.T - means), capsize=3, marker="o", label=label)


def _draw_bars(axes, place: np.ndarray, width: float, values: list[pd.Series], label: str) -> None:
    means = np.array([x.mean() for x in values])
    ends = np.array([interval(x.to_numpy()) for x in values])  # [bands, 2]
    axes.bar(place, means, width, yerr=np.abs(ends.T - means), capsize=3, label=label)


def _kilohertz(band: str) -> str:
    return "–".join(re.findall(r"\d+", band))


def read_curves(log: Path) -> pd.DataFrame:
    """Read a ``train_log.txt`` of SpeechBrain: a row an epoch, a column a figure.

    Example
    -------
    >>> log = getfixture("tmp_path") / "train_log.txt"
    >>> text = "epoch: 1, lr: 1.00e-03 - train loss: 2.5 - valid loss: 2.1, valid si_snr_i: 3.1"
    >>> _ = log.write_text(text)
    >>> read_curves(log)["valid si_snr_i"].to_dict()
    {1: 3.1}
    """
    if not log.is_file():
        raise ValueError(f"no {log}: give the output folder of a training")
    lines = [line for line in log.read_text().splitlines() if line.startswith("epoch: ")]
    figures = [dict(re.findall(r"([a-z][\w ]*): ([^\s,]+)", line)) for line in lines]
    if not figures:
        raise ValueError(f"{log} has no finished epoch yet: wait for the first")
    return pd.DataFrame(figures).astype(float).astype({"epoch": int}).set_index("epoch")


def draw_curves(folders: list[Path], picture: Path) -> Path:
    """Draw SI-SNRi in validation and the terms of the loss in training over the epochs.

    A continued run logs an interrupted epoch once. Several trainings share the picture.
    """
    figure, (scores, terms) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for folder in folders:
        curves = read_curves(folder / LOG)
        name = f"{folder.parent.name}/{folder.name}" if len(folders) > 1 else ""
        for axes, stage, shown in ((scores, "valid", "si_snr_i"), (terms, "train", "(block|sr)")):
            for column in curves.filter(regex=f"^{stage} {shown}").columns:
                label = f"{name} {column.removeprefix(f'{stage} ')}".strip()
                axes.plot(curves.index, curves[column], ".-", label=label)
    scores.set(xlabel="epoch", ylabel="dB", title="Validation: SI-SNRi")
    terms.set(xlabel="epoch", ylabel="dB", title="Training: SI-SNR of each term of the loss")
    for axes in (scores, terms):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(picture, dpi=120)
    plt.close(figure)
    return picture


def main(arguments: list[str] | None = None) -> int:
    """Draw the curves of the trainings on the command line."""
    parser = argparse.ArgumentParser(description="Draw the curves of trainings.")
    parser.add_argument("folders", nargs="+", type=Path, help="output folders of trainings")
    parser.add_argument("-o", "--output", type=Path, default=Path("curves.png"))
    args = parser.parse_args(arguments)
    with one_line_errors():
        print(draw_curves(args.folders, args.output.with_suffix(args.output.suffix or ".png")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
