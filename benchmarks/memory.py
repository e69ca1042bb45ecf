"""Peak memory over the length of a recording: ours beside SpeechBrain's own interface.

``python -m benchmarks.memory``. Both load the very same folder, a small SepFormer as SpeechBrain
publishes them, and separate the same files, each in a process of its own. For Linux.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from matplotlib import pyplot as plt

import sfsrnet_modules  # noqa: F401  before speechbrain

# isort: split
from speechbrain.inference.separation import SepformerSeparation

from benchmarks.about import commit, processor
from sfsrnet_modules.evaluation.complexity import count_parameters
from sfsrnet_modules.inference.interface import DEFAULT_MODEL, SFSRNetSeparation

RATE = 8000  # Hz
LENGTHS = {"10 s": 10, "1 min": 60, "10 min": 600, "1 h": 3600}
LONG = {"2 h, 8 kHz": (RATE, 1), "2 h, 44.1 kHz, stereo": (44100, 2)}
LIMIT = 16  # GB of address space that SpeechBrain's process gets, beyond what it takes at the start

SEPFORMER = """
sample_rate: 8000
num_spks: 2
Encoder: !new:speechbrain.lobes.models.dual_path.Encoder
    kernel_size: 32
    out_channels: 32
transformer: !new:speechbrain.lobes.models.dual_path.SBTransformerBlock
    num_layers: 1
    d_model: 32
    nhead: 2
    d_ffn: 64
    use_positional_encoding: True
    norm_before: True
MaskNet: !new:speechbrain.lobes.models.dual_path.Dual_Path_Model
    num_spks: !ref <num_spks>
    in_channels: 32
    out_channels: 32
    num_layers: 1
    K: 250
    intra_model: !ref <transformer>
    inter_model: !copy <transformer>
    norm: ln
    linear_layer_after_inter_intra: False
    skip_around_intra: True
Decoder: !new:speechbrain.lobes.models.dual_path.Decoder
    in_channels: 32
    out_channels: 1
    kernel_size: 32
    stride: 16
    bias: False
modules:
    encoder: !ref <Encoder>
    decoder: !ref <Decoder>
    masknet: !ref <MaskNet>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        encoder: !ref <Encoder>
        masknet: !ref <MaskNet>
        decoder: !ref <Decoder>
"""

REPORT = """# Memory over the length of a recording

`python -m benchmarks.memory`, commit {commit}, {cores} cores of {cpu}, Python {python}, torch
{torch}, speechbrain {speechbrain}, {threads} threads, load average {load} before.

The same folder, a small SepFormer in the layout that SpeechBrain publishes ({parameters:.3f} M
parameters, one block of 1 + 1 layers, 32 channels, stride 16, chunks of 250), loaded by both
interfaces; the same files, noise at 8 kHz. Each cell is a process of its own. Memory is its peak
resident set, libraries included (a process that only loads the model: {base_stock} and {base_ours}
MB). Ours writes the voices to files (`separate_long`), SpeechBrain's `separate_file` returns them.
Its process may take {limit} GB of address space.

| recording | SpeechBrain (MB) | ours (MB) | SpeechBrain (s) | ours (s) |
| --- | --- | --- | --- | --- |
{compared}

![peak memory](memory.png)

Ours, a model with SR ({small:.2f} M parameters), segments of 16 s:

| recording | memory (MB) | time (s) | real-time factor |
| --- | --- | --- | --- |
{long}
"""


def main() -> None:
    """Measure all and write ``memory.md`` and ``memory.png`` beside this file."""
    parser = argparse.ArgumentParser(description="Measure peak memory.")
    parser.add_argument("--model", default=str(DEFAULT_MODEL), help="for the two-hour recordings")
    parser.add_argument("--one", nargs=3, metavar=("WHO", "MODEL", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one)))
        return
    load = f"{os.getloadavg()[0]:.1f}"
    with tempfile.TemporaryDirectory() as folder:
        sepformer = write_sepformer(Path(folder) / "sepformer")
        rows = {name: compare(Path(folder), sepformer, n) for name, n in LENGTHS.items()}
        base = {who: in_process(who, sepformer, "-") for who in ("stock", "ours")}
        long = {name: last(Path(folder), args.model, *kind) for name, kind in LONG.items()}
        write_report(rows, base, long, load, sepformer, args.model)


def write_sepformer(folder: Path) -> Path:
    """Write a SepFormer in the layout of SpeechBrain's published folders."""
    folder.mkdir()
    (folder / "hyperparams.yaml").write_text(SEPFORMER)
    torch.manual_seed(0)
    for name, module in load_hyperpyyaml(SEPFORMER)["modules"].items():
        torch.save(module.state_dict(), folder / f"{name}.ckpt")
    return folder


def write_noise(path: Path, seconds: int, rate: int, channels: int) -> Path:
    """Write noise, second by second."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", rate, channels) as file:
        for _ in range(seconds):
            file.write(0.1 * rng.standard_normal((rate, channels), np.float32))
    return path


def compare(folder: Path, model: Path, seconds: int) -> dict[str, dict]:
    """Separate one file by both interfaces."""
    path = write_noise(folder / "noise.wav", seconds, RATE, 1)
    return {who: in_process(who, model, path) for who in ("stock", "ours")}


def last(folder: Path, model: str, rate: int, channels: int) -> dict:
    """Separate two hours."""
    return in_process("ours", model, write_noise(folder / "noise.wav", 7200, rate, channels))


def in_process(who: str, model: str | Path, path: str | Path) -> dict:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--one", who, str(model), str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    print(who, path, lines[-1:] or done.returncode, file=sys.stderr, flush=True)
    if done.returncode == 0:
        return json.loads(lines[-1])
    reasons = done.stderr.strip().splitlines() or [f"signal {-done.returncode}"]
    return {"error": reasons[-1]}


def measure(who: str, model: str, path: str) -> dict:
    """Separate a file in this process; "-" only loads the model."""
    kind = SFSRNetSeparation if who == "ours" else SepformerSeparation
    separator = kind.from_hparams(model, run_opts={"device": "cpu"})
    started = time.monotonic()
    if path != "-" and who == "ours":
        with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
            separator.separate_long(path, folder)
    elif path != "-":
        _limit()
        separator.separate_file(path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # MB
    return {"MB": round(peak), "s": round(time.monotonic() - started, 1)}


def _limit() -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = taken + LIMIT * 10**9
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def write_report(
    rows: dict, base: dict, long: dict, load: str, sepformer: Path, model: str
) -> None:
    """Write the tables and draw the curve."""
    report = REPORT.format(
        commit=commit(),
        cores=os.cpu_count(),
        cpu=processor(),
        python=sys.version.split()[0],
        torch=torch.__version__,
        speechbrain=version("speechbrain"),
        threads=torch.get_num_threads(),
        load=load,
        parameters=_parameters(sepformer) / 1e6,
        small=_parameters(model) / 1e6,
        base_stock=base["stock"]["MB"],
        base_ours=base["ours"]["MB"],
        limit=LIMIT,
        compared="\n".join(_row(name, row) for name, row in rows.items()),
        long="\n".join(
            f"| {name} | {x['MB']} | {x['s']} | {x['s'] / 7200:.3f} |" for name, x in long.items()
        ),
    )
    here = Path(__file__)
    here.with_suffix(".md").write_text(report)
    draw(rows, here.with_suffix(".png"))


def _parameters(model: str | Path) -> int:
    return count_parameters(SFSRNetSeparation.from_hparams(model, freeze_params=False))


def _row(name: str, row: dict) -> str:
    cells = [row[who].get(key) for key in ("MB", "s") for who in ("stock", "ours")]
    if cells[0] is None:
        cells[0], cells[2] = f"fails: {row['stock']['error'][:120]}", "-"
    return f"| {name} | " + " | ".join(map(str, cells)) + " |"


def draw(rows: dict, path: Path) -> None:
    """Draw peak memory over the length; a cross where the process failed."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for who, label in (("stock", "SpeechBrain"), ("ours", "ours")):
        points = [(LENGTHS[name], row[who]["MB"]) for name, row in rows.items() if "MB" in row[who]]
        axis.loglog(*zip(*points, strict=True), "o-", label=label)
        for name, row in rows.items():
            if "error" in row[who]:
                axis.loglog(LENGTHS[name], LIMIT * 1000, "x", color="black")
    axis.set(xlabel="length of the recording (s)", ylabel="peak memory (MB); cross: fails")
    axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
