"""Many processes as one: how they find each other, who takes which items, figures put together."""

import gc
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from threading import Timer
from typing import Any
from uuid import uuid4

import torch
from speechbrain.utils.distributed import (
    ddp_init_group,
    infer_device,
    is_distributed_initialized,
)
from speechbrain.utils.run_opts import RunOptions
from torch import nn
from torch.distributed.distributed_c10d import _get_default_store
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset, Sampler, Subset

PORTS = range(15000, 25000)  # of the rendezvous under srun: one of them, by the job's number
OF_SLURM = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")
OF_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
JOIN = 60.0  # s until all processes have found each other


def world_size() -> int:
    """Number of processes."""
    return torch.distributed.get_world_size() if is_distributed_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return torch.distributed.get_rank() if is_distributed_initialized() else 0


# --- Finding each other ---------------------------------------------------------------------------


def adopt_slurm() -> None:
    """Let processes started by ``srun`` find each other as those of ``torchrun`` do.

    SLURM's variables are translated to torchrun's, where these are absent and the process is one of
    several of a job step. In a batch script without ``srun`` nothing happens.

    Raises
    ------
    ValueError
        Some of the variables are missing.
    """
    env = os.environ
    if "RANK" in env or int(env.get("SLURM_STEP_NUM_TASKS", 1)) < 2:
        return
    _need(OF_SLURM, "SLURM_STEP_NUM_TASKS", "srun")
    devices = max(torch.cuda.device_count(), 1)  # srun may show each process its own one only
    env["RANK"] = env["SLURM_PROCID"]
    env["LOCAL_RANK"] = str(int(env["SLURM_LOCALID"]) % devices)
    env["WORLD_SIZE"] = env["SLURM_STEP_NUM_TASKS"]
    env.setdefault("MASTER_ADDR", _first_host(env["SLURM_STEP_NODELIST"]))
    job = int(env["SLURM_JOB_ID"]) + int(env.get("SLURM_STEP_ID", 0))
    env.setdefault("MASTER_PORT", str(PORTS[job % len(PORTS)]))


def _first_host(nodes: str) -> str:
    """Name the first host of a list such as ``gpu[07-09,12],big3``."""
    try:
        listed = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True)
        return listed.stdout.decode().split()[0]
    except (OSError, IndexError):  # no scontrol on this node
        return re.sub(r"\[(\w+).*", r"\1", nodes.split(",")[0])


def _need(names: tuple[str, ...], given: str, launcher: str) -> None:
    """Stop where one of a launcher's variables is there and others are not."""
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ValueError(
            f"{given} is {os.environ[given]} in the environment, but {', '.join(missing)} missing: "
            f"start the processes by {launcher}, or unset {given} for a single one"
        )


def join_group(run_opts: RunOptions) -> RunOptions:
    """Join the other processes, if there are any: by NCCL between GPUs, else by gloo.

    Arguments
    ---------
    run_opts : speechbrain.utils.run_opts.RunOptions

    Returns
    -------
    speechbrain.utils.run_opts.RunOptions
        The same, with the device and the backend that were taken.

    Raises
    ------
    ValueError
        The environment is not complete, or has no GPU for this process.
    """
    if "RANK" not in os.environ:
        return run_opts
    _need(OF_TORCHRUN, "RANK", "torchrun")
    device = _own_device(run_opts.device or infer_device())
    backend = "nccl" if device.startswith("cuda") else "gloo"
    if "distributed_backend" in run_opts.overridden_args:
        backend = run_opts.distributed_backend
    chosen = run_opts.overridden_args | {"distributed_backend", "device"}
    run_opts = replace(run_opts, device=device, distributed_backend=backend, overridden_args=chosen)
    with _within(JOIN):
        ddp_init_group(run_opts)
        gather_objects(None)  # NCCL connects no sooner
    return run_opts


def _own_device(device: str) -> str:
    """This process's device, of the kind that all of them were given."""
    if not device.startswith("cuda"):
        return device
    local, number = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= number:
        raise ValueError(
            f"process {local} of this host has no GPU, there are {number}: start as many processes "
            "a host as it has GPUs, or use --device cpu"
        )
    return f"cuda:{local}"


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """End the process where something takes longer, also where it waits outside of Python."""

    def end() -> None:
        number, place = os.environ["WORLD_SIZE"], os.environ["MASTER_ADDR"]
        sys.stderr.write(
            f"error: {number} processes were to meet at {place} within {seconds:.0f} s, and some "
            "did not come: look at what the others say, and start all of them again\n"
        )
        sys.stderr.flush()
        os._exit(1)

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def ending_together() -> Iterator[None]:
    """Let an error of one process in the set-up end them all, in its words: none waits for it."""
    try:
        yield
    except (ValueError, OSError) as error:
        own, cause = str(error), error
    except Exception as error:
        own, cause = f"the set-up ended with {type(error).__name__}: {error}", error
    else:
        own = cause = None
    first = next((text for text in gather_objects(own) if text is not None), None)
    if first is not None:
        raise ValueError(first) from cause


def on_main(function: Callable[..., Any], *args) -> None:
    """Run a function in the main process, while the others wait; all end where it fails."""
    with ending_together():
        if rank() == 0:
            function(*args)


def check_shared(folder: str | os.PathLike) -> None:
    """Stop where processes write to different folders, or to folders of one name on two disks."""
    name = gather_objects(f".shared-{uuid4().hex}")[0]
    mark = Path(folder, name)
    on_main(mark.touch)
    try:
        with ending_together():
            if not mark.exists():
                raise ValueError(
                    f"process {rank()} on {socket.gethostname()} does not find what process 0 "
                    f"wrote to its output_folder, {mark.parent.absolute()} here: give all of them "
                    "one folder, on a disk that all hosts share"
                )
    finally:
        if rank() == 0:
            mark.unlink(missing_ok=True)


def leave_group() -> None:
    """Leave them, if there are any, when all is over."""
    if is_distributed_initialized():
        gc.collect()  # a wrapped model holds the group, whose threads must not outlive Python
        torch.distributed.destroy_process_group()


def refuse_batch_norm(modules: nn.Module, device: str) -> None:
    """Stop where several processes would need a batch norm over all their items on CPUs."""
    has_any = any(isinstance(module, _BatchNorm) for module in modules.modules())
    if has_any and world_size() > 1 and device.startswith("cpu"):
        raise ValueError(
            f"batch norm over the items of {world_size()} processes is for GPUs only in PyTorch: "
            "choose cln, gln or ln as sr_norm instead of bn, or train in one process"
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model that DDP wraps, or the model where it does not."""
    return model.module if isinstance(model, DistributedDataParallel) else model


# --- Who takes which items ------------------------------------------------------------------------


class EpochBatches(Sampler):
    """The items of an epoch in their order, in batches for each process.

    A step of all processes together takes the next ``batch_size * world_size`` items, process r
    every ``world_size``-th from the r-th on: the union does not depend on the number of processes.
    The last step takes what is left. Where that is fewer items than processes, the others compute
    one of them as well, with a weight of 0, as all must take part in the step.

    Arguments
    ---------
    num_items : int
        Items an epoch.
    batch_size : int
        Items a step and process.
    rank, world_size : int
        This process's number, and how many there are.

    Raises
    ------
    ValueError
        The batch size is none.

    Example
    -------
    >>> batches = EpochBatches(7, 2, rank=0, world_size=2), EpochBatches(7, 2, 1, 2)
    >>> [list(b) for b in batches], [b.weight(2) for b in batches]
    ([[[0, 2], [4, 6]], [[1, 3], [5]]], [1.333..., 0.666...])
    >>> batches[0].start = 4  # of the next epoch, which goes on in the middle
    >>> list(batches[0]), len(batches[0])
    ([[4, 6]], 2)
    """

    def __init__(self, num_items: int, batch_size: int, rank: int = 0, world_size: int = 1):
        if batch_size < 1 or batch_size != int(batch_size):
            raise ValueError(f"batch_size is {batch_size}: give a whole number of 1 or more")
        self.num_items = num_items
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.start = 0  # items of the epoch that are done already

    @property
    def step_size(self) -> int:
        """Items that a step of all processes takes."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Steps of a whole epoch, those done already among them."""
        return self.steps_done + -(-(self.num_items - self.start) // self.step_size)

    @property
    def steps_done(self) -> int:
        """Steps of this size that come before the start."""
        return self.start // self.step_size

    def __iter__(self) -> Iterator[list[int]]:
        for begin in range(self.start, self.num_items, self.step_size):
            items = range(begin, min(begin + self.step_size, self.num_items))
            yield list(items[self.rank :: self.world_size]) or [begin]

    def items_before(self, step: int) -> int:
        """Items of the epoch that are done after `step` steps, counted as ``len`` does."""
        return min(self.start + (step - self.steps_done) * self.step_size, self.num_items)

    def weight(self, step: int) -> float:
        """Factor of this process's mean loss in step `step` (from 1), for the mean over all items.

        1 but for the last step, where processes have unequal numbers of items: the mean that is
        taken over processes would count items unequally.
        """
        begin, end = self.items_before(step - 1), self.items_before(step)
        own = len(range(begin, end)[self.rank :: self.world_size])
        return own * self.world_size / (end - begin)


def shard(dataset: Dataset) -> Dataset:
    """This process's items of a set that is gone through once: every item is with exactly one."""
    if world_size() == 1:
        return dataset
    return Subset(dataset, range(rank(), len(dataset), world_size()))


# --- Figures put together -------------------------------------------------------------------------


def gather_objects(own: Any) -> list:
    """Collect an object of every process, in their order; all processes must call it."""
    if not is_distributed_initialized():
        return [own]
    gathered = [None] * world_size()
    torch.distributed.all_gather_object(gathered, own)
    return gathered


def gather_rows(own: list) -> list:
    """Collect what was made of each item of a ``shard``, in the order of the whole set."""
    turns = zip_longest(*gather_objects(own))
    return [row for row in chain(*turns) if row is not None]


def gather_sums(own: dict[str, float]) -> dict[str, float]:
    """Add up figures over all processes; each may lack some."""
    shares = gather_objects(own)
    names = dict.fromkeys(chain(*shares))
    return {name: sum(share.get(name, 0) for share in shares) for name in names}


def on_any_so_far(condition: bool) -> bool:
    """Whether a condition held on any process that has asked so far.

    No process waits, so each may ask as often as it likes: for places that they come to at
    unequal times.
    """
    if not is_distributed_initialized():
        return condition
    store = _get_default_store()
    if condition:
        store.set("condition", "held")
    return condition or store.check(["condition"])


def on_any(condition: bool, device: str) -> bool:
    """Whether a condition holds on any process; all processes must call it."""
    if not is_distributed_initialized():
        return condition
    flag = torch.tensor(int(condition), device=device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag)
