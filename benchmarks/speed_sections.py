"""What ``benchmarks/speed.py`` measures, a function a section of its report."""

import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import sfsrnet_modules  # noqa: F401  first: lets speechbrain be imported on CPU-only torch

# isort: split
import numpy as np
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.about import ROOT, table
from benchmarks.speed_cases import (
    BASELINES,
    CASES,
    DEVICE,
    RATE,
    STOCK,
    TRAINING,
    autocast,
    available,
    has_bfloat16,
    in_evaluation,
    interleaved,
    seconds,
    separating,
    training,
)
from sfsrnet_modules.common.hparams import read_hparams
from sfsrnet_modules.evaluation.complexity import macs_per_second
from sfsrnet_modules.evaluation.metrics import in_order, si_snrs
from sfsrnet_modules.inference.interface import DEFAULT_MODEL, SFSRNetSeparation

ROUNDS = {1: 7, 4: 5, 15: 3, 60: 1}  # of each length in seconds
MEMORY_AT = 15  # s
BATCHES = (1, 2, 4)  # of 1 s
COMPILE_LENGTHS = (1, 1.3, 2, 4)  # s, one after the other
AS_TRAINED = 20  # dB, about what the SepFormer reaches on WSJ0-2mix (paper)
TRAIN_SEGMENT, TRAIN_ROUNDS = 2, 3  # s


# --- Measuring -----------------------------------------------------------------------------------


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


def separating_section(only: str) -> dict:
    """Cost of each length, after a round that is not counted where the length is short."""
    cases, reasons = available(only)
    rates = peak_rates()
    separators = {case: separating(case) for case in cases}
    all_times = {}
    for length, rounds in ROUNDS.items():
        mixture = noise(1, length)
        if length <= 4:
            interleaved(separators, mixture, 1)
        all_times[length] = interleaved(separators, mixture, rounds)
        print(length, all_times[length], flush=True)
    # last: counting runs the models in another way, which leaves memory to reuse
    operations = {case: 2 * macs_per_second(CASES[case][0](), RATE) for case in cases}
    kind = "conv" if only == "SFSRNet" else "matrix"
    rows, curves = [], {case: {} for case in cases}
    for length, times in all_times.items():
        for case in cases:
            cost = median(times[case]) / length
            curves[case][length] = 1e3 * cost
            share = operations[case] / cost / rates[f"{kind} {CASES[case][1]}"]
            figures = f"{1e3 * cost:.0f}", f"{cost:.3f}", f"{1 / cost:.2f}", ratio(times, case)
            rows.append([case, length, *figures, f"{share:.0%}"])
    header = ["model", "s", "ms per s of audio", "real-time factor", "items/s (of 1 s)"]
    header += ["times the baseline's speed", f"share of the {kind} rate"]
    peaks = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items())
    lines = [f"Rates measured in this run, GFLOP/s: {peaks}.", "", table(header, rows)]
    return {"lines": [*lines, "", *reasons], "curves": curves}


def memory_section() -> dict:
    rows = []
    for case in available()[0]:
        rows.append([case, f"{peak_memory(case, MEMORY_AT, False) / 1e9:.2f}"])
        print(*rows[-1], sep=" | ", flush=True)
    return {"lines": [table(["model", f"peak memory at {MEMORY_AT} s, GB"], rows)]}


def ratio(times: dict[str, list], case: str) -> str:
    baseline = times.get(BASELINES.get(case, ""))
    if baseline is None:
        return ""
    return f"{median(b / t for b, t in zip(baseline, times[case], strict=True)):.2f}"


def batches_section() -> dict:
    some = {case: separating(case) for case in available("SepFormer")[0]}
    costs = {case: [case] for case in some}
    for batch in BATCHES:
        times = interleaved(some, noise(batch, 1), 3)
        for case in some:
            costs[case].append(f"{1e3 * median(times[case]) / batch:.0f}")
    header = ["ms per s of audio", *(f"batch of {size}" for size in BATCHES)]
    return {"lines": [table(header, list(costs.values()))]}


def agreement_section(data_folder: str | None) -> dict:
    """How near ours comes to SpeechBrain's output, and what bfloat16 does to separated speech."""
    some = {case: separating(case) for case in available("SepFormer")[0]}
    mixture = noise(1, 4)
    stock = some[STOCK](mixture)  # [B, T, C]
    rows = []
    for case in list(some)[1:]:
        estimate = some[case](mixture)[-1]  # [B, T, C]
        difference = 20 * ((estimate - stock).norm() / stock.norm()).log10()
        lost = 10 * (1 + 10 ** ((AS_TRAINED + difference) / 10)).log10()
        rows.append([case, f"{difference:.0f}", f"{lost:.3f}"])
    header = ["model", "difference from SpeechBrain's output, dB"]
    header += [f"what it takes from an SI-SNR of {AS_TRAINED} dB, dB"]
    return {"lines": [table(header, rows), "", bfloat16_on_speech(data_folder)]}


def bfloat16_on_speech(data_folder: str | None) -> str:
    if data_folder is None or not has_bfloat16():
        return "Trained model in bfloat16: not measured, for want of `--data_folder` or bfloat16."
    load = partial(SFSRNetSeparation.from_hparams, source=str(DEFAULT_MODEL))
    models = [load(run_opts={"precision": precision}) for precision in ("fp32", "bf16")]
    with tempfile.TemporaryDirectory() as folder:
        items = list(speech(folder, data_folder, num_test=10)["corpus"].test_set())
    moved = []
    for item in items:
        estimates = [model.separate_batch(item["mixture"][None])[0] for model in models]  # [T, C]
        ordered = torch.stack([in_order(item["sources"], e.float()) for e in estimates])
        scores = si_snrs(ordered, item["sources"]).mean(1)  # of float32, of bfloat16
        moved.append((scores[1] - scores[0]).item())
    return (
        f"The shipped model in bfloat16 on {len(items)} mixtures of speech: SI-SNR moves by "
        f"{np.mean(moved):+.4f} dB in the mean, by {np.abs(moved).max():.3f} dB at most."
    )


def compile_section() -> dict:
    """The SepFormer by ``torch.compile`` beside the same weights without, length after length."""
    case = "SepFormer 26 M"
    build, precision = CASES[case]
    compiled = in_evaluation(torch.compile(build(), dynamic=True), precision)
    ways = {"plain": separating(case), "compiled": compiled}
    rows = []
    for length in COMPILE_LENGTHS:
        mixture = noise(1, length)
        first = seconds(compiled, mixture)
        times = interleaved(ways, mixture, 5)
        cost = [f"{1e3 * median(values) / length:.0f}" for values in times.values()]
        rows.append([case, length, f"{first:.1f}", *cost])
        print(*rows[-1], sep=" | ", flush=True)
    header = ["model", "s", "first call, s", "ms per s of audio", "compiled, ms per s of audio"]
    return {"lines": [table(header, rows)]}


def training_section() -> dict:
    cases, _ = available()
    wanted = [case for case in TRAINING if case.removesuffix(", checkpointing") in cases]
    steps = {case: training(case) for case in wanted}
    sources = noise(1, TRAIN_SEGMENT, 2)
    interleaved(steps, sources, 1)
    times = interleaved(steps, sources, TRAIN_ROUNDS)
    peaks = {case: peak_memory(case, TRAIN_SEGMENT, True) for case in wanted}
    rows = []
    for case in wanted:
        cost = median(times[case])
        speed = median(a / b for a, b in zip(times[STOCK], times[case], strict=True))
        memory = f"{peaks[case] / 1e9:.2f}", f"{peaks[case] / peaks[STOCK]:.0%}"
        rows.append([case, f"{cost:.2f}", f"{1 / cost:.2f}", f"{speed:.2f}", *memory])
        print(*rows[-1], sep=" | ", flush=True)
    header = ["model", "s a step", "items/s", "times the stock's speed"]
    header += ["peak memory, GB", "of the stock's"]
    return {"lines": [f"Segments of {TRAIN_SEGMENT} s, batch of 1.", "", table(header, rows)]}


def loader_section(data_folder: str | None) -> dict:
    """Items a second of dynamic mixing, and the share of the time that training waits for it."""
    step = training("SepFormer 26 M")
    with tempfile.TemporaryDirectory() as folder:
        params = speech(folder, data_folder or write_voices(Path(folder) / "voices"))
        dataset = params["corpus"].train_set()
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
    source = "the packed --data_folder" if data_folder else "packed made-up files"
    line = (
        f"One worker, {source}: {speed:.0f} items/s of {TRAIN_SEGMENT} s; waiting for it takes "
        f"{share:.2%} of the training of the SepFormer. `train.py` logs both in every epoch "
        "(`items_per_second`, `data_wait`)."
    )
    return {"lines": [line]}


def speech(folder: str, data_folder: str | Path, num_test: int = 1) -> dict:
    """The configuration of the SepFormer, its data prepared in `folder`."""
    overrides = {"data_folder": str(data_folder), "output_folder": folder, "num_valid": 1}
    overrides |= {"segment": TRAIN_SEGMENT, "num_test": num_test}
    params = load_hyperpyyaml(read_hparams(ROOT / "hparams/sepformer.yaml"), overrides)
    params["corpus"].prepare()
    return params


def write_voices(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for speaker in range(12):
        (folder / f"speaker{speaker}").mkdir(parents=True)
        for i in range(3):
            voice = 0.1 * rng.standard_normal(10 * RATE)
            soundfile.write(folder / f"speaker{speaker}" / f"{i}.flac", voice, RATE)
    return folder
