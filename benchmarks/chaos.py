"""Trainings that are stopped by whatever happens on a cluster, at random moments, and go on.

``python -m benchmarks.chaos``: a tiny training runs undisturbed; then, for each fault, again and
again with the fault in it. The same command is given once more, and every loss that either run logs
must be that of the undisturbed one to the last bit, as must the exported weights and the results.
For Linux; the full disk is a small tmpfs, which needs root.
"""

import argparse
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.about import facts, table
from benchmarks.ranks import TINY, Job, options, steps
from benchmarks.voices import write_corpus

KEYS = {
    **TINY,
    "items_per_epoch": 24,
    "number_of_epochs": 2,
    "ckpt_interval_steps": 2,
    "num_workers": 1,
    "ema": 0.9,
}
REQUEUE = 75
DISK = 2 << 20  # bytes, of the tmpfs: room for all checkpoints that are kept
PATIENCE = 60  # s until a job that ought to end is taken for one that hangs

REPORT = """# Chaos: trainings stopped at random moments

`python -m benchmarks.chaos --trials {trials} --seed {seed}`, commit {commit}, {cores} cores of
{cpu}, Python {python}, torch {torch}, speechbrain {speechbrain}; {minutes:.0f} minutes.

A tiny model (made-up voices, {steps} steps in {epochs} epochs, a checkpoint every {interval} steps,
after each epoch's training and after its validation) is trained undisturbed, by one and by two
processes (gloo, loopback). Then with a fault at a random moment of the whole run, from the start of
the program to the end of the test, and once more with the same command. A trial has *survived* if
the second run ends, and every loss of every step that either run logged, the exported weights and
test_results.csv equal those of the undisturbed run bit for bit; else it is *lost*. A run that goes
on without a lost recording draws others: then every step must be there, with a finite loss.

{table}

*In training*: trials in which the fault struck between the first and the last step; the others
before or after. *Done again*: steps of the second run that the first had done, median and most.
Processes are forked from one that has imported the libraries, each in a session of its own; signals
go to a rank and its loader's workers. A rank left over when another is killed must end by itself
within {patience} s: {hanging} did not, as one does that still waits for the other to join; torchrun
ends it, and srun with `--kill-on-bad-exit`.

{notes}
"""


@dataclass
class Fault:
    """What happened in the trials of one fault."""

    name: str
    tried: int = 0
    survived: int = 0
    in_training: int = 0
    again: list[int] = field(default_factory=list)  # steps
    notes: list[str] = field(default_factory=list)


class Chaos:
    """All trials: `folder` for their files, `draw` for their random moments."""

    def __init__(self, folder: Path, seed: int):
        self.folder = folder
        self.draw = random.Random(seed)
        self.corpus = write_corpus(folder / "corpus")
        self.disk = folder / "disk"
        self.hanging = 0
        self.whole = {n: self._undisturbed(n) for n in (1, 2)}  # duration in s by processes

    def _undisturbed(self, num_ranks: int) -> float:
        for name in ("warm-up", f"whole{num_ranks}"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            begin = time.monotonic()
            codes = self.start(self.folder / name, num_ranks).wait()
            assert set(codes) == {0}, (self.folder / name / "output.txt").read_text()
        return time.monotonic() - begin

    def start(self, trial: Path, num_ranks: int = 1, save_folder: Path | None = None) -> Job:
        """Start the training of a trial, for the first or the second time."""
        keys = {"data_folder": self.corpus, "output_folder": trial / "results", **KEYS}
        keys["manifest_folder"] = self.folder / "manifests"  # made once: data is not the matter
        keys["save_folder"] = save_folder or trial / "results" / "save"
        return Job(trial, options(**keys), num_ranks)

    def wait_a_while(self, num_ranks: int = 1) -> None:
        """Until a moment drawn from the duration of an undisturbed run."""
        time.sleep(self.draw.uniform(0, self.whole[num_ranks]))

    def wait_for_a_step(self, trial: Path, job: Job) -> None:
        """Until a step drawn from those of the first process is done."""
        number = self.draw.randrange(1, self.num_steps(self.folder / "whole1"))
        while self.num_steps(trial) < number and job.processes[0].exitcode is None:
            time.sleep(0.01)

    def num_steps(self, trial: Path, rank: int = 0) -> int:
        """Lines that a process has logged so far."""
        path = trial / f"steps.{rank}.csv"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def is_equal(self, trial: Path, num_ranks: int) -> bool:
        """Whether a trial has computed what the undisturbed run has, to the last bit."""
        whole = self.folder / f"whole{num_ranks}"
        losses = all(steps(trial, rank) == steps(whole, rank) for rank in range(num_ranks))
        names = ("results/test_results.csv", "results/model/model.safetensors")
        return losses and all(
            (trial / name).read_bytes() == (whole / name).read_bytes() for name in names
        )


# --- The faults: each disturbs a first run, and returns what is worth a note ----------------------


def kill_job(chaos: Chaos, trial: Path, num_ranks: int) -> str:
    """SIGKILL of all processes."""
    job = chaos.start(trial, num_ranks)
    chaos.wait_a_while(num_ranks)
    job.kill()
    return ""


def kill_one_rank(chaos: Chaos, trial: Path, num_ranks: int) -> str:
    """SIGKILL of one of two processes."""
    job = chaos.start(trial, 2)
    chaos.wait_a_while(2)
    job.signal(signal.SIGKILL, chaos.draw.randrange(2))
    job.wait(PATIENCE)
    chaos.hanging += job.is_hanging
    return ""


def terminate(chaos: Chaos, trial: Path, num_ranks: int) -> str:
    """SIGTERM to all processes."""
    job = chaos.start(trial, num_ranks)
    chaos.wait_a_while(num_ranks)
    for rank in range(num_ranks):
        job.signal(signal.SIGTERM, rank)
    codes = set(job.wait(PATIENCE))
    chaos.hanging += job.is_hanging
    return f"exit codes {sorted(codes)}"


def fill_disk(chaos: Chaos, trial: Path, num_ranks: int) -> str:
    """The disk of the checkpoints is full for a while; then SIGKILL."""
    with tmpfs(chaos.disk) as save_folder:
        job = chaos.start(trial, 1, save_folder)
        first, second = sorted(chaos.draw.uniform(0, chaos.whole[1]) for _ in range(2))
        time.sleep(first)
        left = chaos.draw.randrange(0, 200_000)  # bytes: a checkpoint has more
        fill(chaos.disk, left)
        time.sleep(second - first)
        job.kill()
        (chaos.disk / "filling").unlink()
        failed = job.output.count("No checkpoint could be written")
        shutil.copytree(save_folder, trial / "results/save", dirs_exist_ok=True)
    return "checkpoints failed" if failed else ""


def truncate_newest(chaos: Chaos, trial: Path, num_ranks: int) -> str:
    """SIGKILL, and a file of the newest checkpoint is cut short."""
    job = chaos.start(trial)
    chaos.wait_for_a_step(trial, job)
    job.kill()
    found = sorted((trial / "results/save").glob("CKPT*"), key=lambda path: path.stat().st_ctime)
    if not found:
        return ""
    files = [path for path in sorted(found[-1].iterdir()) if path.stat().st_size]
    path = chaos.draw.choice(files)
    os.truncate(path, chaos.draw.randrange(path.stat().st_size))
    return f"truncated {path.name}"


def lose_folder(chaos: Chaos, trial: Path, num_ranks: int) -> str:
    """The data folder vanishes in mid-epoch, and is back for the second run."""
    job = chaos.start(trial)
    chaos.wait_for_a_step(trial, job)
    away = chaos.corpus.rename(chaos.corpus.with_name("away"))
    (code,) = job.wait(PATIENCE)
    away.rename(chaos.corpus)
    return f"exit code {code}"


def lose_file(chaos: Chaos, trial: Path, num_ranks: int) -> str:
    """A recording vanishes in mid-epoch for good: others take its place, or it is named."""
    job = chaos.start(trial)
    chaos.wait_for_a_step(trial, job)
    path = chaos.draw.choice(sorted(chaos.corpus.rglob("*.wav")))
    away = path.rename(chaos.folder / "away.wav")
    (code,) = job.wait(PATIENCE)
    away.rename(path)
    return f"exit code {code}"


FAULTS: dict[str, tuple[Callable, tuple[int, ...]]] = {
    "SIGKILL of the whole job": (kill_job, (1, 2)),
    "SIGKILL of one of two ranks": (kill_one_rank, (2,)),
    "SIGTERM": (terminate, (1, 2)),
    "disk full while checkpoints are written": (fill_disk, (1,)),
    "newest checkpoint truncated": (truncate_newest, (1,)),
    "data folder vanishes in mid-epoch": (lose_folder, (1,)),
    "a recording vanishes in mid-epoch": (lose_file, (1,)),
}


@contextmanager
def tmpfs(folder: Path):
    """A small disk."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True)
    try:
        yield folder / "save"
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(disk: Path, left: int) -> None:
    """Leave so many bytes free."""
    free = os.statvfs(disk)
    size = max(free.f_bavail * free.f_frsize - left, 0)
    with open(disk / "filling", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))


# --- The trials -----------------------------------------------------------------------------------


def try_once(chaos: Chaos, fault: Fault, disturb: Callable, num_ranks: int) -> None:
    """Disturb a run, give the command again, and compare with the undisturbed one."""
    trial = chaos.folder / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    note = disturb(chaos, trial, num_ranks)
    first = chaos.num_steps(trial)
    fault.tried += 1
    fault.in_training += 0 < first < chaos.num_steps(chaos.folder / f"whole{num_ranks}")
    fault.notes += [note] if note else []
    if disturb is lose_file and note == "exit code 0":
        fault.survived += goes_on(chaos, trial)  # it drew other recordings: nothing to resume
        return
    job = chaos.start(trial, num_ranks)
    codes = set(job.wait())
    if codes == {0} and chaos.is_equal(trial, num_ranks):
        fault.survived += 1
        fault.again.append(chaos.num_steps(trial) - len(steps(trial)))
    else:
        kept = trial.rename(chaos.folder / f"lost{time.time():.0f}")
        print(f"LOST: {fault.name}, {codes}, {note}: {kept}", flush=True)


def goes_on(chaos: Chaos, trial: Path) -> bool:
    """Whether a run that lost a recording did all steps, each with a finite loss."""
    losses, whole = steps(trial), steps(chaos.folder / "whole1")
    values = [float.fromhex(loss) for group in losses.values() for loss in group]
    return losses.keys() == whole.keys() and all(map(math.isfinite, values))


def main() -> None:
    """Run all trials, and write the table beside this file."""
    arguments = _parse()
    machine, begin = facts(), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    chaos = Chaos(folder, arguments.seed)
    print(f"{folder}: undisturbed {chaos.whole} s", flush=True)
    faults = []
    chosen = {name: fault for name, fault in FAULTS.items() if arguments.only in name}
    for name, (disturb, numbers) in chosen.items():
        faults.append(Fault(name))
        for trial in range(arguments.trials):
            try_once(chaos, faults[-1], disturb, numbers[trial % len(numbers)])
        print(row(faults[-1]), flush=True)
    report(arguments, machine, faults, chaos, (time.monotonic() - begin) / 60)
    if all(fault.tried == fault.survived for fault in faults):
        shutil.rmtree(folder)


def row(fault: Fault) -> list:
    """A fault's line of the table."""
    again = f"{statistics.median(fault.again):.0f}, {max(fault.again)}" if fault.again else ""
    lost = fault.tried - fault.survived
    return [fault.name, fault.tried, fault.in_training, fault.survived, lost, again]


def report(arguments, machine: dict, faults: list[Fault], chaos: Chaos, minutes: float) -> None:
    """Write the report."""
    header = "fault|tried|in training|survived|lost|steps done again"
    notes = [
        f"- {fault.name}: "
        + ", ".join(f"{note} ({fault.notes.count(note)})" for note in sorted(set(fault.notes)))
        for fault in faults
        if fault.notes
    ]
    text = REPORT.format(
        trials=arguments.trials,
        seed=arguments.seed,
        **machine,
        minutes=minutes,
        steps=chaos.num_steps(chaos.folder / "whole1"),
        epochs=KEYS["number_of_epochs"],
        interval=KEYS["ckpt_interval_steps"],
        patience=PATIENCE,
        hanging=chaos.hanging,
        table=table(header.split("|"), [row(fault) for fault in faults]),
        notes="\n".join(notes),
    )
    arguments.output.write_text(text)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="of each fault")
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
