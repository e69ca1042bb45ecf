"""Keeps what each section of ``benchmarks/speed.py`` gave last, and writes its table and plot."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import sfsrnet_modules  # noqa: F401  first: lets speechbrain be imported on CPU-only torch

# isort: split
import matplotlib
import torch

from benchmarks.about import ROOT, commit, machine
from benchmarks.speed_cases import DEVICE
from benchmarks.speed_sections import ROUNDS

MEASURED = ROOT / "results/speed"  # what each section gave last
ENVIRONMENT = {"kept": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33)}}
INTRODUCTION = (
    "SpeechBrain's and Asteroid's code beside ours: a process a section, its rounds interleaved. "
    "Random weights (seed 0), stock and ours the same; batch of 1 unless said, 8 kHz."
)


def measure(name: str, section: Callable[[], dict]) -> None:
    """Run a section and keep what it gave, with the circumstances."""
    about = f"commit {commit()}, {machine()}, {torch.get_num_threads()} threads"
    gpu = torch.cuda.get_device_name() if DEVICE == "cuda" else "no GPU: its figures not measured"
    load, begin = os.getloadavg()[0], time.perf_counter()
    torch.manual_seed(0)
    measured = section()
    minutes = (time.perf_counter() - begin) / 60
    measured["about"] = f"{about}, {gpu}; load average {load:.1f} before; {minutes:.1f} minutes"
    MEASURED.mkdir(parents=True, exist_ok=True)
    (MEASURED / f"{name}.json").write_text(json.dumps(measured, indent=1), encoding="utf-8")


def report(titles: dict[str, str]) -> None:
    """Write the table and the plot from what every section gave last."""
    lines = ["# Speed", "", INTRODUCTION, ""]
    curves = {}
    for name, title in titles.items():
        path = MEASURED / f"{name}.json"
        lines += [f"## {title}", ""]
        if not path.is_file():
            lines += [f"Not measured: `python -m benchmarks.speed --section {name}`.", ""]
            continue
        measured = json.loads(path.read_text(encoding="utf-8"))
        environment = "".join(f"{key}={value} " for key, value in ENVIRONMENT.get(name, {}).items())
        command = f"`{environment}python -m benchmarks.speed --section {name}`"
        lines += [*measured["lines"], "", f"{command}, {measured['about']}.", ""]
        for case, costs in measured.get("curves", {}).items() if name not in ENVIRONMENT else ():
            curves.setdefault(case, {}).update({int(s): cost for s, cost in costs.items()})
    if curves:
        lines += ["![cost over length](speed.png)"]
        plot(curves, ROOT / "benchmarks/speed.png")
    (ROOT / "benchmarks/speed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def plot(curves: dict, path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for case, costs in curves.items():
        axes.plot(list(costs), list(costs.values()), marker="o", label=case)
    axes.set(xscale="log", yscale="log", xlabel="recording, s", ylabel="ms per s of audio")
    axes.set_xticks(list(ROUNDS), [str(length) for length in ROUNDS])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120)
