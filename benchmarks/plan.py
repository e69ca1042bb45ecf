"""What a training takes on the device that is here, and what fits into a given time.

``python -m benchmarks.plan hparams/shipped.yaml --minutes 9 --data_folder SPEECH`` measures the
training step on noise in growing batches, in bfloat16 where the device has it, and ends with the
command of the training that is over by then. Without ``--minutes``: hours of the configuration as
it is, on several such devices too, and with ``--price`` its cost. Other options are train.py's.
"""

import argparse
import gc
import os
import shlex
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import sfsrnet_modules  # noqa: F401  first: lets speechbrain be imported on CPU-only torch

# isort: split
import torch

from benchmarks.about import processor, provenance, table, write_above
from benchmarks.step import build, peak_memory, timed_step
from sfsrnet_modules.common.command_line import pairs
from sfsrnet_modules.common.hparams import load_hparams, one_line_errors
from sfsrnet_modules.common.precision import emulates_bfloat16
from sfsrnet_modules.training.brain import FLOPS_PER_MAC

GROWTH = 1.05  # items a second that twice the batch has to bring
DEVICES = (1, 8, 64)
ENDS = 60  # s kept for the start, the test and the export of a training: stated, not measured
VALIDATION = 0.15  # share of the rest that is kept for validation: stated, not measured
Options = dict[str, list[str]]  # of train.py: of a key, the words that follow it


# --- Measured -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A training step of one batch size, as it was measured."""

    file: str  # of the configuration
    batch: int  # items
    seconds: float  # by the clock
    used: float  # seconds of the processor, which other programs disturb less
    memory: int | None  # bytes of the GPU at most; None on a CPU
    share: float  # of the peak of matrix products
    epochs: int  # of the configuration
    items: int  # an epoch of it

    @property
    def items_per_second(self) -> float:
        """Training mixtures a second."""
        return self.batch / self.seconds

    @property
    def hours(self) -> float:
        """Of all steps of the configuration."""
        return self.epochs * self.items / self.items_per_second / 3600


def measure(file: str, options: Options, num_steps: int) -> Step | None:
    """Step on noise, once and then `num_steps` times; None where memory does not suffice."""
    on_gpu = torch.cuda.is_available()
    gc.collect()  # the batch size before
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        with tempfile.TemporaryDirectory() as folder:
            brain, batches = build([file, *words(options | {"output_folder": [folder]})])
            timed_step(brain, next(batches))
            times = [timed_step(brain, next(batches)) for _ in range(num_steps)]
    except torch.OutOfMemoryError:
        return None
    hparams = brain.hparams
    samples = hparams.batch_size * hparams.segment * hparams.sample_rate
    flops = FLOPS_PER_MAC * brain.macs_per_sample * samples
    seconds = median(t["wall"] for t in times)
    return Step(
        file=file,
        batch=hparams.batch_size,
        seconds=seconds,
        used=median(t["used"] for t in times),
        memory=peak_memory() if on_gpu else None,
        share=flops / seconds / brain.peak_flops,
        epochs=hparams.number_of_epochs,
        items=hparams.items_per_epoch,
    )


def grow(file: str, options: Options, num_steps: int, largest: int) -> list[Step]:
    """Measure batches, each twice the one before, until memory ends or one brings too little.

    Arguments
    ---------
    file : str
        The configuration, whose batch size is the first.
    options : dict
        Of train.py.
    num_steps : int
        To measure of each size.
    largest : int
        No batch is larger, but the first.

    Returns
    -------
    list of Step
        The last of them may have brought less than ``GROWTH``. With ``--compile`` the first alone.

    Raises
    ------
    ValueError
        Not even the first fits into the memory.
    """
    step = measure(file, options, num_steps)
    if step is None:
        raise ValueError(
            f"a batch of {file} does not fit into the memory: give a smaller --batch_size or "
            "--segment, or --checkpointing True"
        )
    steps = [step]
    if "compile" in options:
        return steps  # each size takes minutes to compile
    while 2 * step.batch <= largest and may_double():
        larger = {"batch_size": [str(2 * step.batch)]}
        step = measure(file, options | larger, num_steps)
        if step is None:
            break
        steps.append(step)
        if step.items_per_second < GROWTH * steps[-2].items_per_second:
            break
    return steps


def may_double() -> bool:
    """Whether there is twice the memory. A GPU says so when it is asked, a CPU ends the process."""
    here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return torch.cuda.is_available() or 2 * peak_memory() < here


# --- Planned --------------------------------------------------------------------------------------


def best_of(steps: list[Step]) -> Step:
    """The smallest batch of which a larger one brings no more than ``GROWTH``."""
    most = max(step.items_per_second for step in steps)
    return next(step for step in steps if step.items_per_second > most / GROWTH)


def items_that_fit(step: Step, seconds: float) -> int:
    """Items an epoch, in whole batches, of a training that is over in so many seconds.

    Raises
    ------
    ValueError
        Not even one batch an epoch fits.
    """
    for_steps = (seconds - ENDS) * (1 - VALIDATION)
    items = int(step.items_per_second * for_steps / step.epochs) // step.batch * step.batch
    if items < 1:
        raise ValueError(
            f"{seconds:.0f} s are left, too few for {step.epochs} epochs and {ENDS} s of start and "
            "end: give more --minutes, or a smaller --number_of_epochs"
        )
    return items


def words(options: Options) -> list[str]:
    """Options as the words of a command line."""
    return [word for key, values in options.items() for word in (f"--{key}", *values)]


def command(step: Step, items: int, options: Options) -> str:
    """The training with `items` an epoch, to be pasted into a shell."""
    sizes = {
        "batch_size": [str(step.batch)],
        "items_per_epoch": [str(items)],
        "number_of_epochs": [str(step.epochs)],
    }
    options = {"data_folder": ["SPEECH"]} | options | sizes
    return shlex.join(["python", "train.py", step.file, *words(options)])


# --- Reported -------------------------------------------------------------------------------------

REPORT = """# What a training takes

{provenance}
{device}, {precision}; median of {num_steps} steps after one, on noise of the batch's shape.

{table}

Hours: of the steps for all mixtures of the configuration, its epochs times the items of one, by the
clock and without validation. Several devices are taken to share them without loss, the best that
they can do: what passes between them is not in it ([scaling.md](scaling.md)). On a processor that
other programs share, a step of one thread would take the processor's seconds alone. A larger batch
makes fewer steps of the same mixtures; whether they teach as much was not measured.
"""

FITTING = """
## What fits into {minutes:g} minutes

{gone:.0f} s went into preparing the data and measuring. {ends} s are kept for the start, the test
and the export of a training, and {validation:.0%} of the rest for validation: stated, not measured.
That the loader keeps up is taken for granted ([packed.md](packed.md)).
"""

TRAINING = """
{file}: {total} mixtures, {num_steps} steps of {batch}, {epochs} epochs.

    {command}
"""


def report(
    steps: list[Step], about: str, precision: str, num_steps: int, price: float | None
) -> str:
    """The table of what was measured, and of what each configuration takes as it is."""
    header = ["configuration", "batch", "s a step", "processor s", "items/s", "memory, GB"]
    header += ["share of peak", "mixtures"] + [f"hours on {number}" for number in DEVICES]
    rows = [_row(step) for step in steps]
    if price is not None:
        header.append(f"cost at {price:g} an hour")
        rows = [[*row, _short(price * step.hours)] for row, step in zip(rows, steps, strict=True)]
    return REPORT.format(
        provenance=about,
        device=_device(),
        precision=precision,
        num_steps=num_steps,
        table=table(header, rows),
    )


def _row(step: Step) -> list[str]:
    memory = "" if step.memory is None else _short(step.memory / 1e9)
    speed = [_short(value) for value in (step.seconds, step.used, step.items_per_second)]
    hours = [_short(step.hours / number) for number in DEVICES]
    mixtures = _short(step.epochs * step.items)
    return [step.file, str(step.batch), *speed, memory, f"{step.share:.0%}", mixtures, *hours]


def _short(value: float) -> str:
    """Three digits, or the whole number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _device() -> str:
    """Name of the GPU, else of the processor and its threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    number = torch.get_num_threads()
    return f"{processor()}, {number} thread{'s' * (number > 1)}"


def fitting(steps: list[Step], options: Options, minutes: float, gone: float) -> str:
    """What fits into the minutes, of which so many seconds are gone; ends with the command."""
    text = FITTING.format(minutes=minutes, gone=gone, ends=ENDS, validation=VALIDATION)
    for file in dict.fromkeys(step.file for step in steps):
        best = best_of([step for step in steps if step.file == file])
        items = items_that_fit(best, 60 * minutes - gone)
        text += TRAINING.format(
            file=file,
            total=best.epochs * items,
            num_steps=best.epochs * items // best.batch,
            batch=best.batch,
            epochs=best.epochs,
            command=command(best, items, options),
        )
    return text


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write the report where it is asked for."""
    begin, about = time.monotonic(), provenance()
    args, rest = _parse(arguments)
    with one_line_errors():
        options = {"precision": [_precision()]} | pairs(rest)
        if args.minutes is not None and "data_folder" in options:
            for file in args.files:  # what is ready here, the training finds
                load_hparams([file, *words(options)])[3]["corpus"].prepare()
        on_noise = {"data_folder": ["none"]} | options
        steps = [s for file in args.files for s in grow(file, on_noise, args.steps, args.largest)]
        text = report(steps, about, options["precision"][0], args.steps, args.price)
        if args.minutes is not None:
            text += fitting(steps, options, args.minutes, time.monotonic() - begin)
    print(text)
    if args.output is not None:
        write_above(args.output, text, "## On one ")


def _precision() -> str:
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    return "fp32" if emulates_bfloat16(device_type) else "bf16"


def _parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("files", nargs="+", metavar="FILE", help="of hparams/, before the rest")
    parser.add_argument("--minutes", type=float, help="for the training, this plan included")
    parser.add_argument("--price", type=float, help="of an hour of the device, in any currency")
    parser.add_argument("--steps", type=int, default=7, help="to measure (default: %(default)s)")
    parser.add_argument("--largest", type=int, default=4096, help="batch that is tried")
    parser.add_argument("--output", type=Path, help="file for the report as well")
    return parser.parse_known_args(arguments)


if __name__ == "__main__":
    main()
