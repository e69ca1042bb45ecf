"""Cost of separating and of training, SpeechBrain's own code and ours side by side.

``python -m benchmarks.speed`` writes ``benchmarks/speed.md`` and ``speed.png``, about 12 minutes on
two idle cores; a GPU is used where there is one. ``--section NAME`` measures one section alone and
keeps the others as they were measured last. All models have random weights, stock and ours the
same. Rounds are interleaved, figures are medians, ratios are medians of each round's ratio. Peak
memory is that of a process of its own. Asteroid is compared where it is installed.
"""

import argparse
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from statistics import median

import sfsrnet_modules  # noqa: F401  first: lets speechbrain be imported on CPU-only torch

# isort: split
import matplotlib
import numpy as np
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models.dual_path import SepformerWrapper
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sfsrnet_modules.complexity import macs_per_second
from sfsrnet_modules.inference import cpu_has_bfloat16

ROOT = Path(__file__).resolve().parent.parent
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RATE = 8000  # Hz
ROUNDS = {1: 5, 4: 3, 15: 1}  # of each length in seconds
LONGEST = 60  # s, for the SepFormers alone
MEMORY_AT = 15  # s
BATCHES = (1, 2, 4)  # of 1 s
TRAIN_SEGMENT, TRAIN_ROUNDS = 2, 3  # s
MEASURED = ROOT / "results/speed"  # what each section gave last


# --- Models --------------------------------------------------------------------------------------


@cache
def hparams(name: str) -> dict:
    with open(ROOT / f"hparams/{name}.yaml", encoding="utf-8") as file:
        return load_hyperpyyaml(file, "data_folder: /nowhere")


def ours(name: str) -> nn.Module:
    return hparams(name)["model"]


def alone(name: str) -> nn.Module:
    """The separator of a configuration without super-resolution."""
    return hparams(name)["separator"]


def stock_sepformer() -> nn.Module:
    """What SpeechBrain's ``SepformerSeparation`` runs, with the weights of ours."""
    stock = SepformerWrapper()
    stock.load_state_dict(ours("sepformer").separator.state_dict())
    for module in stock.modules():  # its recipe trains without dropout, as ours
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return stock


def asteroid(name: str) -> nn.Module:
    import asteroid.models

    sizes = {"DPRNNTasNet": {"bn_chan": 64, "chunk_size": 200}, "ConvTasNet": {}}
    return getattr(asteroid.models, name)(n_src=2, sample_rate=RATE, **sizes[name])


STOCK = "SepFormer 26 M, SpeechBrain"
CASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    STOCK: (stock_sepformer, "fp32"),
    "SepFormer 26 M": (partial(ours, "sepformer"), "fp32"),
    "SepFormer 26 M, bf16": (partial(ours, "sepformer"), "bf16"),
    "SFSRNet 59 M": (partial(ours, "sfsrnet"), "fp32"),
    "SFSRNet 59 M, bf16": (partial(ours, "sfsrnet"), "bf16"),
    "DPRNN, Asteroid": (partial(asteroid, "DPRNNTasNet"), "fp32"),
    "DPRNN": (partial(alone, "dprnn"), "fp32"),
    "Conv-TasNet, Asteroid": (partial(asteroid, "ConvTasNet"), "fp32"),
    "Conv-TasNet": (partial(alone, "convtasnet"), "fp32"),
}
BASELINES = {
    "SepFormer 26 M": STOCK,
    "SepFormer 26 M, bf16": STOCK,
    "DPRNN": "DPRNN, Asteroid",
    "Conv-TasNet": "Conv-TasNet, Asteroid",
}
TRAINING = {  # case: checkpointing
    STOCK: False,
    "SepFormer 26 M": False,
    "SepFormer 26 M, checkpointing": True,
    "SepFormer 26 M, bf16": False,
}


def has_bfloat16() -> bool:
    return cpu_has_bfloat16() if DEVICE == "cpu" else torch.cuda.is_bf16_supported()


def available() -> tuple[list[str], list[str]]:
    """The cases that can be measured here, and why the others cannot."""
    cases, reasons = [], []
    for case, (_, precision) in CASES.items():
        if "Asteroid" in case:
            try:
                import asteroid.models  # noqa: F401
            except Exception as error:
                reasons.append(f"{case}: not measured, `import asteroid` fails ({error}).")
                continue
        if precision == "bf16" and not has_bfloat16():
            reasons.append(f"{case}: not measured, the processor has no bfloat16.")
            continue
        cases.append(case)
    return cases, reasons


def autocast(precision: str):
    return torch.autocast(DEVICE, torch.bfloat16) if precision == "bf16" else nullcontext()


def separating(case: str) -> Callable[[Tensor], Tensor]:
    build, precision = CASES[case]
    model = build().to(DEVICE).eval()

    @torch.inference_mode()
    def separate(mixture: Tensor) -> Tensor:
        with autocast(precision):
            return model(mixture)

    return separate


def training(case: str) -> Callable[[Tensor], None]:
    """A whole step on sources [B, T, C]: forward, loss, backward, clipping, Adam."""
    build, precision = CASES[case.removesuffix(", checkpointing")]
    model = build().to(DEVICE).train()
    optimizer = hparams("sepformer")["opt_class"](model.parameters())
    loss = hparams("sepformer")["loss"]

    def step(sources: Tensor) -> None:
        if hasattr(model, "separator"):
            model.separator.checkpointing = TRAINING[case]
        with autocast(precision):
            estimates = model(sources.sum(2))
            estimates = estimates if estimates.dim() == 4 else estimates[None]  # [E, B, T, C]
            total, _ = loss(estimates, sources, None, False)
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


# --- Measuring -----------------------------------------------------------------------------------


def seconds(function: Callable, *inputs) -> float:
    begin = time.perf_counter()
    function(*inputs)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def interleaved(functions: dict[str, Callable], value: Tensor, rounds: int) -> dict[str, list]:
    """Seconds of every function in every round."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(seconds(function, value))
    return times


def peak_rates() -> dict[str, float]:
    """FLOP/s of large matrix products and of the 3x3 convolution of SFSRNet's layers."""
    size = 2048 if DEVICE == "cpu" else 8192
    matrix = torch.randn(size, size, device=DEVICE)
    grid = torch.randn(1, 512, 160, 50, device=DEVICE)
    grid = grid.contiguous(memory_format=torch.channels_last)
    conv = nn.Conv2d(512, 256, 3, padding=1, device=DEVICE)
    flops = {"matrix": 2 * size**3, "conv": 2 * 160 * 50 * 512 * 256 * 9}
    runs = {"matrix": lambda: matrix @ matrix, "conv": lambda: conv(grid)}
    rates = {}
    for precision in ("fp32", "bf16"):
        if precision == "bf16" and not has_bfloat16():
            continue
        with torch.inference_mode(), autocast(precision):
            for name, run in runs.items():
                run()
                rates[f"{name} {precision}"] = flops[name] / min(seconds(run) for _ in range(9))
    return rates


def peak_memory(case: str, length: int, train: bool) -> float:
    """Bytes that a process of its own needs at most, above what Python and the libraries take."""
    command = [sys.executable, "-m", "benchmarks.speed", "--peak", case, str(length)]
    command += ["--train"] if train else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_peak(case: str, length: int, train: bool) -> None:
    before = process_memory("VmRSS")
    torch.manual_seed(0)
    if train:
        step, sources = training(case), noise(1, length, 2)
        for _ in range(2):  # the optimizer's state comes with the first
            step(sources)
    else:
        separating(case)(noise(1, length))
    on_gpu = DEVICE == "cuda"
    print(torch.cuda.max_memory_allocated() if on_gpu else process_memory("VmHWM") - before)


def process_memory(key: str) -> int:
    """Bytes held now ("VmRSS") or at most so far ("VmHWM"; a child's rusage knows its parent's)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(rf"{key}:\s*(\d+) kB", status).group(1))


def noise(batch: int, length: float, *more: int) -> Tensor:
    return 0.1 * torch.randn(batch, round(length * RATE), *more, device=DEVICE)


# --- Sections of the report ----------------------------------------------------------------------
# each returns lines of the report, and with a "curve" also {case: {length: ms per s of audio}}


def separating_section(lengths: dict[int, int], only: str = "") -> dict:
    """Cost of each length, after a round that is not counted where the length is short."""
    cases, reasons = available()
    cases = [case for case in cases if only in case]
    rates = peak_rates()
    separators = {case: separating(case) for case in cases}
    operations = {case: 2 * macs_per_second(CASES[case][0](), RATE) for case in cases}
    rows, curves = [], {case: {} for case in cases}
    for length, rounds in lengths.items():
        mixture = noise(1, length)
        if length <= 4:
            interleaved(separators, mixture, 1)
        times = interleaved(separators, mixture, rounds)
        for case in cases:
            cost = median(times[case]) / length
            curves[case][length] = 1e3 * cost
            kind = "conv" if "SFSRNet" in case else "matrix"
            share = operations[case] / cost / rates[f"{kind} {CASES[case][1]}"]
            rows.append(
                f"| {case} | {length} | {1e3 * cost:.0f} | {cost:.3f} | {1 / cost:.2f} "
                f"| {ratio(times, case)} | {share:.0%} |"
            )
            print(rows[-1], flush=True)
    peaks = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items())
    header = [
        f"Measured peak rates, GFLOP/s: {peaks}. SFSRNet's share is that of the convolution, the "
        "others' that of the matrix product.",
        "",
        "| model | s | ms per s of audio | real-time factor | items/s (of 1 s) "
        "| times the baseline's speed | share of the peak rate |",
        "|---|---|---|---|---|---|---|",
    ]
    return {"lines": header + rows + ["", *reasons], "curves": curves}


def memory_section() -> dict:
    rows = [f"| model | peak memory at {MEMORY_AT} s, GB |", "|---|---|"]
    for case in available()[0]:
        rows.append(f"| {case} | {peak_memory(case, MEMORY_AT, False) / 1e9:.2f} |")
        print(rows[-1], flush=True)
    return {"lines": rows}


def ratio(times: dict[str, list], case: str) -> str:
    baseline = times.get(BASELINES.get(case, ""))
    if baseline is None:
        return ""
    return f"{median(b / t for b, t in zip(baseline, times[case], strict=True)):.2f}"


def batches_section() -> dict:
    """Cost with the batch, and how near ours comes to the stock output."""
    some = {case: separating(case) for case in available()[0] if "SepFormer" in case}
    rows = [f"| ms per s of audio | {' | '.join(f'batch of {b}' for b in BATCHES)} |"]
    rows.append("|---|" + "---|" * len(BATCHES))
    costs = {case: [] for case in some}
    for batch in BATCHES:
        times = interleaved(some, noise(batch, 1), 3)
        for case in some:
            costs[case].append(f"{1e3 * median(times[case]) / batch:.0f}")
    rows += [f"| {case} | {' | '.join(costs[case])} |" for case in some]
    rows += ["", "| model | its difference from SpeechBrain's output, dB |", "|---|---|"]
    mixture = noise(1, 4)
    stock = some[STOCK](mixture)
    for case in list(some)[1:]:
        error = some[case](mixture)[-1] - stock
        rows.append(f"| {case} | {20 * (error.norm() / stock.norm()).log10():.0f} |")
    return {"lines": rows}


def training_section() -> dict:
    cases, _ = available()
    wanted = [case for case in TRAINING if case.removesuffix(", checkpointing") in cases]
    steps = {case: training(case) for case in wanted}
    sources = noise(1, TRAIN_SEGMENT, 2)
    interleaved(steps, sources, 1)
    times = interleaved(steps, sources, TRAIN_ROUNDS)
    peaks = {case: peak_memory(case, TRAIN_SEGMENT, True) for case in wanted}
    rows = [
        "| model | s a step | items/s | times the stock's speed | peak memory, GB | of the stock's "
        "|",
        "|---|---|---|---|---|---|",
    ]
    for case in wanted:
        speed = median(a / b for a, b in zip(times[STOCK], times[case], strict=True))
        rows.append(
            f"| {case} | {median(times[case]):.2f} | {1 / median(times[case]):.2f} | {speed:.2f} "
            f"| {peaks[case] / 1e9:.2f} | {peaks[case] / peaks[STOCK]:.0%} |"
        )
        print(rows[-1], flush=True)
    return {"lines": [f"Segments of {TRAIN_SEGMENT} s, batch of 1.", "", *rows]}


def loader_section(data_folder: str | None) -> dict:
    """Items a second of dynamic mixing, and the share of the time that training waits for it."""
    step = training("SepFormer 26 M")
    with tempfile.TemporaryDirectory() as folder:
        data = data_folder or write_voices(Path(folder) / "voices")
        overrides = {"data_folder": str(data), "output_folder": folder, "segment": TRAIN_SEGMENT}
        with open(ROOT / "hparams/sepformer.yaml", encoding="utf-8") as file:
            params = load_hyperpyyaml(file, overrides | {"num_valid": 1, "num_test": 1})
        params["prepare"]()
        dataset = params["train_set"]()
        options = params["train_loader"] | {"batch_size": 1, "num_workers": 1}
        batches = iter(DataLoader(dataset, **options))
        next(batches)  # the worker's start is not the loader's speed
        begin = time.perf_counter()
        for _ in range(100):
            next(batches)
        speed = 100 / (time.perf_counter() - begin)
        waited, begin = 0.0, time.perf_counter()
        for _ in range(4):
            fetching = time.perf_counter()
            sources = next(batches).sources.data.to(DEVICE)
            waited += time.perf_counter() - fetching
            step(sources)
        share = waited / (time.perf_counter() - begin)
    source = "files of --data_folder" if data_folder else "made-up files"
    line = (
        f"One worker, {source}: {speed:.0f} items/s of {TRAIN_SEGMENT} s; waiting for it takes "
        f"{share:.2%} of the training of the SepFormer. `train.py` logs both in every epoch "
        "(`items_per_second`, `data_wait`)."
    )
    return {"lines": [line]}


def write_voices(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for speaker in range(12):
        (folder / f"speaker{speaker}").mkdir(parents=True)
        for i in range(3):
            voice = 0.1 * rng.standard_normal(10 * RATE)
            soundfile.write(folder / f"speaker{speaker}" / f"{i}.flac", voice, RATE)
    return folder


# --- The report ----------------------------------------------------------------------------------


def measure(name: str, section: Callable[[], dict]) -> None:
    """Run a section and keep what it gave, with the circumstances."""
    about, load, begin = machine(), os.getloadavg()[0], time.perf_counter()
    torch.manual_seed(0)
    measured = section()
    gc.collect()
    minutes = (time.perf_counter() - begin) / 60
    measured["about"] = f"{about}, load of the machine before {load:.1f}, {minutes:.1f} minutes"
    MEASURED.mkdir(parents=True, exist_ok=True)
    (MEASURED / f"{name}.json").write_text(json.dumps(measured, indent=1), encoding="utf-8")


def machine() -> str:
    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = next((line.split(":")[1].strip() for line in file if "model name" in line), "CPU")
    on_gpu = DEVICE == "cuda"
    gpu = torch.cuda.get_device_name() if on_gpu else "no GPU: its figures are not measured"
    changed = " with changes" if git("status", "--porcelain", "-uno") else ""
    return (
        f"commit {git('rev-parse', '--short', 'HEAD')}{changed}, PyTorch {torch.__version__}, "
        f"{torch.get_num_threads()} threads on {cpu}, {gpu}"
    )


def report(titles: dict[str, str]) -> None:
    """Write the table and the plot from what every section gave last."""
    lines = ["# Speed", "", INTRODUCTION, ""]
    curves = {}
    for name, title in titles.items():
        path = MEASURED / f"{name}.json"
        lines += [f"## {title}", ""]
        if not path.is_file():
            lines += [f"Not measured: `python -m benchmarks.speed --section {name}`.", ""]
            continue
        measured = json.loads(path.read_text(encoding="utf-8"))
        command = f"`python -m benchmarks.speed --section {name}`"
        lines += [*measured["lines"], "", f"{command}, {measured['about']}.", ""]
        for case, costs in measured.get("curves", {}).items():
            curves.setdefault(case, {}).update({int(s): cost for s, cost in costs.items()})
    if curves:
        lines += ["![cost over length](speed.png)"]
        plot(curves, ROOT / "benchmarks/speed.png")
    (ROOT / "benchmarks/speed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def plot(curves: dict, path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for case, costs in curves.items():
        axes.plot(list(costs), list(costs.values()), marker="o", label=case)
    axes.set(xscale="log", yscale="log", xlabel="recording, s", ylabel="ms per s of audio")
    axes.set_xticks([*ROUNDS, LONGEST], [str(length) for length in [*ROUNDS, LONGEST]])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120)


INTRODUCTION = (
    "SpeechBrain's and Asteroid's code beside ours, in one process with all rounds interleaved. "
    "Random weights (seed 0), stock and ours the same; batch of 1 unless said, 8 kHz."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--section", choices=SECTIONS, help="measure this one alone")
    parser.add_argument("--data_folder", help="speech for the loader: a folder a speaker")
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "SECONDS"), help=argparse.SUPPRESS)
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak[0], int(args.peak[1]), args.train)
        return
    for name in [args.section] if args.section else SECTIONS:
        function = SECTIONS[name][1]
        measure(name, partial(function, args.data_folder) if name == "loader" else function)
    report({name: title for name, (title, _) in SECTIONS.items()})


SECTIONS: dict[str, tuple[str, Callable]] = {
    "separating": ("Separating", partial(separating_section, ROUNDS)),
    "long": (f"Separating {LONGEST} s", partial(separating_section, {LONGEST: 1}, "SepFormer")),
    "memory": ("Memory of separating", memory_section),
    "batches": ("Batches, and agreement with SpeechBrain", batches_section),
    "training": ("Training", training_section),
    "loader": ("The loader", loader_section),
}


if __name__ == "__main__":
    main()
