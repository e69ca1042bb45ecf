"""What more GPUs give: a model of a step's cost, and a check of it with two processes on two cores.

``python -m benchmarks.scaling`` measures on the CPU: a step of the paper's model by one process, by
two that do not know of each other, by two that synchronise, and the all-reduce of its gradients
alone. A GPU's step is not measured here: it is an input of the tables, ``--step`` seconds.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from torch import distributed, nn

from benchmarks.about import ROOT, facts, table
from benchmarks.ranks import environment, free_port, server
from sfsrnet_modules.common.hparams import read_hparams
from sfsrnet_modules.evaluation.complexity import count_parameters, macs_per_second

SEGMENT, ROUNDS = 0.25, 5  # s of audio, and steps that are measured, after one that is not
GPUS_A_NODE = 8
BACKWARD = 2 / 3  # of a step: what the all-reduce can hide behind
LAST = 0.1  # share of the gradients that is ready only when the backward pass ends, a bucket or two
NVLINK, NETWORK = 300e9, 25e9  # bytes/s: of a GPU within a node, of a node (200 Gb/s): assumed
DISK = 1e9  # bytes/s of the shared disk, assumed
EPOCHS = 100
CORPORA = {"WSJ0-2mix": 20_000, "Libri2Mix train-360": 50_800}  # training mixtures
MIXING = 164  # mixtures a second and core, of 4 s at 8 kHz: benchmarks/dynamic_mixing.md
WORKERS = 4  # processes a GPU that mix

REPORT = """# More GPUs: on paper, and by two processes

`python -m benchmarks.scaling --step {steps}`, commit {commit}, {cores} cores of {cpu}, Python
{python}, torch {torch}. No GPU was here: **a GPU's step is an input of the tables, not
measured.**

## The model of cost

A step of W processes takes `step + max({last:.0%} of reduce, reduce - 2/3 step)`. Each computes
its own items; the gradients' all-reduce hides behind the backward pass, two thirds of a step, but
for the last buckets, which are ready when it ends. The paper's model has {millions:.1f} M
parameters, so its gradients are {megabytes:.0f} MB, and a ring moves 2 (W - 1) / W of that
through every link: `reduce = 2 (W - 1) / W * {megabytes:.0f} MB / bandwidth`. Assumed are
{nvlink:.0f} GB/s a GPU within a node and {network:.0f} GB/s a node (200 Gb/s) between them.

## Checked by two processes

Paper's model, {segment} s of audio, batch 1, float32, one thread a process, gloo over the
loopback; median (least to most) of {rounds} steps.

{measured}

On two cores nothing hides: the threads that reduce take the time of those that compute. So the
model without overlap predicts {predicted:.2f} s for the synchronised step (two that do not
synchronise, and the all-reduce); **{actual:.2f} s was measured ({error:+.0%})**. Two processes do
{speedup:.2f} times the items a second of one.

## On paper

{gmacs:.0f} G multiply-accumulates a second of audio, three times that with the backward pass: 4 s
are {tflop:.1f} TFLOP a step. A GPU that does 100 TFLOP/s of them needs {at100:.0f} ms, one that
does 20 TFLOP/s {at20:.0f} ms. Batch 1 of 4 s a GPU, {epochs} epochs; two checkpoints an epoch
({checkpoint:.2f} GB each, 1 GB/s assumed) are included, validation is not.

{table}

## Where it stops

- **Batch.** 64 GPUs take 64 items a step: an epoch of WSJ0-2mix has {steps64} steps, that of one
  GPU has {steps1}. The model sees as many items, but is stepped a 64th as often; the learning rate
  has to be chosen anew, and an epoch of large batches is expected to bring less than one of small
  ones (not measured here). This, not the machine, is the first limit of WSJ0-2mix.
- **Network.** Within a node the all-reduce of {megabytes:.0f} MB takes {inside:.1f} ms and hides.
  Between nodes it takes {between:.0f} ms at {network:.0f} GB/s a node, whatever their number: it
  hides where a step takes more than {hides:.0f} ms. Faster steps need a faster network, or
  `grad_accumulation_factor`, which reduces once in so many steps.
- **Loader.** {mixing} mixtures a second and core (`benchmarks/dynamic_mixing.md`, the slowest
  row), {workers} workers a GPU: a GPU waits for data where its step takes less than {loader:.0f}
  ms. They read the node's own disk (`recipes/slurm`), so this does not grow with W.
- **Once an epoch.** Validation is shared out; checkpoints are written by one process,
  {seconds:.1f} s an epoch: with 64 GPUs and steps of {step} s {share:.0%} of the time.
"""


def reduce_time(num_gpus: int, size: int) -> float:
    """Seconds of an all-reduce of `size` bytes over a ring, by its slowest link."""
    volume = 2 * (num_gpus - 1) / num_gpus * size
    # eight GPUs of a node share its way out: a ring passes there once in each direction
    return volume / (NVLINK if num_gpus <= GPUS_A_NODE else NETWORK)


def step_time(step: float, num_gpus: int, size: int) -> float:
    """Seconds of a step of all GPUs, each of which computes `step`."""
    reduce = reduce_time(num_gpus, size)
    return step + max(LAST * reduce, reduce - BACKWARD * step)


def hours(step: float, num_gpus: int, size: int, num_items: int) -> float:
    """Hours of a whole training without its validation."""
    steps = -(-num_items // num_gpus)
    return EPOCHS * (steps * step_time(step, num_gpus, size) + 2 * checkpoint(size) / DISK) / 3600


def checkpoint(size: int) -> int:
    """Bytes of a checkpoint: the weights, Adam's two moments, the averaged weights."""
    return 4 * size


def paper_table(steps: list[float], size: int) -> str:
    """Hours and speed-up by number of GPUs, for each assumed step."""
    header = "GPUs|" + "|".join(f"{name}, {step} s a step" for step in steps for name in CORPORA)
    rows = []
    for num_gpus in (1, 8, 16, 32, 64):
        row = [num_gpus]
        for step in steps:
            for num_items in CORPORA.values():
                one, many = (hours(step, n, size, num_items) for n in (1, num_gpus))
                row.append(f"{many:.1f} h (x {one / many:.1f})")
        rows.append(row)
    return table(header.split("|"), rows)


# --- Measured -------------------------------------------------------------------------------------


def measure(kind: str, num_ranks: int) -> list[float]:
    """Seconds of what `kind` names, in each round of the first of the processes."""
    port, results = free_port(), server.Queue()
    processes = [
        server.Process(target=_work, args=(kind, r, num_ranks, port, results))
        for r in range(num_ranks)
    ]
    for process in processes:
        process.start()
    times = results.get(timeout=600)
    for process in processes:
        process.join()
    return times


def _work(kind: str, rank: int, num_ranks: int, port: int, results) -> None:
    torch.set_num_threads(1)
    os.environ |= environment("torchrun", rank, num_ranks, port)
    distributed.init_process_group("gloo")
    hparams = _paper()
    model = hparams["model"]
    work = _all_reduce(model) if kind == "reduce" else _step(hparams, kind == "synchronised")
    times = []
    for _ in range(ROUNDS + 1):
        distributed.barrier()
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    if rank == 0:
        results.put(times[1:])
    distributed.barrier()
    distributed.destroy_process_group()


def _paper() -> dict:
    overrides = f"data_folder: none\nsave_folder: {tempfile.gettempdir()}"
    return load_hyperpyyaml(read_hparams(ROOT / "hparams/sfsrnet.yaml"), overrides)


def _all_reduce(model: nn.Module) -> Callable:
    gradients = torch.zeros(count_parameters(model))
    return lambda: distributed.all_reduce(gradients)


def _step(hparams: dict, synchronised: bool) -> Callable:
    model = hparams["model"]
    wrapped = nn.parallel.DistributedDataParallel(model) if synchronised else model
    optimizer = hparams["opt_class"](model.parameters())
    sources = 0.1 * torch.randn(1, round(SEGMENT * hparams["sample_rate"]), 2)

    def step() -> None:
        loss, _ = hparams["loss"](wrapped(sources.sum(2)), sources, None, True)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _spread(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


def main() -> None:
    """Measure, and write the report beside this file."""
    arguments, machine = _parse(), facts()
    kinds = {
        "step of one process": ("alone", 1),
        "step of two that do not synchronise": ("alone", 2),
        "all-reduce of the gradients between two": ("reduce", 2),
        "step of two that synchronise": ("synchronised", 2),
    }
    times = {name: measure(*kind) for name, kind in kinds.items()}
    arguments.output.write_text(report(arguments.step, times, machine))


def report(steps: list[float], times: dict[str, list[float]], machine: dict[str, str]) -> str:
    """Fill in the report: `steps` are assumed seconds of a GPU, `times` what was measured."""
    one, pair, reduce, both = (statistics.median(t) for t in times.values())
    model = _paper()["model"]
    size = 4 * count_parameters(model)
    tflop = 2 * 3 * 4.0 * macs_per_second(model, 8000) / 1e12  # 4 s
    epoch = -(-CORPORA["WSJ0-2mix"] // 64) * step_time(steps[0], 64, size)
    return REPORT.format(
        **machine,
        step=steps[0],
        steps=" ".join(map(str, steps)),
        last=LAST,
        millions=size / 4e6,
        megabytes=size / 1e6,
        nvlink=NVLINK / 1e9,
        network=NETWORK / 1e9,
        segment=SEGMENT,
        rounds=ROUNDS,
        measured=table(["what", "s"], [[name, _spread(t)] for name, t in times.items()]),
        predicted=pair + reduce,
        actual=both,
        error=both / (pair + reduce) - 1,
        speedup=2 * one / both,
        gmacs=macs_per_second(model, 8000) / 1e9,
        tflop=tflop,
        at100=1000 * tflop / 100,
        at20=1000 * tflop / 20,
        epochs=EPOCHS,
        checkpoint=checkpoint(size) / 1e9,
        table=paper_table(steps, size),
        inside=1000 * reduce_time(8, size),
        between=1000 * reduce_time(64, size),
        hides=1000 * reduce_time(64, size) / BACKWARD,
        steps64=-(-CORPORA["WSJ0-2mix"] // 64),
        steps1=CORPORA["WSJ0-2mix"],
        mixing=MIXING,
        workers=WORKERS,
        loader=1000 / (MIXING * WORKERS),
        seconds=2 * checkpoint(size) / DISK,
        share=2 * checkpoint(size) / DISK / (epoch + 2 * checkpoint(size) / DISK),
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--step", type=float, nargs="+", default=[0.05, 0.25], help="s of a GPU's step, assumed"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
