"""The learning rate's schedule and the averaged weights, in whole trainings."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sfsrnet_modules.publishing.export import export_run
from sfsrnet_modules.publishing.training_run import TrainingRun
from tests.integration.test_train import corpus, train  # noqa: F401  the fixture

KEYS = {"lr_schedule": "linear", "warmup": 1, "ema": 0.5, "number_of_epochs": 3, "lr": 0.01}


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory) -> Path:  # noqa: F811
    output = tmp_path_factory.mktemp("schedules") / "results"
    done = train(corpus, output, **KEYS)
    assert done.returncode == 0, done.stderr
    return output


def figures(output: Path, name: str) -> list[float]:
    log = (output / "train_log.txt").read_text()
    return [float(value) for value in re.findall(rf"(?:^|[ ,]){name}: ([-+.e\d]+)", log, re.M)]


def test_the_rate_rises_over_the_first_epoch_and_falls_to_zero(trained):
    # at the middle of the last of four steps of each epoch; up over one epoch, down over two
    expected = [0.01 * 3.5 / 4, 0.01 * (1 - 3.5 / 8), 0.01 * 0.5 / 8]
    assert figures(trained, "lr") == pytest.approx(expected, rel=1e-2)


def test_the_better_weights_in_validation_are_exported(trained):
    plain, averaged = (figures(trained, f"valid {n}") for n in ("si_snr_i", "si_snr_i_ema"))
    assert len(plain) == len(averaged) == 3 and plain != averaged
    exported = load_file(trained / "model" / "model.safetensors")
    better = "ema" if max(averaged) > max(plain) else "model"
    saved = [torch.load(path) for path in (trained / "save").glob(f"CKPT*/{better}.ckpt")]
    saved = [{name.removeprefix("module."): value for name, value in s.items()} for s in saved]
    assert any(all(torch.equal(s[name], exported[name]) for name in exported) for s in saved)


def test_an_export_afterwards_takes_the_same_weights(trained, tmp_path):
    export_run(TrainingRun(trained), tmp_path / "again")
    first, again = (
        load_file(f / "model.safetensors") for f in (trained / "model", tmp_path / "again")
    )
    assert all(torch.equal(first[name], again[name]) for name in first) and list(first) == list(
        again
    )


def test_a_run_goes_on_at_the_rate_that_it_is_given(corpus, tmp_path):  # noqa: F811
    keys = {"lr_schedule": "plateau", "items_per_epoch": 2}
    for epochs, lr in ((1, 0.001), (2, 0.0005)):
        done = train(corpus, tmp_path, lr=lr, number_of_epochs=epochs, **keys)
        assert done.returncode == 0, done.stderr
    assert figures(tmp_path, "lr") == [0.001, 0.0005]
    assert "lr is 0.0005 (plateau) from here on, it was 0.001 (plateau)" in done.stdout


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lr_schedule", "cosine", "lr_schedule is 'cosine': choose"),
        ("start_share", 0.5, "start_share is 0.5: give a share below 1 of the weights of start_"),
    ],
)
def test_a_bad_option_gets_one_line(corpus, tmp_path, key, value, message):  # noqa: F811
    done = train(corpus, tmp_path / "results", **{key: value})
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith(f"error: {message}")
    assert "Traceback" not in done.stderr
