"""Time to score a test set, beside mir_eval's BSS-eval.

``python -m benchmarks.scoring SPEECH`` writes ``benchmarks/scoring.md``, about four minutes on two
idle cores. SPEECH is a folder of recordings, in whatever folders. The slower ways are timed on the
first of the items, in turns with ours on the same items; ours on all of them as well.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import sfsrnet_modules  # noqa: F401  first: lets speechbrain be imported on CPU-only torch

# isort: split
import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor

from benchmarks.about import provenance, table
from sfsrnet_modules.evaluation.metrics import perceptual, score
from sfsrnet_modules.evaluation.scoring import Scoring

RATE = 8000  # Hz
SECONDS = 4
ROUNDS = 5  # of the items that all ways are timed on

REPORT = """\
# Scoring a test set

{provenance}

{items} mixtures of two speakers, {seconds} s at 8 kHz, out of {clips} recordings (seed {seed}); the
estimates are the sources with crosstalk at -20 to 0 dB and noise at -30 dB, in random order. A call
of mir_eval's `bss_eval_sources` finds the order and the SDR (SIR and SAR as well) of the estimate.
Ours finds the order, SI-SNR and SDR of the estimate, and both of the mixture for the improvement.

{speeds}

ms an item: the mean, and the least to most of {rounds} rounds in which the ways take turns; "times"
is mir_eval's time over it. That of the last row contains the start of the processes. mir_eval may
take all cores, ours (SDR by torchmetrics) takes a thread a process. **SDR differs by at most
{difference:.1e} dB** from mir_eval's over the {compared} items.

PESQ and STOI, which BSS-eval has not, take longer than all of it; ms an item, one process:
{perceptual}.
"""


class Item(NamedTuple):
    mixture: Tensor  # [T]
    sources: Tensor  # [T, C]
    estimate: Tensor  # [T, C]


def main() -> None:
    """Measure, and write the report."""
    args = parse()
    about = provenance("torchmetrics", "mir_eval", "scipy")
    torch.set_num_threads(1)  # as in the processes that score; mir_eval's numpy takes all cores
    warnings.filterwarnings("ignore", category=FutureWarning)  # mir_eval's, in every call
    clips = read_clips(args.speech)
    items = draw_items(clips, args.items, args.seed)
    few = items[: args.reference_items]
    sdr = np.array([by_mir_eval(item) for item in few])
    difference = np.abs(sdr - [score(*item)["sdr"] for item in few]).max()
    ways = {"mir_eval": by_mir_eval, "ours, this process": lambda item: score(*item)}
    seconds = in_turns(ways, few)
    whole = timed(lambda: in_processes(items, args.workers)) / len(items)
    report = REPORT.format(
        provenance=about,
        items=len(items),
        seconds=SECONDS,
        clips=len(clips),
        seed=args.seed,
        speeds=speeds(seconds, whole, len(few), len(items), args.workers),
        rounds=ROUNDS,
        difference=difference,
        compared=len(few),
        perceptual=perceptual_times(items[:20]),
    )
    args.output.write_text(report, encoding="utf-8")
    print(report)


def read_clips(folder: Path) -> list[np.ndarray]:
    """Recordings at 8 kHz that last long enough, at most 300."""
    clips = []
    files = sorted(x for x in folder.rglob("*") if x.suffix in (".flac", ".wav", ".ogg"))
    for path in files:
        waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
        clip = resample_poly(waveform[:, 0], RATE, rate)
        if len(clip) >= SECONDS * RATE:
            clips.append(clip / clip.std())
        if len(clips) == 300:
            break
    return clips


def draw_items(clips: list[np.ndarray], number: int, seed: int) -> list[Item]:
    """Mixtures of two recordings, and what a fair separator might make of them."""
    rng = np.random.default_rng(seed)
    return [_draw_item(clips, rng) for _ in range(number)]


def _draw_item(clips: list[np.ndarray], rng: np.random.Generator) -> Item:
    crops = []
    for i in rng.choice(len(clips), 2, replace=False):
        begin = rng.integers(len(clips[i]) - SECONDS * RATE + 1)
        crops.append(clips[i][begin : begin + SECONDS * RATE])
    sources = np.stack(crops, axis=1)  # [T, C]
    crosstalk = 10 ** (rng.uniform(-20, 0) / 20) * sources[:, ::-1]
    noise = 10 ** (-30 / 20) * rng.standard_normal(sources.shape)
    estimate = (sources + crosstalk + noise)[:, rng.permutation(2)]
    arrays = (sources.sum(1), sources, estimate)
    return Item(*(torch.tensor(x, dtype=torch.float32) for x in arrays))


def by_mir_eval(item: Item) -> float:
    """SDR of the estimate, mean over sources."""
    from mir_eval.separation import bss_eval_sources

    sdr, *_ = bss_eval_sources(item.sources.mT.numpy(), item.estimate.mT.numpy())
    return sdr.mean()


def in_processes(items: Iterable[Item], workers: int) -> list[dict]:
    """All of ours as a test does it."""
    scoring = Scoring(RATE, workers, measures=())
    for i, item in enumerate(items):
        scoring.add(str(i), item.mixture, item.sources, {"": item.estimate})
    return scoring.rows()


def in_turns(ways: dict[str, Callable], items: list[Item]) -> dict[str, list[float]]:
    """Seconds an item of every way in every round; a round has its share of the items."""
    seconds = {name: [] for name in ways}
    for begin in range(ROUNDS):
        some = items[begin::ROUNDS]
        for name, way in ways.items():
            seconds[name].append(timed(lambda way=way, some=some: [*map(way, some)]) / len(some))
    return seconds


def timed(function: Callable) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def speeds(
    seconds: dict[str, list[float]], whole: float, few: int, number: int, workers: int
) -> str:
    """The table: ms an item of every way, and how many times mir_eval's speed it is."""
    reference = np.mean(seconds["mir_eval"])
    rows = []
    for name, times in seconds.items():
        spread = f"{1e3 * np.mean(times):.1f} ({1e3 * min(times):.1f} to {1e3 * max(times):.1f})"
        rows.append([name, few, spread, f"{reference / np.mean(times):.1f}"])
    label = f"**ours, {workers} processes**"
    rows.append([label, number, f"{1e3 * whole:.1f}", f"**{reference / whole:.1f}**"])
    return table(["way", "items", "ms an item", "times mir_eval"], rows)


def perceptual_times(items: list[Item]) -> str:
    """Ms an item of PESQ and of STOI."""
    parts = []
    for measure in ("pesq", "stoi"):

        def run(measure: str = measure) -> list[float]:
            return [perceptual(measure, x.estimate, x.sources, RATE) for x in items]

        parts.append(f"{measure.upper()} {1e3 * timed(run) / len(items):.0f}")
    return ", ".join(parts)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Time of scoring, beside mir_eval's.")
    parser.add_argument("speech", type=Path, metavar="SPEECH")
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--reference_items", type=int, default=300, help="that mir_eval scores")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
