"""Dynamic mixing against SpeechBrain's: mixtures a second, and memory over a long epoch.

``python -m benchmarks.dynamic_mixing SPEECH --speechbrain CHECKOUT``, where SPEECH has a folder a
speaker, such as LibriSpeech's ``train-clean-100``. SpeechBrain's mixers belong to its recipes, not
to its package: they are imported from a checkout, without one their figures stay empty. For Linux.
"""

import argparse
import importlib.util
import io
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.about import facts, table
from data_prep.corpora.folder import find_audio
from data_prep.mixing.dynamic import DynamicMixing
from data_prep.mixing.noise import Noise
from data_prep.mixing.pool import Pool
from data_prep.scan.scan import scan, usable
from sfsrnet_modules.common.crops import read_audio

# isort: split
from speechbrain.dataio.batch import PaddedBatch

RATE, SEGMENT = 8000, 4.0  # Hz and s, as in training
MAX_SPEAKERS, NUM_NOISES, NOISE_LENGTH = 200, 20, 12.0  # s
NOISE = "wham/wav8k/min/tr/noise"  # where SpeechBrain's recipes look for it
RECIPES = {  # by measure of the levels: recipe of SpeechBrain, and its function
    "lufs": ("LibriMix", "dynamic_mix_data_prep_librimix"),
    "rms": ("WSJ0Mix", "dynamic_mix_data_prep"),
}
ROUNDS, SECONDS, STARTS = 9, 0.5, 5
EPOCH, LOADED, SAMPLES = 20_000, 1500, (1000, 5000, 10_000, 20_000)  # items

REPORT = """# Dynamic mixing: throughput and memory

`python -m benchmarks.dynamic_mixing SPEECH --speechbrain CHECKOUT --seed {seed}`, commit {commit},
{cores} cores of {cpu}, Python {python}, torch {torch}, speechbrain {speechbrain}; one thread a
process, {minutes:.1f} minutes in all, load average {load} before. SpeechBrain's
mixers, as git blobs: {recipes}.

Mixtures of two speakers, 4 s at 8 kHz. SPEECH is `{speech}`: one file a speaker of 200 at most, as
it is and as 8 kHz wav. 20 recordings of white noise, 12 s each. Scanning all into pools, which is
done once, took {scan:.1f} s.

## One process

Mixtures a second of CPU time: median (least to most) of {rounds} rounds in which all mixers take
turns; "times" is the median of the rounds' ratios. Both sides read the same wav files from the page
cache, and measure levels alike: loudness (LibriMix) or amplitude (WSJ0Mix). "Start" is the time to
the first item, in ms: SpeechBrain finds the files and reads its list of the epoch, ours the pool.

{compared}

## Workers

Ours, LibriMix, clean: mixtures a second from a DataLoader, batches of one by `PaddedBatch`.

{loaded}

## Memory

Ours, LibriMix, noise, in an epoch of 20,000: of the main process and of each worker. Pages that
processes share count in the RSS of each, and are split among them in the PSS.

{used}
"""


def main() -> None:
    """Measure everything and write the report."""
    args = _parse()
    torch.set_num_threads(1)  # as in a worker
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mixing-") as folder:
        corpus = Path(folder)
        facts = _machine(args.speechbrain)
        facts["scan"] = make_corpus(args.speech, corpus, args.seed)
        facts["used"] = memory(ours(corpus, args.seed, noisy=True))  # before others need memory
        facts["compared"] = compare(corpus, args.speechbrain, args.seed)
        facts["loaded"] = by_workers(ours(corpus, args.seed))
    facts |= {"seed": args.seed, "speech": args.speech.name, "rounds": ROUNDS}
    minutes = (time.perf_counter() - begin) / 60
    args.output.write_text(REPORT.format(**facts, minutes=minutes))
    print(args.output.read_text())


def make_corpus(speech: Path, corpus: Path, seed: int) -> float:
    """Link the speech, write it as 8 kHz wav, write noise; scan all into pools, timed (s)."""
    (corpus / "original").symlink_to(speech.resolve())
    first = {name.split("/")[0]: name for name in reversed(find_audio(speech, "SPEECH"))}
    names = {"original": sorted(first.values())[:MAX_SPEAKERS]}
    files = {  # WSJ0Mix takes three letters of a file for its speaker, LibriMix the first folder
        f"wav/{i:03d}/0/{i:03d}.wav": read_audio(speech / name, RATE)
        for i, name in enumerate(names["original"])
    }
    rng, num_samples = np.random.default_rng(seed), round(NOISE_LENGTH * RATE)
    files |= {f"{NOISE}/{i}.wav": 0.05 * rng.normal(size=num_samples) for i in range(NUM_NOISES)}
    for name, audio in files.items():
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(corpus / name, audio, RATE, subtype="PCM_16")
    rows = "".join(f"{i},{SEGMENT},none\n" for i in range(EPOCH))  # SpeechBrain's epoch
    (corpus / "epoch.csv").write_text("ID,duration,mix_wav\n" + rows)
    names |= {part: find_audio(corpus / part, part) for part in ("wav", NOISE)}
    return _seconds(
        lambda: [_scan(corpus, *part, measure) for part in names.items() for measure in RECIPES]
    )


def ours(
    corpus: Path, seed: int, part: str = "wav", measure: str = "lufs", noisy=False, **options
) -> DynamicMixing:
    """Our mixer."""
    if noisy:
        recordings = Pool(_pool(corpus, NOISE, measure), RATE, noise_root=corpus / NOISE)
        options |= {"noise": Noise(RATE, recordings=recordings)}
    pool, root = _pool(corpus, part, measure), corpus / part
    return DynamicMixing(pool, root, EPOCH, SEGMENT, RATE, seed=seed, **options)


def speechbrains(corpus: Path, checkout: Path, measure: str, noisy: bool) -> Dataset:
    """SpeechBrain's mixer, as its recipe makes it."""
    name, function = RECIPES[measure]
    spec = importlib.util.spec_from_file_location(f"{name}_mixing", _recipe(checkout, name))
    # Known by its name as after any import: else SpeechBrain's lazy imports look for it in every
    # item, which takes longer than the mixing.
    sys.modules[spec.name] = recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    hparams = {
        "train_data": str(corpus / "epoch.csv"),
        "data_folder": str(corpus / ("wham" if noisy else "clean")),
        "base_folder_dm": str(corpus / "wav"),
        "use_wham_noise": noisy,
        "sample_rate": RATE,
        "num_spks": 2,
        "training_signal_len": round(SEGMENT * RATE),
        "dataloader_opts": {"batch_size": 1, "num_workers": 0},
    }
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # its progress bar
        return getattr(recipe, function)(hparams).dataset


def compare(corpus: Path, checkout: Path | None, seed: int) -> str:
    """Time mixers in one process, all in turn in every round, and their start."""
    np.random.seed(seed)  # noqa: NPY002  what SpeechBrain's recipes draw by
    random.seed(seed)
    cases = [(measure, noisy) for measure in RECIPES for noisy in (False, True)]
    make = {}
    for case in cases:
        if checkout is not None:
            make[("theirs", *case)] = partial(speechbrains, corpus, checkout, *case)
        for part in ("wav", "original"):
            make[(part, *case)] = partial(ours, corpus, seed, part, *case)
    make["speed"] = partial(ours, corpus, seed, speed=(0.95, 1.05))
    starts = {key: 1000 * np.median([_seconds(make[key]) for _ in range(STARTS)]) for key in make}
    mixers = {key: make[key]() for key in make}
    rounds = [{key: _rate(mixers[key]) for key in make} for _ in range(ROUNDS)]
    rates = {key: [measured[key] for measured in rounds] for key in make}
    rows = []
    for measure, noisy in cases:
        theirs, wav, original = ((name, measure, noisy) for name in ("theirs", "wav", "original"))
        start = [f"{starts[key]:.0f}" if key in starts else "" for key in (theirs, wav)]
        row = [
            f"{RECIPES[measure][0]}, {'noise' if noisy else 'clean'}",
            _spread(rates.get(theirs)),
        ]
        for key in (wav, original):
            row += [_spread(rates[key]), _times(rates[key], rates.get(theirs))]
        rows.append(row + start)
    rows.append(["LibriMix, clean, speed perturbed", "", _spread(rates["speed"]), *[""] * 5])
    return table(
        "levels|SpeechBrain|ours|times|ours, files as they are|times|start|ours".split("|"), rows
    )


def by_workers(mixer: DynamicMixing) -> str:
    """Time what arrives from a DataLoader, in three rounds."""
    rates = {workers: [] for workers in (0, 1, 2)}
    for _ in range(3):
        for workers in rates:
            batches = iter(_loader(mixer, workers))
            _take(batches, 100)  # until the workers have started
            rates[workers].append(LOADED / _seconds(partial(_take, batches, LOADED)))
            del batches
    return table(["workers", "mixtures a second"], [[key, _spread(rates[key])] for key in rates])


def memory(mixer: DynamicMixing) -> str:
    """Memory and open files of all processes over an epoch, without and with workers."""
    rows = []
    for workers in (0, 2):
        for count, _ in enumerate(_loader(mixer, workers), 1):
            if count in SAMPLES:
                pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
                usage = zip(*map(_usage, pids), strict=True)
                rows.append([workers, count, *(", ".join(map(str, cells)) for cells in usage)])
    return table(["workers", "mixtures", "RSS (MB)", "PSS (MB)", "open files"], rows)


def _pool(corpus: Path, part: str, measure: str) -> Path:
    return corpus / f"{part.replace('/', '-')}-{measure}.csv"


def _scan(corpus: Path, part: str, names: list[str], measure: str) -> None:
    # Noise knows no speakers: each recording is its own.
    of_part = (str, measure, "noise_root") if part == NOISE else (os.path.dirname, measure)
    usable(scan(corpus / part, names, RATE, *of_part)).to_csv(_pool(corpus, part, measure))


def _recipe(checkout: Path, name: str) -> Path:
    return checkout / "recipes" / name / "separation" / "dynamic_mixing.py"


def _loader(mixer: DynamicMixing, workers: int) -> DataLoader:
    return DataLoader(mixer, batch_size=1, num_workers=workers, collate_fn=PaddedBatch)


def _take(batches, number: int) -> None:
    for _ in range(number):
        next(batches)


def _rate(mixer: Dataset) -> float:
    """Items a second of CPU time, which other processes of the machine disturb least."""
    count, begin = 0, time.process_time()
    while (seconds := time.process_time() - begin) < SECONDS:
        mixer[random.randrange(EPOCH)]
        count += 1
    return count / seconds


def _seconds(function: Callable) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def _usage(pid: int) -> tuple[int, int, int]:
    """RSS and PSS in MB, and the number of open files."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    megabytes = {line.split()[0]: round(int(line.split()[1]) / 1024) for line in lines}
    return megabytes["Rss:"], megabytes["Pss:"], len(os.listdir(f"/proc/{pid}/fd"))


def _spread(rates: list[float] | None) -> str:
    return f"{np.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})" if rates else ""


def _times(rates: list[float], reference: list[float] | None) -> str:
    return f"{np.median(np.divide(rates, reference)):.1f}" if reference else ""


def _machine(checkout: Path | None) -> dict[str, str]:
    blobs = "not run, for want of `--speechbrain`"
    if checkout is not None:
        names = [name for name, _ in RECIPES.values()]
        blobs = ", ".join(f"{n} {_git('hash-object', _recipe(checkout, n))[:7]}" for n in names)
    return facts() | {"recipes": blobs}


def _git(*arguments: str | Path) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Dynamic mixing against SpeechBrain's.")
    parser.add_argument("speech", type=Path, metavar="SPEECH", help="has a folder a speaker")
    parser.add_argument("--speechbrain", type=Path, metavar="CHECKOUT")
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
