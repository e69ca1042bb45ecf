import subprocess
import sys

import pytest

from conftest import ROOT
from sfsrnet_modules.common.hparams import load_hparams


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hparams/sfsrnet.yaml"], r"no --data_folder given.*mini\.yaml needs none"),
        (["hparams/none.yaml"], r"there is no file hparams/none\.yaml"),
        (
            ["hparams/sfsrnet.yaml", "--data_folder", "x", "--batchsize", "2"],
            r"--batchsize is neither .* did you mean --batch_size\?",
        ),
        (
            ["hparams/sfsrnet.yaml", "--data_folder", "x", "--data_folder", "y"],
            r"perhaps an option is given twice.*data_folder",
        ),
        (
            ["hparams/sfsrnet.yaml", "--data_folder", "x", "--sample_rate", "4000"],
            r"at most the sample rate of 4000 Hz",
        ),
    ],
)
def test_bad_command_lines_get_one_sentence(arguments, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match=message):
        load_hparams(arguments)


def test_overrides_reach_the_objects(monkeypatch):
    monkeypatch.chdir(ROOT)
    *_, hparams = load_hparams(["hparams/mini.yaml", "--rates", "[500, 1000, 2000, 8000]"])
    assert hparams["loss"].rates == [500, 1000, 2000, 8000]


def test_train_ends_with_that_sentence_and_no_trace():
    command = [sys.executable, "train.py", "hparams/sfsrnet.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        done.stderr.startswith("error: no --data_folder given") and "Traceback" not in done.stderr
    )


def test_options_of_speechbrain_that_are_keys_are_kept_with_the_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = ["hparams/mini.yaml", "--precision", "bf16", "--seed", "5", "--debug"]
    _, run_opts, overrides, hparams = load_hparams(arguments)
    assert run_opts.precision == hparams["precision"] == "bf16"
    assert sorted(overrides.splitlines()) == ["precision: bf16", "seed: 5"]
