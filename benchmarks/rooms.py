"""Trains small.yaml on clean sums and with rooms and noise, and scores both in every condition.

``python -m benchmarks.rooms SPEECH --noise_folder NOISE`` trains both with every seed, and one with
three outputs with the first seed; finished ones are kept, an interrupted one continues. Those of a
seed are scored on the same mixtures of validation speakers, rooms and noises, as the seed decides
who those are; ``benchmarks/rooms.md`` tells of those that are finished. ``--score`` trains nothing
more.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch

from benchmarks.ablation import RATE, RUN, is_done, read_json, run_row, score, validation
from benchmarks.ablation import parse as ablation_arguments
from benchmarks.about import ROOT, table
from benchmarks.rows import Row
from data_prep.corpora.acoustics import Acoustics
from data_prep.corpora.recognise import train_set
from data_prep.mixing.conversations import write_sets
from data_prep.mixing.noise import KINDS
from sfsrnet_modules.common.hparams import one_line_errors
from sfsrnet_modules.evaluation.summary import interval, read_results

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOMS = "cache/rooms"
SEGMENT, ITEMS, ROUNDS = 3.0, 100, 7  # s; mixtures a round, of the loader's timing
# half of the mixtures in a room, half with noise; a few with one voice, so that it learns silence
AS_RECORDED = {
    "rooms": ROOMS,
    "noise_kinds": "[recordings, babble, coloured]",
    "noise_share": "0.5",
    "fewer_voices": "{1: 0.1}",
    "pause_share": "0.1",
}
THREE_OUTPUTS = {"num_spks": "3", "fewer_voices": "{1: 0.1, 2: 0.5}"}
ROWS = {
    "clean": Row("clean sums alone", {"noise_share": "0"}),
    "rooms": Row("rooms, noise, pauses, one voice", AS_RECORDED),
    "three": Row("the same, three outputs", AS_RECORDED | THREE_OUTPUTS),
}
# what is told of a set: (set, measure, its name)
FIGURES = [
    *((name, "si_snr_i", "SI-SNRi") for name in ("clean", "noise", "room", "room+noise")),
    ("conversation", "si_snr_i", "SI-SNRi"),
    ("one voice", "voice_si_snr", "SI-SNR of the voice"),
    ("one voice", "leak", "ghost over the voice"),
]
REPORT = """# Rooms and noise in training

`{command}`: {steps} steps of `hparams/small.yaml` (batches of 2, 2 s) and {others}; commit
{commits}, {machine}. Seeds {seeds}.

{items} mixtures of validation speakers, {conversations} conversations of 45 s; rooms and noises are
those of validation. dB: mean of the seeds, with the least and the most of theirs where there are
several. "Difference": item by item, with its 95 % interval over the items of all seeds that both
rows have. The ghost is the output that should be silent: less is better.

{table}

{rows}

![Difference to clean sums alone](rooms.png)

## What they cost the loader

Mixtures of {segment:.0f} s a second of CPU time, one thread, from the packed corpus: medians of
{rounds} rounds in which all take turns, and of the rounds' ratios.

{throughput}
"""


def main(arguments: list[str] | None = None) -> int:
    """Train what is not there yet, score it, write the report."""
    args = parse(arguments)
    with one_line_errors():
        if not args.score:
            for key, seed in runs(args.seeds):
                manifests = {"manifest_folder": str(args.folder / f"manifests-{key}-{seed}")}
                run_row(args.training, key, seed, args.extra | manifests, ROWS)
        sets = {seed: write_all_sets(args, seed) for seed in args.seeds}
        for key, seed in runs(args.seeds):
            if is_done(args.folder / key / str(seed)):
                roots = (args.speech, args.noise_folder, ROOT / ROOMS)
                score(args.folder / key / str(seed), sets[seed], *roots)
        print(write_report(args))
    return 0


def runs(seeds: list[int]) -> list[tuple[str, int]]:
    """Row and seed of every training."""
    return [(key, seed) for seed in seeds for key in ("clean", "rooms")] + [("three", seeds[0])]


# --- Scoring --------------------------------------------------------------------------------------


def write_all_sets(args: argparse.Namespace, seed: int) -> dict[str, Path]:
    """The manifests of every condition, of the same mixtures of a seed's validation speakers."""
    manifest = validation(args.speech, args.folder, seed, args.mixtures)
    folder = manifest.parent / "sets"
    acoustics = Acoustics(
        RATE, ROOT / ROOMS, room_share=1.0, noise_folder=args.noise_folder, noise_kinds=KINDS
    )
    sets = acoustics.write_conditions(manifest, folder, args.speech)
    return sets | write_sets(manifest, folder)


# --- What they cost -------------------------------------------------------------------------------


def throughput(args: argparse.Namespace) -> str:
    """Mixtures a second of CPU time from the packed corpus, one thread: all kinds take turns."""
    torch.set_num_threads(1)  # as in a worker
    manifests = args.folder / f"manifests-clean-{args.seeds[0]}"
    rooms, recorded = {"rooms": ROOT / ROOMS, "room_share": 1.0}, {"noise_share": 1.0}
    all_kinds = recorded | {"noise_kinds": KINDS}
    kinds = {
        "clean sums": {},
        "rooms": rooms,
        "rooms in half of them": rooms | {"room_share": 0.5},
        "recorded noise": recorded,
        "recorded, babble or coloured noise": all_kinds,
        "rooms and recorded noise": rooms | recorded,
        "rooms and any noise": rooms | all_kinds,
        "rooms in half, any noise in half": rooms
        | all_kinds
        | {"room_share": 0.5, "noise_share": 0.5},
    }
    sets = {}
    for kind, options in kinds.items():
        options = {"noise_folder": args.noise_folder, "noise_share": 0.0} | options
        sets[kind] = train_set(
            True,
            manifests,
            args.speech,
            args.noise_folder,
            *(ITEMS * (ROUNDS + 1), SEGMENT, RATE),
            num_spks=2,
            seed=1234,
            speed=(0.9, 1.1),
            acoustics=Acoustics(RATE, **options),
            packs=ROOT / "cache/packed",
        )
    speeds = {kind: [] for kind in kinds}
    for turn in range(ROUNDS + 1):
        for kind, mixtures in sets.items():
            begin = time.process_time()
            for i in range(turn * ITEMS, (turn + 1) * ITEMS):
                mixtures[i]
            speeds[kind].append(ITEMS / (time.process_time() - begin))
    rows, clean = [], np.array(speeds["clean sums"][1:])  # warm
    for kind, values in speeds.items():
        median, share = np.median(values[1:]), np.median(np.array(values[1:]) / clean)
        rows.append([kind, f"{median:.0f}", f"{share:.2f}"])
    return table(["mixtures", "a second", "of the clean ones"], rows)


# --- Report ---------------------------------------------------------------------------------------


def write_report(args: argparse.Namespace) -> Path:
    """Write the table of what is scored, and its picture."""
    scored = {key: finished(args.folder / key) for key in ROWS}
    lines, differences = [], {}
    for name, column, title in FIGURES:
        values = {key: values_of(scored, key, name, column) for key in ROWS}
        gains = {key: paired(values[key], values["clean"]) for key in ("rooms", "three")}
        differences[f"{name}, {title}"] = gains["rooms"]
        cells = [_means(values["clean"]), _means(values["rooms"]), _interval(gains["rooms"])]
        to_two = paired(values["three"], values["rooms"])
        lines.append([name, title, *cells, _means(values["three"]), _interval(to_two)])
    header = ["set", "dB", ROWS["clean"].title, ROWS["rooms"].title, "difference"]
    header += [ROWS["three"].title, "difference to two outputs"]
    told = [read_json(path) for path in sorted(args.folder.glob(f"*/*/{RUN}"))]
    told = [run for run in told if run["outcome"] == "done"]
    some = next(iter(scored["clean"].values()))
    args.output.write_text(
        REPORT.format(
            command=args.command,
            steps=args.training.steps,
            others=f"`{told[0]['extra'].rpartition(' --manifest_folder')[0]}`",
            commits=", ".join(sorted({run["commit"] for run in told})),
            machine=told[0]["machine"],
            seeds="; ".join(
                f"{ROWS[key].title}: {', '.join(scored[key]) or 'not run'}" for key in ROWS
            ),
            items=len(some["clean"]),
            conversations=len(some["conversation"]),
            table=table(header, lines),
            segment=SEGMENT,
            rounds=ROUNDS,
            throughput=throughput(args),
            rows="\n".join(f"- {row.title}: {_options(row)}" for row in ROWS.values()),
        ),
        encoding="utf-8",
    )
    _draw(differences, args.output.with_suffix(".png"))
    return args.output


def finished(folder: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """The scores of every set, of a row's runs by their seed."""
    names = {name for name, _, _ in FIGURES}
    runs = [
        run for run in sorted(folder.glob("*")) if all((run / f"{n}.csv").is_file() for n in names)
    ]
    return {run.name: {name: read_results(run / f"{name}.csv") for name in names} for run in runs}


def values_of(scored: dict, key: str, name: str, column: str) -> dict[str, pd.Series]:
    """One measure of a set for every seed of a row.

    Three outputs have a silent one for two voices, so that SI-SNR is told in place of SI-SNRi: what
    the mixture itself has is taken off, which the other rows know.
    """
    found = {}
    for seed, sets in scored[key].items():
        scores = sets[name]
        if column == "si_snr_i" and column not in scores:
            two = scored["clean"][seed][name]
            scores = scores.assign(
                si_snr_i=scores["voice_si_snr"] - (two["si_snr"] - two["si_snr_i"])
            )
        found[seed] = scores[column]
    return found


def paired(values: dict[str, pd.Series], base: dict[str, pd.Series]) -> np.ndarray:
    """Differences item by item, of all seeds that both have: [N]."""
    shared = [values[seed] - base[seed] for seed in values if seed in base]
    return pd.concat(shared).dropna().to_numpy() if shared else np.zeros(0)


def _means(values: dict[str, pd.Series]) -> str:
    means = [series.mean() for series in values.values()]
    if not means:
        return ""
    spread = f" ({min(means):.2f} to {max(means):.2f})" if len(means) > 1 else ""
    return f"{np.mean(means):.2f}{spread}"


def _interval(gains: np.ndarray) -> str:
    if len(gains) < 2:
        return ""
    low, high = interval(gains)
    return f"{gains.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def _options(row: Row) -> str:
    told = " ".join(f'--{key} "{value}"' for key, value in row.options.items())
    return f"`python train.py {row.file} {told}`"


def _draw(differences: dict[str, np.ndarray], picture: Path) -> None:
    """Draw what rooms and noise in training bring in every set, with the interval."""
    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    for place, gains in enumerate(differences.values()):
        if len(gains) > 1:
            axes.plot(interval(gains), [place, place], color="C0", linewidth=2)
            axes.plot(gains.mean(), place, "o", color="C0")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(differences)), differences)
    axes.invert_yaxis()
    axes.set_xlabel("difference to training on clean sums alone, dB, with its 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; ``training`` is what the ablation's rows are trained by."""
    parser = argparse.ArgumentParser(description="Rooms and noise against clean sums.")
    parser.add_argument("speech", metavar="SPEECH", help="a corpus, as for train.py")
    parser.add_argument("--noise_folder", required=True, help="recordings of noise")
    parser.add_argument("--steps", type=int, default=300, help="of every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1234, 5678, 9012])
    parser.add_argument("--mixtures", type=int, default=4, help="that are scored, of each source")
    parser.add_argument("--score", action="store_true", help="train nothing more")
    parser.add_argument("--folder", type=Path, default=ROOT / "results/rooms-table")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args(arguments)
    told = ["--data_folder", args.speech, "--steps", str(args.steps), "--folder", str(args.folder)]
    told += ["--epochs", "1", "--num_valid", "2", "--num_test", "1"]  # scored here instead
    args.training, _ = ablation_arguments(told)
    args.training.jobs = len(os.sched_getaffinity(0))  # one thread: others may train beside it
    args.folder = args.training.folder
    args.extra = {"noise_folder": os.path.relpath(args.noise_folder, ROOT), "ema": "0.99"}
    words = sys.argv[1:] if arguments is None else arguments
    args.command = " ".join(["python -m benchmarks.rooms", *words])
    return args


if __name__ == "__main__":
    sys.exit(main())
