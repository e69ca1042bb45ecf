#!/usr/bin/env python3
"""Trains, tests and exports a separator: ``python train.py hparams/mini.yaml [--key value]``."""

import sys
from pathlib import Path

import sfsrnet_modules  # noqa: F401  first: lets speechbrain be imported on CPU-only torch

# isort: split
import speechbrain as sb

from sfsrnet_modules.apps.example import write_example
from sfsrnet_modules.common.hparams import load_hparams, one_line_errors, save_hparams
from sfsrnet_modules.inference.pretrained import load_start
from sfsrnet_modules.publishing.export import export_run
from sfsrnet_modules.publishing.training_run import TrainingRun
from sfsrnet_modules.training import distributed
from sfsrnet_modules.training.brain import Separation


def main(arguments: list[str]) -> None:
    """Run, alone or as one of many processes."""
    try:
        with one_line_errors():
            run(arguments)
    finally:
        distributed.leave_group()


def run(arguments: list[str]) -> None:
    """Load the hyperparameters, prepare the data, fit, evaluate, export."""
    distributed.adopt_slurm()
    hparams_file, run_opts, overrides, hparams = load_hparams(arguments)
    run_opts = distributed.join_group(run_opts)
    with distributed.ending_together():
        hparams["checkpointer"].check_fit()
    output = hparams["output_folder"]
    with distributed.ending_together():
        sb.create_experiment_directory(output)
    distributed.check_shared(output)
    corpus = hparams["corpus"]
    distributed.on_main(corpus.prepare)
    with distributed.ending_together():
        train_set, valid_set = corpus.train_set(), corpus.valid_set()
        test_set = corpus.test_set()
        if hparams["start_from"] is not None:
            load_start(hparams["model"], hparams["start_from"])
        brain = Separation(
            hparams["modules"], hparams["opt_class"], hparams, run_opts, hparams["checkpointer"]
        )
    distributed.on_main(save_hparams, output, hparams_file, overrides)  # now that all of it fits

    brain.fit(
        hparams["epoch_counter"],
        train_set,
        valid_set,
        train_loader_kwargs=hparams["train_loader"],
        valid_loader_kwargs=hparams["test_loader"],
    )
    brain.evaluate(test_set, max_key="si_snr_i", test_loader_kwargs=hparams["test_loader"])
    distributed.on_main(finish, hparams, test_set)


def finish(hparams: dict, test_set) -> None:
    """Export the best model, and leave a test mixture to listen to beside it."""
    output = Path(hparams["output_folder"])
    model = export_run(TrainingRun(output), hparams["export_folder"], hparams["model"])
    example = write_example(
        test_set, output / "test_results.csv", output / "example", hparams["sample_rate"]
    )
    listen = f"{example}/mixture.wav --model {model} -o {example}"
    print(f"Model:     {model}")
    print(f"To listen: sfsrnet-separate {listen}")
    print(f"To look:   python -m sfsrnet_modules.apps.example {example} --model {model}")


if __name__ == "__main__":
    main(sys.argv[1:])
