"""The packed corpus: mixtures a second against reading the files, and memory over a long epoch.

``python -m benchmarks.packed SPEECH --against CHECKOUT``, where SPEECH is a corpus as train.py
takes it, and CHECKOUT another commit of the project, whose dynamic mixing reads the files. For
Linux.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.about import ROOT, provenance, table
from data_prep.corpora import recognise
from data_prep.mixing.dynamic import DynamicMixing

RATE, SEGMENT, SPEED = 8000, 3.0, (0.9, 1.1)  # Hz, s
ROUNDS, EPOCH, BATCH = 5, 20_000, 8
SAMPLES = (1000, 5000, 10_000, 20_000)  # mixtures
ITEMS = {"packed": 300, "files": 20, "against": 20}  # a round
MIXER = """
import sys, time
import sfsrnet_modules
import torch
from data_prep.mixing.dynamic import DynamicMixing
torch.set_num_threads(1)  # as in a worker
pool, root, packs, segment, rate, *speed = sys.argv[1:]
options = {"packed": packs} if packs else {}
options["speed"] = tuple(map(float, speed))
mixer = DynamicMixing(pool, root, 10**6, float(segment), int(rate), **options)
items = map(mixer.__getitem__, range(10**6))
for line in sys.stdin:
    begin = time.process_time()
    for _ in range(int(line)):
        next(items)
    print(int(line) / (time.process_time() - begin), flush=True)
"""

REPORT = """# The packed corpus: throughput and memory

{provenance} Against commit {against}.

Mixtures of two speakers, {segment:.0f} s at 8 kHz, speeds of 0.9 to 1.1, of `{speech}`.

## One process

Mixtures a second of CPU time, one thread: median (least to most) of {rounds} rounds in which all
take turns; "times" is the median of the rounds' ratios.

{rates}

## Memory

From the packed corpus, an epoch of 20,000 in batches of {batch} that are not handed on: of the main
process and of each worker. Mapped pages of the pack are the system's cache, which takes them back
when it needs room.

{memory}
"""


def main() -> None:
    """Measure both and write the report."""
    args = _parse()
    with tempfile.TemporaryDirectory(prefix="packed-") as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        mixer = make_mixer(args.speech, folder)
        text = REPORT.format(
            provenance=provenance(),
            against=_commit(args.against),
            speech=args.speech.name,
            segment=SEGMENT,
            rounds=ROUNDS,
            batch=BATCH,
            memory=memory(mixer),
            rates=rates(args, folder),
        )
    args.output.write_text(text)
    print(text)


def make_mixer(speech: Path, folder: Path) -> DynamicMixing:
    """Prepare and pack a corpus, and make its training set."""
    manifests, packs = folder / "manifests", folder / "packed"
    recognise.prepare(speech, manifests, RATE, num_valid=2, num_test=2, packs=packs)
    options = {"speed": SPEED, "packs": packs}
    return recognise.train_set(
        True, manifests, speech, None, EPOCH, SEGMENT, RATE, num_spks=2, seed=1234, **options
    )


def rates(args: argparse.Namespace, folder: Path) -> str:
    """Time mixers of this code and of the other commit, each in a process of its own, in turn."""
    sides = {
        "against": (args.against, ""),
        "files": (ROOT, ""),
        "packed": (ROOT, folder / "packed"),
    }
    mixers = {name: _start(code, packs, args, folder) for name, (code, packs) in sides.items()}
    measured = {name: [] for name in sides}
    for _ in range(ROUNDS + 1):
        for name, mixer in mixers.items():
            print(ITEMS[name], file=mixer.stdin, flush=True)
            measured[name].append(float(mixer.stdout.readline()))
    for mixer in mixers.values():
        mixer.communicate()
    names = {"against": "files, the other commit", "files": "files", "packed": "packed"}
    rows = []
    for name, title in names.items():
        values, reference = (np.array(measured[n][1:]) for n in (name, "against"))  # warm
        spread = f"{np.median(values):.0f} ({values.min():.0f} to {values.max():.0f})"
        rows.append([title, spread, f"{np.median(values / reference):.1f}"])
    return table(["recordings", "mixtures a second", "times"], rows)


def memory(mixer: DynamicMixing) -> str:
    """Memory of all processes over an epoch, without and with workers."""
    rows = []
    for workers in (0, 1, 2):
        loader = DataLoader(mixer, BATCH, num_workers=workers, collate_fn=len)
        for count, _ in enumerate(loader, 1):
            if BATCH * count in SAMPLES:
                pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
                usage = zip(*map(_usage, pids), strict=True)
                cells = [", ".join(map(str, cell)) for cell in usage]
                rows.append([workers, BATCH * count, *cells])
                print(rows[-1], flush=True)
    return table(["workers", "mixtures", "own memory (MB)", "mapped files (MB)"], rows)


def _start(code: Path, packs: Path | str, args, folder: Path) -> subprocess.Popen:
    pool = folder / "manifests/pool.csv"
    numbers = (SEGMENT, RATE, *SPEED)
    command = [sys.executable, "-c", MIXER, pool, args.speech.resolve(), packs, *numbers]
    environment = os.environ | {"PYTHONPATH": str(code.resolve()), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        list(map(str, command)),
        env=environment,
        cwd=code,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _usage(pid: int) -> tuple[int, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return tuple(round(int(kilobytes[key]) / 1024) for key in ("RssAnon", "RssFile"))


def _commit(checkout: Path) -> str:
    command = ["git", "-C", checkout, "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The packed corpus against reading the files.")
    parser.add_argument("speech", type=Path, metavar="SPEECH", help="a corpus, as for train.py")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", required=True)
    parser.add_argument("--folder", type=Path, help="where manifests and pack are kept, or found")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
