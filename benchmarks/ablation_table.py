"""Writes ``benchmarks/ablation.md`` and its picture out of the folders of the ablation's runs."""

import json
from pathlib import Path

import matplotlib
import pandas as pd

from benchmarks.about import table
from benchmarks.rows import AS_SMALL, OF_SMALL, ROWS, SMALL, TABLES
from sfsrnet_modules.evaluation.summary import interval, read_results

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HEAD = """\
# Ablation

Written by `python -m benchmarks.ablation`. Rows of a table have the same seeds, data, mixtures and
steps ("equal time": as many as take the time of the others), and are scored on mixtures of the
validation speakers, on whom choices are made. SI-SNRi in dB with its 95 % interval over the items
(of all seeds), and with the least and most of the seeds' means. "Difference" is to the row in bold,
item by item, of the seeds that both have. "Paper" is another task: the paper's own figures, models
of 26 to 59 M parameters trained 100 epochs on WSJ0-2mix; only their order can be compared with
ours. G MAC and ms are for a second of audio. Where a row is empty, the reason stands below its
table.

![Every row's difference to the row in bold, the black dot](ablation.png)
"""
# of the runs' folder: of every table and device the models' times, of one run
MS = "milliseconds.json"
SCORES = "validation_results.csv"  # of a run's folder
DEVICES = {"cpu": "ms", "cuda": "ms on a GPU"}
HEADER = ["row", "SI-SNRi", "seeds", "difference", "before SR", "M parameters", "G MAC", "minutes"]
NOT_ALWAYS = [
    "paper, SI-SNRi",
    *[f"{ms}{size}" for size in ("", ", published size") for ms in DEVICES.values()],
    "paper, ms on an RTX 2070 Super",
]


def write_report(folder: Path, output: Path) -> Path:
    """Write every table, with empty rows for what was not run, and draw them beside it.

    Arguments
    ---------
    folder : Path
        Of the runs: ``<row>/<seed>``.
    output : Path
        The file.

    Returns
    -------
    Path
        The file.
    """
    parts = [HEAD.rstrip()]
    all_times = _read(folder / MS)
    for name, (title, base, keys) in TABLES.items():
        times = all_times.get(name, {})
        parts += [f"## {title}", _table(folder, base, keys, times)]
        parts += [_notes(folder, name, keys, times)]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    _draw(folder, output.with_suffix(".png"))
    return output


def _draw(folder: Path, picture: Path) -> None:
    """Draw every row's difference to its table's base, with the interval."""
    heights = [len(keys) + 1 for _, _, keys in TABLES.values()]
    figure, panels = plt.subplots(
        len(TABLES),
        figsize=(9, 0.3 * sum(heights) + len(TABLES)),
        height_ratios=heights,
        layout="constrained",
    )
    for axes, (title, base, keys) in zip(panels, TABLES.values(), strict=True):
        runs = {key: finished(folder / key) for key in [base, *keys]}
        axes.plot(0, keys.index(base), "o", color="black")
        for place, key in enumerate(keys):
            gains = _gains(runs[key], runs[base] if key != base else None)
            if gains is None:
                continue
            low, high = interval(gains.to_numpy())
            axes.plot([low, high], [place, place], color="C0", linewidth=2)
            axes.plot(gains.mean(), place, "o", color="C0")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(keys)), [ROWS[key].title for key in keys], fontsize="small")
        axes.set_ylim(len(keys) - 0.5, -0.5)
        axes.set_title(title, fontsize="small")
        axes.grid(axis="x", alpha=0.3)
    figure.supxlabel(
        "difference in SI-SNRi to the black dot's row, dB, with its 95 % interval over the items",
        fontsize="small",
    )
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def _table(folder: Path, base: str, keys: list[str], times: dict[str, dict]) -> str:
    """A line a row; a column that hardly a row fills is left out."""
    runs = {key: finished(folder / key) for key in keys}
    lines = []
    for key in keys:
        row = ROWS[key]
        cells = [f"**{row.title}**" if key == base else row.title]
        cells += _figures(runs[key], runs[base] if key != base else None) + _cost(runs[key])
        cells += [row.paper, *_ms(times, key), *_ms(times, f"{key} published"), row.paper_ms]
        lines.append(cells)
    lines = pd.DataFrame(lines, columns=HEADER + NOT_ALWAYS)
    rare = [column for column in NOT_ALWAYS if (lines[column] != "").sum() <= 2]
    lines = lines.drop(columns=rare)
    return table(list(lines), lines.values.tolist())


def finished(folder: Path) -> dict[str, dict]:
    """The runs of a row by their seed, each with its scores: those that came to their end."""
    runs = {}
    for path in sorted(folder.glob("*/run.json")):
        run = _read(path)
        if run["outcome"] == "done" and (path.parent / SCORES).is_file():
            runs[path.parent.name] = run | {"scores": read_results(path.parent / SCORES)}
    return runs


def _figures(runs: dict[str, dict], base: dict[str, dict] | None) -> list[str]:
    """SI-SNRi, its spread over the seeds, the difference to the base, SI-SNRi before SR."""
    if not runs:
        return ["", "", "", ""]
    scores = {seed: run["scores"] for seed, run in runs.items()}
    all_scores = pd.concat(scores.values())
    means = [x["si_snr_i"].mean() for x in scores.values()]
    seeds = f"{len(means)}: {min(means):.2f} to {max(means):.2f}" if len(means) > 1 else "1"
    gains = _gains(runs, base)
    difference = "" if gains is None else _with_interval(gains, sign="+")
    before = all_scores.get("si_snr_i_before_sr")
    before = "" if before is None else f"{before.mean():.2f}"
    return [_with_interval(all_scores["si_snr_i"]), seeds, difference, before]


def _gains(runs: dict[str, dict], base: dict[str, dict] | None) -> pd.Series | None:
    """The difference to the base, item by item, of all seeds that both have."""
    gains = [
        run["scores"]["si_snr_i"].sub(base[seed]["scores"]["si_snr_i"]).dropna()
        for seed, run in runs.items()
        if base is not None and seed in base
    ]
    return pd.concat(gains) if gains else None


def _with_interval(values: pd.Series, sign: str = "") -> str:
    low, high = interval(values.to_numpy())
    return f"{values.mean():{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


def _cost(runs: dict[str, dict]) -> list[str]:
    """Parameters in M, multiply-accumulates in G, minutes of all seeds."""
    if not runs:
        return ["", "", ""]
    model = next(iter(runs.values()))
    minutes = sum(run["minutes"] for run in runs.values())
    return [f"{model['parameters'] / 1e6:.3f}", f"{model['macs'] / 1e9:.2f}", f"{minutes:.0f}"]


def _ms(times: dict[str, dict], key: str) -> list[str]:
    """A model's time on every device, where it was taken."""
    taken = [times.get(device, {"ms": {}})["ms"] for device in DEVICES]
    return [f"{ms[key]:.1f}" if key in ms else "" for ms in taken]


def _notes(folder: Path, name: str, keys: list[str], times: dict[str, dict]) -> str:
    """The command of every row, why a row is empty, how and where the figures were made."""
    lines = []
    for key in keys:
        options = " ".join(f"--{k} {_quoted(v)}" for k, v in ROWS[key].options.items())
        command = f"`python train.py {ROWS[key].file} {options}`".replace(" `", "`")
        share = "" if ROWS[key].share == 1 else f", {ROWS[key].share:g} of the steps"
        lines.append(f"- {ROWS[key].title}: {command}{share}{_state(folder, name, key)}")
    timed = [f"{ms}: {times[device]['about']}" for device, ms in DEVICES.items() if device in times]
    return "\n".join([*lines, "", " ".join([_provenance(folder, name, keys), *timed])])


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value


def _state(folder: Path, name: str, key: str) -> str:
    runs = {path.parent.name: _read(path) for path in sorted((folder / key).glob("*/run.json"))}
    if not runs:
        return f"; not run: `python -m benchmarks.ablation --table {name} --rows {key}`"
    unfinished = [f"seed {s}: {r['outcome']}" for s, r in runs.items() if r["outcome"] != "done"]
    return f"; not finished, {'; '.join(unfinished)}" if unfinished else ""


def _provenance(folder: Path, name: str, keys: list[str]) -> str:
    runs = [run for key in keys for run in finished(folder / key).values()]
    told = {
        key: ", ".join(sorted({str(run[key]) for run in runs}))
        for key in ("steps", "extra", "commit", "machine")
    }
    parts = [f"Nothing of table {name} has been trained yet."]
    if runs:
        options = f"--data_folder SPEECH --steps {told['steps']} {told['extra']}".strip()
        command = f"`python -m benchmarks.ablation --table {name} {options}`"
        parts = [f"{command}, commit {told['commit']}, {told['machine']}."]
    if any(ROWS[key].file not in OF_SMALL for key in keys):
        parts.append(f"Rows of other files take {', '.join(AS_SMALL)} from `{SMALL}`.")
    return " ".join(parts)


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
