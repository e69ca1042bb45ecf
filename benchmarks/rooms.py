"""Trains small.yaml on clean sums and with rooms and noise, and scores both in every condition.

``python -m benchmarks.rooms SPEECH --noise_folder NOISE`` trains two rows
with every seed, and one with three outputs with the first; finished ones are kept, an interrupted
one continues. All are scored on the same mixtures of validation speakers.
"""

import argparse
import os
import sys
from pathlib import Path

from benchmarks.ablation import parse as ablation_arguments
from benchmarks.ablation import run_row
from benchmarks.about import ROOT
from benchmarks.rows import Row
from sfsrnet_modules.common.hparams import one_line_errors

# half of the mixtures in a room, half with noise; a few with one voice, so that it learns silence
AS_RECORDED = {
    "rooms": "cache/rooms",
    "noise_kinds": "[recordings, babble, coloured]",
    "noise_share": "0.5",
    "fewer_voices": "{1: 0.1}",
    "pause_share": "0.1",
}
THREE_OUTPUTS = {"num_spks": "3", "fewer_voices": "{1: 0.1, 2: 0.5}"}
ROWS = {
    "clean": Row("clean sums alone", {"noise_share": "0"}),
    "rooms": Row("rooms, noise, pauses, one voice", AS_RECORDED),
    "three": Row("as above, three outputs", AS_RECORDED | THREE_OUTPUTS),
}


def main(arguments: list[str] | None = None) -> int:
    """Train what is not there yet."""
    args, extra = parse(arguments)
    with one_line_errors():
        for key, seed in runs(args.seeds):
            manifests = {"manifest_folder": str(args.folder / f"manifests-{key}-{seed}")}
            run_row(args, key, seed, extra | manifests, ROWS)
    return 0


def runs(seeds: list[int]) -> list[tuple[str, int]]:
    """Row and seed of every training."""
    return [(key, seed) for seed in seeds for key in ("clean", "rooms")] + [("three", seeds[0])]


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, dict[str, str]]:
    """Read the command line: of training what the ablation's rows are trained by."""
    parser = argparse.ArgumentParser(description="Rooms and noise against clean sums.")
    parser.add_argument("speech", metavar="SPEECH", help="a corpus, as for train.py")
    parser.add_argument("--noise_folder", required=True, help="recordings of noise")
    parser.add_argument("--steps", type=int, default=300, help="of every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1234, 5678, 9012])
    parser.add_argument("--folder", type=Path, default=ROOT / "results/rooms-table")
    args = parser.parse_args(arguments)
    told = ["--data_folder", args.speech, "--steps", str(args.steps), "--folder", str(args.folder)]
    told += ["--epochs", "1", "--num_valid", "2", "--num_test", "1"]  # scored here instead
    training, _ = ablation_arguments(told)
    training.jobs = len(os.sched_getaffinity(0))  # one thread: others may train beside it
    training.seeds = args.seeds
    noise = os.path.relpath(args.noise_folder, ROOT)  # as seen by train.py
    return training, {"noise_folder": noise, "ema": "0.99"}


if __name__ == "__main__":
    sys.exit(main())
