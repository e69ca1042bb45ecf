"""Trains the rows of the paper's ablation under one budget, and writes the table.

``python -m benchmarks.ablation --table 3 --data_folder SPEECH --steps 2000 --seeds 1234 5678``
trains every row of table 3 (or ``open``, ``sr``, ``4``, ``size``, ``search``: see
``benchmarks/rows.py``) with every seed, scores it on mixtures of validation speakers and writes
``benchmarks/ablation.md``, which holds all tables. Finished rows are kept, an interrupted one
continues; ``--jobs 2`` trains two at a time. Further ``--key value`` go to train.py in every row.
``--ms`` times the models of a table instead, best on an idle machine; ``--write`` writes the tables
alone, out of what ``benchmarks/ablation_runs`` keeps of every row: its command, its cost and the
scores of every item.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.ablation_table import MS, SCORES, write_report
from benchmarks.about import ROOT, commit, machine, provenance
from benchmarks.models import as_published, build, milliseconds, options_of, shared_options, size
from benchmarks.rows import DPRNN, ROWS, TABLES, Row
from benchmarks.speed_cases import DEVICE
from data_prep.corpora.recognise import prepare
from data_prep.mixing.fixed import FixedMixtures
from sfsrnet_modules.common.hparams import one_line_errors
from sfsrnet_modules.common.writing import write_whole
from sfsrnet_modules.evaluation.scoring import write_results
from sfsrnet_modules.evaluation.summary import evaluate
from sfsrnet_modules.inference import SFSRNetSeparation

RATE = 8000  # Hz
RUN = "run.json"  # command, commit, minutes of a core and outcome of a row, in its output folder
# told to train.py as seen from the project's folder, so that a command is the same on every machine
FOLDERS = ("data_folder", "manifest_folder", "output_folder")


def main(arguments: list[str] | None = None) -> int:
    """Run the rows of a table or time its models, and write all tables."""
    args, extra = parse(arguments)
    with one_line_errors():
        if args.ms:
            times = read_json(args.folder / MS)
            times[args.table] = times.get(args.table, {}) | {DEVICE: time_table(args.table)}
            write_json(args.folder / MS, times)
        elif not args.write:
            run_table(args, pairs(extra))
        print(write_report(args.folder, args.output))
    return 0


def run_table(args: argparse.Namespace, extra: dict[str, str]) -> None:
    """Train every row of a table with every seed, some at a time."""
    keys = args.rows or TABLES[args.table][2]
    unknown = set(keys) - set(ROWS)
    if unknown:
        raise ValueError(f"no rows {', '.join(sorted(unknown))}: choose of {', '.join(ROWS)}")
    if args.data_folder is None:
        raise ValueError("no --data_folder given: name a folder of speech, as for train.py")
    manifests = {}
    for seed in args.seeds:  # once: rows that are trained at the same time share the manifests
        build(ROWS[keys[0]], options(args, seed, extra))["corpus"].prepare()
        manifests[seed] = validation(args.data_folder, args.folder, seed, args.mixtures)

    def run(job: tuple[str, int]) -> None:
        key, seed = job
        run_row(args, key, seed, extra)
        folder = args.folder / key / str(seed)
        if is_done(folder):
            score(folder, {Path(SCORES).stem: manifests[seed]}, args.data_folder)

    jobs = [(key, seed) for seed in args.seeds for key in keys]
    with ThreadPoolExecutor(args.jobs) as pool, tqdm(total=len(jobs), unit="row") as bar:
        for key, _ in zip(jobs, pool.map(run, jobs), strict=True):
            bar.set_description(f"{key[0]} with seed {key[1]} done")
            bar.update()


def validation(speech: str, folder: Path, seed: int, number: int) -> Path:
    """Prepare what all rows of a seed are scored on, so many mixtures of each source; its manifest.

    The seed decides, as it does for the training, who is kept for validation in a plain folder.
    """
    folder = folder / f"validation-{seed}"
    prepare(speech, folder, RATE, seed=seed, num_valid=number, num_test=1)
    return folder / "valid.csv"


def is_done(folder: Path) -> bool:
    """Whether the run of an output folder came to its end."""
    return read_json(folder / RUN).get("outcome") == "done"


def score(folder: Path, sets: Mapping[str, Path], *roots: str | Path) -> None:
    """Score the model of a run on the manifests of `sets`, unless that is done: ``<name>.csv``."""
    missing = {name: path for name, path in sets.items() if not (folder / f"{name}.csv").is_file()}
    if not missing:
        return
    separator = SFSRNetSeparation.from_hparams(folder / "model", run_opts={"device": "cpu"})
    for name, manifest in missing.items():
        mixtures = FixedMixtures(manifest, RATE, separator.hparams.num_spks, *roots)
        long = name == "conversation"
        scores = evaluate(separator, mixtures, in_segments=long, measures=())
        write_results(scores, folder / f"{name}.csv")


def run_row(
    args: argparse.Namespace,
    key: str,
    seed: int,
    extra: dict[str, str],
    rows: Mapping[str, Row] = ROWS,
) -> None:
    """Train one row, unless that is done; keep what it printed in ``train.out``."""
    folder, row = args.folder / key / str(seed), rows[key]
    command = [sys.executable, "train.py", row.file, "--noprogressbar"]
    chosen = options_of(row) | options(args, seed, extra) | {"output_folder": str(folder)}
    steps = round(args.steps * row.share)
    batch_size = int(chosen.get("batch_size", shared_options()["batch_size"]))
    chosen["items_per_epoch"] = str(batch_size * steps // args.epochs)
    chosen |= {name: os.path.relpath(chosen[name], ROOT) for name in FOLDERS}
    command += [text for name, value in chosen.items() for text in (f"--{name}", value)]
    before = read_json(folder / RUN)
    if before and before["command"] != command[1:]:
        raise ValueError(
            f"{folder} holds a run of another command: give another --folder and --output, or"
            " remove it"
        )
    if before.get("outcome") == "done":
        return
    folder.mkdir(parents=True, exist_ok=True)
    state = {"command": command[1:], "commit": commit(), "machine": machine()}
    state |= size(build(row, chosen))
    state |= {"outcome": "interrupted", "steps": args.steps, "minutes": before.get("minutes", 0)}
    state["extra"] = " ".join(f"--{name} {value}" for name, value in extra.items())
    write_json(folder / RUN, state)
    threads = {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // args.jobs))}
    with open(folder / "train.out", "a", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | threads, stdout=out, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)  # what the row itself used, and its workers
    process.returncode = os.waitstatus_to_exitcode(status)
    state["minutes"] += (used.ru_utime + used.ru_stime) / 60
    state["outcome"] = "done" if process.returncode == 0 else last_line(folder / "train.out")
    write_json(folder / RUN, state)


def options(args: argparse.Namespace, seed: int, extra: dict[str, str]) -> dict[str, str]:
    """The options of every row: the data, and how it is trained."""
    return {
        "data_folder": os.path.abspath(args.data_folder),
        "manifest_folder": str(args.folder / f"manifests-{seed}"),
        "seed": str(seed),
        "number_of_epochs": str(args.epochs),
        "num_valid": str(args.num_valid),
        "num_test": str(args.num_test),
        **extra,
    }


def time_table(name: str) -> dict:
    """Milliseconds for a second of audio of a table's models on this device, and which it is."""
    rows = {key: ROWS[key] for key in TABLES[name][2]}
    published = {f"{key} published": as_published(r) for key, r in rows.items() if r.file == DPRNN}
    models = {key: build(row)["model"] for key, row in (rows | published).items()}
    device = f" {torch.cuda.get_device_name()}" if DEVICE == "cuda" else ""
    return {"about": provenance() + device, "ms": milliseconds(models, 8000)}


def last_line(path: Path) -> str:
    """The last line of what a run printed: its error."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def read_json(path: Path) -> dict:
    """What is in a file, or nothing where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_json(path: Path, content: dict) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content, indent=1).encode())


def pairs(extra: list[str]) -> dict[str, str]:
    """Further options for train.py."""
    names, values = extra[::2], extra[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise ValueError(f"{' '.join(extra)} is not a list of --key value for train.py")
    return {name[2:]: value for name, value in zip(names, values, strict=True)}


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="The ablation: train rows, write the tables.")
    parser.add_argument("--table", choices=TABLES, default="3")
    parser.add_argument("--rows", nargs="+", help="some rows alone, by their keys")
    parser.add_argument("--steps", type=int, default=1000, help="of every row")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1234])
    parser.add_argument("--data_folder", help="as for train.py")
    parser.add_argument("--epochs", type=int, default=1, help="the steps are split into")
    parser.add_argument("--num_valid", type=int, default=1, help="mixtures of each source")
    parser.add_argument("--num_test", type=int, default=1, help="mixtures of each source")
    parser.add_argument("--mixtures", type=int, default=12, help="that are scored, of each source")
    parser.add_argument("--jobs", type=int, default=1, help="rows that are trained at a time")
    parser.add_argument("--ms", action="store_true", help="time the models instead")
    parser.add_argument("--write", action="store_true", help="write the tables alone")
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks/ablation_runs")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/ablation.md")
    args, extra = parser.parse_known_args(arguments)
    args.folder = args.folder.resolve()  # train.py runs in the project's folder
    return args, extra


if __name__ == "__main__":
    sys.exit(main())
