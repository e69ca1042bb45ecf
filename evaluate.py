#!/usr/bin/env python3
"""Tests a model: ``python evaluate.py --manifest test.csv --data_folder FOLDER [--model …]``."""

import argparse
import os
import sys
from pathlib import Path

import sfsrnet_modules  # noqa: F401  first: lets speechbrain be imported on CPU-only torch

# isort: split
import pandas as pd
import torch

from data_prep.corpora.acoustics import Acoustics
from data_prep.corpora.recognise import prepare
from data_prep.mixing.conversations import write_sets
from data_prep.mixing.fixed import FixedMixtures
from data_prep.mixing.noise import KINDS
from sfsrnet_modules.common.command_line import at_home, device_name
from sfsrnet_modules.common.hparams import one_line_errors
from sfsrnet_modules.evaluation.plots import draw_bands, draw_conditions
from sfsrnet_modules.evaluation.scoring import write_results
from sfsrnet_modules.evaluation.summary import (
    compare_conditions,
    differences,
    evaluate,
    read_results,
    summarise,
)
from sfsrnet_modules.inference.interface import DEFAULT_MODEL, SFSRNetSeparation


def main(arguments: list[str] | None = None) -> int:
    """Separate and score the mixtures of a manifest; write a row an item, print the summary."""
    args = parse(arguments)
    with one_line_errors():
        args.output.parent.mkdir(parents=True, exist_ok=True)
        others = None if args.compare is None else read_results(args.compare)
        separator = SFSRNetSeparation.from_hparams(args.model, run_opts={"device": args.device})
        separator.twice = args.twice
        torch.set_num_threads(max(1, torch.get_num_threads() - args.workers))  # they need cores
        if args.manifest is None:
            args.manifest = prepare_test(separator, args)
        if args.conditions:
            score_conditions(separator, args)
            return 0
        test_set = open_set(args.manifest, separator, args)
        scores = evaluate(separator, test_set, args.every_block, args.bands, args.workers)
        write_results(scores, args.output)
        report(scores, others, args)
        report_sources(scores, test_set.rows)
    return 0


def prepare_test(separator: SFSRNetSeparation, args: argparse.Namespace) -> Path:
    """Prepare a corpus's test beside the results, and return its manifest."""
    folder = args.output.with_suffix("")
    hparams = separator.hparams
    prepare(
        args.data_folder,
        folder,
        hparams.sample_rate,
        hparams.num_spks,
        args.mode,
        args.mixture,
        lists=args.lists,
        noise_folder=args.noise_folder,
        num_test=args.num_test,
        acoustics=Acoustics(hparams.sample_rate, target=args.target),
        test_only=True,
    )
    return folder / "test.csv"


def open_set(manifest: Path, separator: SFSRNetSeparation, args: argparse.Namespace):
    """Open the mixtures of a manifest."""
    hparams = separator.hparams
    roots = (args.data_folder, args.noise_folder, args.rooms)
    return FixedMixtures(manifest, hparams.sample_rate, hparams.num_spks, *roots, args.target)


def score_conditions(separator: SFSRNetSeparation, args: argparse.Namespace) -> None:
    """Score the voices of a manifest in every condition; print a table, draw SI-SNRi over them."""
    acoustics = Acoustics(
        separator.hparams.sample_rate,
        rooms=args.rooms,
        room_share=1.0,
        noise_folder=args.noise_folder,
        noise_kinds=KINDS,
    )
    folder = args.output.with_suffix("")
    sets = acoustics.write_conditions(args.manifest, folder, args.data_folder)
    sets |= write_sets(sets["clean"], folder)
    results = {}
    for name, manifest in sets.items():
        test_set = open_set(manifest, separator, args)
        options = (args.every_block, args.bands, args.workers)
        long = name == "conversation"  # separated as recordings are
        scores = evaluate(separator, test_set, *options, in_segments=long)
        write_results(scores, manifest.with_name(f"{manifest.stem}-results.csv"))
        results[name] = scores.join(test_set.rows.set_index("ID").filter(["snr", "t60"]))
    print(f"{args.model}, in dB, means with 95 % intervals:")
    print(compare_conditions(results).round(2).to_string())
    print(f"\nManifests and rows: {folder}")
    print(f"Picture: {draw_conditions(results, folder / 'conditions.png')}")


def report(scores: pd.DataFrame, others: pd.DataFrame | None, args: argparse.Namespace) -> None:
    """Print what the scores come to, and where they are."""
    hours = scores["duration"].sum() / 3600
    print(args.model)
    print(f"{len(scores)} mixtures ({hours:.2f} h), means with 95 % intervals over them:")
    print(summarise(scores).round(3).to_string())
    if others is not None:
        print(f"\nDifference from {args.compare}, item by item:")
        print(differences(scores, others).round(3).to_string())
    print(f"\nRows: {args.output}")
    if scores.columns.str.startswith("band_").any():  # not where a source is silent
        print(f"Picture: {draw_bands(scores, args.output.with_suffix('.png'))}")


def report_sources(scores: pd.DataFrame, mixtures: pd.DataFrame) -> None:
    """Print SI-SNRi by source, where the manifest names sources."""
    if "source" in mixtures and "si_snr_i" in scores:  # else not all sources speak
        print("\nSI-SNRi by source:")
        sources = mixtures.set_index("ID")["source"].reindex(scores.index)
        by_source = {name: group["si_snr_i"] for name, group in scores.groupby(sources)}
        print(summarise(pd.DataFrame(by_source)).round(3).to_string())


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = _parser()
    args = parser.parse_args(at_home(arguments))
    if not args.output.suffix:  # the name without one is a folder's, of manifests
        args.output = args.output.with_suffix(".csv")
    _refuse_idle_options(parser, args)
    if args.compare is not None and args.conditions:
        parser.error("--compare is for one set of mixtures, --conditions makes several")
    if args.compare is not None and args.output.resolve() == Path(args.compare).resolve():
        parser.error(f"the results would replace {args.compare}: give another name with -o")
    return args


def _refuse_idle_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Stop at options that would change nothing: figures would pass for what they are not."""
    idle, why = [], ""
    if args.manifest is not None:
        idle, why = ("lists", "num_test", "mode", "mixture"), "a manifest has its mixtures"
    elif not args.conditions:
        idle = ("rooms",) if args.lists else ("rooms", "noise_folder")
        why = "only a manifest, --conditions or lists of noisy mixtures ask for it"
    given = [name for name in idle if getattr(args, name) != parser.get_default(name)]
    if given:
        parser.error(f"--{given[0]} would change nothing: {why}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Score a model on the mixtures of a manifest.")
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="exported model folder (default: %(default)s)")
    add(
        "--manifest",
        type=Path,
        help="a test.csv; SpeechBrain's or Asteroid's too; default: the test of data_folder",
    )
    add("--lists", help="published lists, where data_folder is a corpus's test part")
    add(
        "--num_test",
        type=int,
        default=200,
        help="mixtures that are drawn from a folder of speech, of each source where they are "
        "listed (default: %(default)s)",
    )
    add("--mode", default="min", choices=["min", "max"], help="of such mixtures")
    add("--mixture", default="clean", help="LibriMix's clean or both, with noise")
    add("--data_folder", required=True, help="what $data_root in it stands for")
    add("--noise_folder", help="what $noise_root in it stands for")
    add("--rooms", help="what $rooms_root in it stands for")
    add("--target", default="reverberant", help="in a room: that, early or dry")
    add(
        "--conditions",
        action="store_true",
        help="score it clean, with noise, in a room, with both; one voice alone; in conversation",
    )
    add("-o", "--output", type=Path, default=Path("test_results.csv"))
    add("--compare", help="results of another run on the same manifest")
    passes = parser.add_mutually_exclusive_group()  # an average has no blocks
    passes.add_argument("--every_block", action="store_true", help="score every block's estimate")
    passes.add_argument("--twice", action="store_true", help="separate twice and average")
    add("--bands", action="store_true", help="SI-SNRi in bands of 1 kHz, drawn")
    cores = len(os.sched_getaffinity(0))
    add(
        "--workers",
        type=int,
        default=max(min(cores, 2), cores // 2),
        help="processes that score, the other cores separate (default: %(default)s)",
    )
    add("--device", type=device_name, help="cpu, cuda:0, ...; default: what there is")
    return parser


if __name__ == "__main__":
    sys.exit(main())
