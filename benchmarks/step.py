"""Cost of a training step, this code and another checkout's side by side.

``python -m benchmarks.step --against CHECKOUT`` writes ``benchmarks/step.md``, on whatever device
there is: on a GPU in bfloat16 and in less than three minutes, with the largest batches that fit.
Each side is a process of its own, in its own folder, and they step in turns. A step is all that
``Brain.fit_batch`` does, on noise of the shape of a batch. SpeechBrain's SepFormer steps beside
ours, as in its recipe. Medians; on a CPU also the processor time, which other programs disturb
less.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace

SHIPPED = "--width 128 --kernel 32 --blocks 6 --heads 8 --rates [1000,2000,3000,4000,8000,8000]"
# yaml file, options, batch and seconds on a CPU, batch and seconds on a GPU
SHAPES = {
    "shipped": ("small.yaml", SHIPPED, (8, 3), (32, 3)),
    "small": ("small.yaml", "", (2, 2), (32, 2)),
    "paper": ("sfsrnet.yaml", "", (1, 1), (4, 4)),
    "sepformer": ("sepformer.yaml", "", (1, 2), (4, 4)),
}
STOCK = "--stock"  # of a side: SpeechBrain's model and loss
DEAREST = 10  # operations that are listed


# --- One side -------------------------------------------------------------------------------------


def serve(shape: str, options: list[str]) -> None:
    """Build the model of the checkout that is the working folder; answer commands from stdin."""
    import torch

    brain, batches = build(arguments_of(shape, options), STOCK in options)

    def step() -> dict:
        return timed_step(brain, next(batches))

    def count() -> dict:
        from torch.utils.flop_counter import FlopCounterMode

        from sfsrnet_modules.evaluation.complexity import UNCOUNTED

        with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
            step()
        return {"flops": counter.get_total_flops()}

    def memory() -> dict:
        return {"bytes": peak_memory()}

    def dearest() -> dict:
        with torch.profiler.profile() as profile:
            step()
        key = f"self_{'device' if torch.cuda.is_available() else 'cpu'}_time_total"
        events = sorted(profile.key_averages(), key=lambda e: -getattr(e, key))
        total = sum(getattr(event, key) for event in events)
        shares = {event.key: getattr(event, key) / total for event in events[:DEAREST]}
        return {"shares": shares}

    commands = {"step": step, "count": count, "memory": memory, "dearest": dearest}
    for line in sys.stdin:
        try:
            print("=" + json.dumps(commands[line.strip()]()), flush=True)
        except torch.OutOfMemoryError:
            print("=null", flush=True)


def arguments_of(shape: str, options: list[str]) -> list[str]:
    """The arguments of train.py for a shape, on the device that is here."""
    import torch

    file, of_shape, *sizes = SHAPES[shape]
    batch, seconds = sizes[torch.cuda.is_available()]
    options = [option for option in options if option != STOCK]
    if "--batch_size" not in options:
        options += ["--batch_size", str(batch)]
    options += ["--segment", str(seconds), "--output_folder", tempfile.mkdtemp()]
    return [f"hparams/{file}", "--data_folder", "none", *of_shape.split(), *options]


def build(arguments: list[str], stock: bool = False) -> tuple:
    """A brain that is ready to step, and batches of noise without end.

    `arguments` are those of train.py; with `stock`, model and loss are SpeechBrain's.
    """
    import sfsrnet_modules  # noqa: F401  first

    # isort: split
    import speechbrain as sb

    try:
        from sfsrnet_modules.common.hparams import load_hparams
        from sfsrnet_modules.training.brain import EpochBatches, Separation
    except ImportError:  # before the modules had rooms
        from sfsrnet_modules.brain import EpochBatches, Separation
        from sfsrnet_modules.hparams import load_hparams
    _, run_opts, _, hparams = load_hparams(arguments)
    batches = noise(*(hparams[key] for key in ("batch_size", "segment", "sample_rate", "num_spks")))
    if stock:
        return recipe_of_speechbrain(run_opts), batches
    parts = {name: hparams[name] for name in ("modules", "opt_class", "checkpointer")}
    brain = Separation(**parts, hparams=hparams, run_opts=run_opts)
    brain.train_data = SimpleNamespace(set_epoch=lambda epoch: None)
    brain.batches = EpochBatches(100_000, hparams["batch_size"])
    brain.on_fit_start()
    brain.noprogressbar = True
    brain.on_stage_start(sb.Stage.TRAIN, 1)
    brain.nonfinite_count = 0
    brain.modules.train()
    return brain, batches


def noise(batch_size: int, segment: float, sample_rate: int, num_spks: int):
    """Batches of noise of the shape that the loader gives, `segment` in seconds."""
    import torch
    from speechbrain.dataio.batch import PaddedBatch

    while True:
        sources = 0.1 * torch.randn(batch_size, round(segment * sample_rate), num_spks)
        yield PaddedBatch(
            [{"id": str(i), "mixture": s.sum(1), "sources": s} for i, s in enumerate(sources)]
        )


def timed_step(brain, batch) -> dict[str, float]:
    """Seconds of a step, by the clock and of the processor."""
    import torch

    begin, used = time.perf_counter(), time.process_time()
    brain.step += 1
    brain.fit_batch(batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return {"wall": time.perf_counter() - begin, "used": time.process_time() - used}


def peak_memory() -> int:
    """Bytes that were in use at most: of the GPU, else of this process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def recipe_of_speechbrain(run_opts: dict):
    """SpeechBrain's recipe for WSJ0-2mix on its own SepFormer, ready to step."""
    import torch
    from speechbrain.core import Brain
    from speechbrain.nnet.losses import get_si_snr_with_pitwrapper

    from benchmarks.speed_cases import stock_sepformer

    class Recipe(Brain):
        def compute_forward(self, batch, stage):
            return self.modules.model(batch.mixture.data.to(self.device))  # [B, T, C]

        def compute_objectives(self, estimates, batch, stage):
            losses = get_si_snr_with_pitwrapper(batch.sources.data.to(self.device), estimates)
            return losses[losses > -30].mean()  # its threshold

    adam = partial(torch.optim.Adam, lr=0.00015, weight_decay=0)
    recipe = Recipe({"model": stock_sepformer()}, adam, run_opts=run_opts)
    recipe.on_fit_start()
    recipe.nonfinite_count = 0
    return recipe


# --- Both -----------------------------------------------------------------------------------------


class Side:
    """A process that steps when it is asked to."""

    def __init__(self, folder: Path, shape: str, options: list[str]):
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", shape, *options]
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, text=True
        )

    def ask(self, command: str) -> dict | None:
        """Send a command and return what it gives; None where memory does not suffice."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("="):
                return json.loads(line[1:])
        raise RuntimeError(f"a side ended, its message is above: {self.process.args}")

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.wait()


def sides_of(shape: str, against: Path, options: list[str]) -> dict[str, Side]:
    """Ours first, what all are compared with last."""
    from benchmarks.about import ROOT

    if shape == "sepformer":
        rival = {"SpeechBrain's": Side(ROOT, shape, [*options, STOCK])}
    else:
        rival = {"the other": Side(against, shape, options)}
    return {"this code": Side(ROOT, shape, options), **rival}


def compare(sides: dict[str, Side], steps: int) -> dict:
    """Step all sides in turns; figures of each."""
    for side in sides.values():
        side.ask("step")
    times = {name: [] for name in sides}
    for _ in range(steps):
        for name, side in sides.items():
            times[name].append(side.ask("step"))
    figures = {}
    for name, side in sides.items():
        figures[name] = {key: median(t[key] for t in times[name]) for key in ("wall", "used")}
        figures[name] |= side.ask("memory")
    ours = next(iter(sides))
    figures[ours] |= sides[ours].ask("dearest") | sides[ours].ask("count")
    for side in sides.values():
        side.close()
    return figures


def largest_batch(folder: Path, options: list[str]) -> int:
    """Items of 4 s that a step of the paper's model has memory for, by doubling."""
    batch = 1
    while True:
        side = Side(folder, "paper", [*options, "--batch_size", str(2 * batch)])
        fits = side.ask("step") and side.ask("step")
        side.close()
        if not fits:
            return batch
        batch *= 2


def report(shapes: list[str], against: Path, steps: int, options: list[str]) -> str:
    """Measure, and return the table."""
    import torch

    from benchmarks.about import ROOT, provenance, table
    from sfsrnet_modules.evaluation.complexity import peak_flops

    on_gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    options = ["--precision", "bf16", *options] if on_gpu else options
    name = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    peak = peak_flops(device, dtype)
    rows, dearest = [], []
    for shape in shapes:
        batch, seconds = SHAPES[shape][3 if on_gpu else 2]
        figures = compare(sides_of(shape, against, options), steps)
        flops = figures["this code"]["flops"]
        for side, figure in figures.items():
            key = "wall" if on_gpu else "used"
            ratio = list(figures.values())[-1][key] / figure[key]
            share = f"{flops / figure['wall'] / peak:.0%}"
            cells = [f"{batch / figure['wall']:.2f}", f"{figure['used']:.2f}", f"{ratio:.2f}"]
            memory = f"{figure['bytes'] / 1e9:.2f}"
            rows.append([shape, f"{batch} x {seconds} s", side, *cells, share, memory])
        shares = figures["this code"]["shares"].items()
        dearest.append(f"{shape}: " + ", ".join(f"{n} {share:.0%}" for n, share in shares) + ".")
    header = ["shape", "batch", "side", "items/s", "processor seconds a step", "times as fast"]
    header += ["share of peak", "memory, GB"]
    lines = [provenance(), f"{name}, peak {peak / 1e12:.3f} TFLOP/s, {steps} steps a side.", ""]
    lines += [table(header, rows), "", "Dearest operations of this code:", ""]
    lines += [f"- {line}" for line in dearest]
    if on_gpu:
        fit = [largest_batch(ROOT, [*options, "--checkpointing", on]) for on in ("False", "True")]
        lines += ["", f"Largest batch of 4 s, paper's model: {fit[0]}; checkpointing: {fit[1]}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Serve, or measure both sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="a checkout of this project")
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=["shipped", "small", "sepformer"]
    )
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--serve", choices=SHAPES, help=argparse.SUPPRESS)
    arguments, options = parser.parse_known_args()
    if arguments.serve:
        serve(arguments.serve, options)
        return
    if arguments.against is None:
        parser.error("name the other checkout: --against PATH")
    text = report(arguments.shapes, arguments.against.resolve(), arguments.steps, options)
    print(text)
    from benchmarks.about import ROOT, write_above

    title = "# What a training step costs\n\n"
    write_above(ROOT / "benchmarks/step.md", title + text, "## ")


if __name__ == "__main__":
    main()
