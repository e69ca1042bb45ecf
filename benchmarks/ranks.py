"""Runs train.py in processes that are forked from one which has imported it already.

A run costs its computing only. Each writes a line a step to `<folder>/steps.<rank>.csv`: epoch,
names of the items, the loss to the last bit.
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.about import ROOT

# a model with small layers, and an epoch of four steps, as options of train.py
SIZES = {"filters": 8, "width": 8, "blocks": 2, "heads": 2, "ffn": 16, "chunk": 20}
TINY = {
    **SIZES,
    "rates": "[4000, 8000]",
    "segment": 0.5,
    "items_per_epoch": 8,
    "batch_size": 2,
    "num_valid": 3,
    "num_test": 4,
    "num_workers": 0,
    "number_of_epochs": 2,
    "lr": 0.001,
    "lr_schedule": "plateau",
    "ema": "null",
    "ckpt_interval_minutes": 0,
}

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["benchmarks.ranks", "train", "torch._dynamo"])


class Job:
    """Processes of one training, ranks 0 to n - 1.

    `event`, called in each process before the training, may change the code that will run.
    """

    def __init__(
        self,
        folder: Path,
        arguments: list[str],
        num_ranks: int = 1,
        event: Callable | None = None,
        launcher: str = "torchrun",
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "output.txt"
        port = free_port()
        self.processes = []
        for rank in range(num_ranks):
            env = {} if num_ranks == 1 else environment(launcher, rank, num_ranks, port)
            process = server.Process(target=_run, args=(folder, arguments, env, event))
            process.start()
            self.processes.append(process)

    def wait(self, seconds: float = 120) -> list[int]:
        """Wait for the end; exit codes. Stops what is still running when the time is over."""
        deadline = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0, deadline - time.monotonic()))
        self.is_hanging = any(process.is_alive() for process in self.processes)
        self.kill()
        return [process.exitcode for process in self.processes]

    def kill(self) -> None:
        """SIGKILL to all that still run."""
        for rank in range(len(self.processes)):
            self.signal(signal.SIGKILL, rank)
        for process in self.processes:
            process.join()

    def signal(self, number: int, rank: int) -> None:
        """Send a signal to a rank and its workers, as SLURM does to all that a job started."""
        process = self.processes[rank]
        if process.exitcode is None:
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:  # it has only just begun
                os.kill(process.pid, number)

    @property
    def output(self) -> str:
        """What all processes printed."""
        return self.log.read_text()


def options(**keys) -> list[str]:
    """The arguments of train.py."""
    pairs = [text for key, value in keys.items() for text in (f"--{key}", str(value))]
    return [str(ROOT / "hparams/mini.yaml"), *pairs]


def steps(folder: Path, rank: int = 0) -> dict[tuple[str, str], set[str]]:
    """The losses logged of each (epoch, items): several where a step was done again."""
    losses: dict = {}
    for line in (folder / f"steps.{rank}.csv").read_text().splitlines():
        epoch, ids, loss = line.split(",")
        losses.setdefault((epoch, ids), set()).add(loss)
    return losses


def environment(launcher: str, rank: int, num_ranks: int, port: int) -> dict[str, str]:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if launcher == "srun":
        names = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS")
        env |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_ID": "1"}
    return env | dict(zip(names, map(str, (rank, rank, num_ranks)), strict=True))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run(folder: Path, arguments: list[str], env: dict, event: Callable | None) -> None:
    os.setsid()  # a group of its own, with its workers
    os.environ |= env
    become_program(ROOT, folder / "output.txt", folder / "output.txt")
    import torch

    import train

    torch.set_num_threads(1)
    rank = env.get("RANK", env.get("SLURM_PROCID", 0))
    _log_steps(folder / f"steps.{rank}.csv")
    if event is not None:
        event(folder)
    train.main(arguments)


def become_program(folder: Path, out: Path, err: Path) -> None:
    """Let a fork of the server run in a folder and print to files, as a program would."""
    multiprocessing.set_start_method("fork", force=True)  # of the workers
    os.chdir(folder)
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        with open(path, "ab") as file:
            os.dup2(file.fileno(), stream.fileno())
    import speechbrain.utils.logger

    speechbrain.utils.logger.get_environment_description = str  # a second of pip freeze


def _log_steps(path: Path) -> None:
    from sfsrnet_modules.training.brain import Separation

    on_fit_batch_end = Separation.on_fit_batch_end

    def log(brain, batch, outputs, loss, should_step):
        on_fit_batch_end(brain, batch, outputs, loss, should_step)
        epoch = brain.hparams.epoch_counter.current
        with open(path, "a") as file:
            file.write(f"{epoch},{'+'.join(batch.id)},{loss.item().hex()}\n")

    Separation.on_fit_batch_end = log
