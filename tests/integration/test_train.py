"""train.py as users run it, on made-up voices and a model with small layers."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from benchmarks.ranks import TINY
from benchmarks.voices import write_corpus
from conftest import ROOT
from sfsrnet_modules.common.precision import EMULATED, emulates_bfloat16
from sfsrnet_modules.inference import SFSRNetSeparation
from sfsrnet_modules.publishing.training_run import TrainingRun
from tests import scripts

TRAIN = str(ROOT / "train.py")
PROBE = str(ROOT / "tests/integration/probe.py")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus #1"))


def words(script: list[str], corpus: Path, output: Path, *flags: str, **keys) -> list[str]:
    """What follows ``python`` on the command line."""
    keys = {"data_folder": corpus, "output_folder": output, **TINY, **keys}
    options = [text for key, value in keys.items() for text in (f"--{key}", str(value))]
    return [*script, str(ROOT / "hparams/mini.yaml"), *flags, *options]


def run(script: list[str], corpus: Path, output: Path, *flags: str, **keys):
    return scripts.run(*words(script, corpus, output, *flags, **keys), cwd=output.parent)


def train(corpus: Path, output: Path, *flags: str, **keys):
    return run([TRAIN], corpus, output, *flags, **keys)


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("run") / "results"
    command = [sys.executable, *words([TRAIN], corpus, output)]
    done = subprocess.run(command, cwd=output.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "M parameters" in done.stdout and "multiply-accumulates" in done.stdout
    return output


def test_output_folder_has_speechbrains_files(trained):
    names = {path.name for path in trained.iterdir()}
    expected = {"train_log.txt", "log.txt", "env.log", "hyperparams.yaml", "save", "tensorboard"}
    assert names >= expected | {"test_results.csv", "model", "example"}
    log = (trained / "train_log.txt").read_text().splitlines()
    assert len(log) == 3  # two epochs and the test
    assert all(
        term in log[0] for term in ("block1_4000Hz", "block2_8000Hz", "train sr", "si_snr_i")
    )
    waits = [float(line.split("train data_wait: ")[1].split(",")[0].split()[0]) for line in log[:2]]
    speeds = [float(line.split("train items_per_second: ")[1].split(",")[0]) for line in log[:2]]
    assert all(0 < wait < 1 for wait in waits) and all(speed > 0 for speed in speeds)


def test_results_have_a_row_an_item(trained):
    results = pd.read_csv(trained / "test_results.csv")
    assert len(results) == 4 and results["id"].is_unique
    columns = {"duration", "si_snr", "si_snr_i", "sdr", "sdr_i", "si_snr_i_before_sr"}
    assert columns < set(results.columns) and results.notna().all().all()


def test_evaluating_the_exported_model_gives_the_same_figures(trained, corpus, tmp_path):
    options = ["--model", trained / "model", "--manifest", trained / "manifests/test.csv"]
    options += ["--data_folder", corpus, "-o", tmp_path / "results.csv", "--workers", "0"]
    options += ["--compare", trained / "test_results.csv", "--every_block", "--bands"]
    done = scripts.run(ROOT / "evaluate.py", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tested = pd.read_csv(trained / "test_results.csv").set_index("id")
    again = pd.read_csv(tmp_path / "results.csv").set_index("id")
    pd.testing.assert_frame_equal(again[list(tested)], tested, atol=0.002)
    assert {"sdr_block1", "band_3_4khz", "band_3_4khz_before_sr"} < set(again)
    assert "Difference from" in done.stdout and (tmp_path / "results.png").is_file()


@pytest.mark.parametrize(
    ("manifest", "data_folder", "message"),
    [
        ("none.csv", "voices", "error: No manifest at"),
        ("test.csv", "nowhere", "error: there is no file .*nowhere"),
    ],
)
def test_evaluating_nothing_gets_one_line(trained, tmp_path, manifest, data_folder, message):
    options = ["--manifest", trained / "manifests" / manifest, "--data_folder", data_folder]
    options += ["--model", trained / "model", "--workers", "0"]
    done = scripts.run(ROOT / "evaluate.py", *options, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.match(message, done.stderr.strip().splitlines()[-1])


def test_exported_model_repeats_the_tested_figures(trained):
    separator = SFSRNetSeparation.from_hparams(source=str(trained / "model"))
    (checkpoint,) = TrainingRun(trained).best_checkpoints()
    best = torch.load(checkpoint.paramfiles["model"])
    exported = separator.mods.model.state_dict()
    assert all(torch.equal(best[name], exported[name]) for name in best)
    voices = separator.separate_file(trained / "example" / "mixture.wav")
    assert voices.shape[1] == soundfile.info(trained / "example" / "mixture.wav").frames


def test_export_script_repeats_the_exported_model(trained, tmp_path):
    done = scripts.run("export.py", trained, "-o", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    weights = [
        load_file(folder / "model.safetensors")
        for folder in (trained / "model", tmp_path / "model")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    cards = [
        (folder / "README.md").read_text() for folder in (trained / "model", tmp_path / "model")
    ]
    assert cards[0].replace("sfsrnet-mini", "model") == cards[1].replace("sfsrnet-mini", "model")
    assert "--filters 8 --width 8 --chunk 20" in cards[0] and "epoch 2" in cards[0]


def test_example_is_drawn(trained):
    folder = trained / "example"
    module = "sfsrnet_modules.apps.example"
    done = scripts.run("-m", module, folder, "--model", trained / "model")
    assert done.returncode == 0, done.stderr
    assert "estimate before SR: SI-SNRi" in done.stdout
    assert (folder / "spectrograms.png").stat().st_size > 10_000


def test_test_only_gives_the_same_figures(trained, corpus):
    before = (trained / "test_results.csv").read_text()
    (trained / "test_results.csv").unlink()
    done = train(corpus, trained, "--test_only")
    assert done.returncode == 0, done.stderr
    assert (trained / "test_results.csv").read_text() == before


def test_test_only_without_a_checkpoint_says_so(corpus, tmp_path):
    done = train(corpus, tmp_path / "results", "--test_only")
    assert done.returncode == 1 and "no checkpoint in" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_in_bfloat16_touches_two_batches(corpus, tmp_path):
    output = tmp_path / "results"
    done = train(corpus, output, "--debug", precision="bf16")
    assert done.returncode == 0, done.stderr
    assert (EMULATED in done.stdout + done.stderr) == emulates_bfloat16("cpu")
    assert sorted(path.name for path in output.iterdir()) == ["debug", "manifests"]
    assert not list((output / "debug/save").glob("CKPT*"))


def test_two_accumulated_batches_are_one_of_twice_the_size(corpus, tmp_path):
    keys = {"number_of_epochs": 1, "items_per_epoch": 4, "max_si_snr": 1000, "checkpointing": True}
    weights = []
    for name, batch_size, factor, max_norm in (("one", 4, 1, 1e9), ("two", 2, 2, -1)):
        output = tmp_path / name
        keys |= {"batch_size": batch_size, "grad_accumulation_factor": factor}
        keys |= {"max_grad_norm": max_norm}
        done = train(corpus, output, **keys)  # a single step either way
        assert done.returncode == 0, done.stderr
        weights.append(load_file(output / "model" / "model.safetensors"))
    one, two = (torch.cat([value.flatten() for value in w.values()]) for w in weights)
    # Adam's first step is lr = 1e-3 wherever the gradient is not 0, and rounding decides there
    assert (one - two).abs().mean() < 2e-5


def test_what_is_accumulated_at_the_end_of_an_epoch_is_a_step(corpus, tmp_path):
    keys = {"number_of_epochs": 1, "items_per_epoch": 2, "grad_accumulation_factor": 8}
    done = train(corpus, tmp_path / "results", **keys)
    assert done.returncode == 0, done.stderr
    assert "grad_norm" in (tmp_path / "results/train_log.txt").read_text()


def test_a_model_folder_starts_another_training(trained, corpus, tmp_path):
    keys = {"number_of_epochs": 1, "items_per_epoch": 2, "lr": 0, "start_from": trained / "model"}
    done = train(corpus, tmp_path / "results", **keys)
    assert done.returncode == 0, done.stderr
    before = load_file(trained / "model" / "model.safetensors")
    after = load_file(tmp_path / "results" / "model" / "model.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_start_has_its_share_in_what_is_tested_and_exported(trained, corpus, tmp_path):
    start, output = trained / "model", tmp_path / "results"
    keys = {"number_of_epochs": 1, "items_per_epoch": 2, "start_from": start, "start_share": 0.5}
    done = train(corpus, output, **keys)
    assert done.returncode == 0, done.stderr
    checkpoints = sorted((output / "save").glob("CKPT*/model.ckpt"))
    before, last = load_file(start / "model.safetensors"), torch.load(checkpoints[-1])
    after = load_file(output / "model" / "model.safetensors")
    assert all(torch.allclose(after[n], (before[n] + last[n]) / 2, atol=1e-6) for n in before)
    assert any(not torch.equal(before[n], last[n]) for n in before)


def test_three_speakers(corpus, tmp_path):
    done = train(corpus, tmp_path / "results", num_spks=3, number_of_epochs=1)
    assert done.returncode == 0, done.stderr
    sources = (tmp_path / "results" / "example").glob("source*.wav")
    assert sorted(path.name for path in sources) == ["source1.wav", "source2.wav", "source3.wav"]


def test_a_killed_run_continues_as_if_nothing_had_happened(trained, corpus, tmp_path):
    output = tmp_path / "results"
    killed = run([PROBE, "kill", str(tmp_path)], corpus, output, ckpt_interval_steps=1)
    assert killed.returncode == -signal.SIGKILL
    assert len((output / "train_log.txt").read_text().splitlines()) == 1
    done = train(corpus, output, ckpt_interval_steps=1)
    assert done.returncode == 0, done.stderr
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (output, trained)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    logs = [(folder / "train_log.txt").read_text().splitlines()[:3] for folder in (output, trained)]
    # the terms of the interrupted epoch count from the restart on, its loss over all of it
    assert [losses(line) for line in logs[0]] == [losses(line) for line in logs[1]]


def losses(line: str) -> list[str]:
    return [part for part in line.replace(" - ", ", ").split(", ") if " loss:" in part]


def test_a_batch_with_nan_is_skipped_named_and_counted(corpus, tmp_path):
    output = tmp_path / "results"
    keys = {"sr_norm": "bn", "sr_target": "magnitude", "ema": 0.9}  # statistics would keep the NaN
    done = run([PROBE, "nan", str(tmp_path)], corpus, output, **keys)
    assert done.returncode == 0, done.stderr
    assert "The loss is nan on" in done.stdout and "step 2 skipped, 1 in all" in done.stdout
    log = (output / "train_log.txt").read_text()
    assert "skipped_steps: 1," in log and "skipped_steps: 2," in log  # one in each epoch
    assert "nan" not in log
    weights = load_file(output / "model" / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())


def test_two_processes_hold_equal_weights_and_see_different_mixtures(corpus, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = [*launcher, PROBE, "watch", str(tmp_path)]
    keys = {"distributed_backend": "gloo", "items_per_epoch": 20, "number_of_epochs": 1}
    done = run(script, corpus, tmp_path / "results", **keys)  # 5 steps of 2 x 2 items
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first["weights"][n], second["weights"][n]) for n in first["weights"])
    assert len(set(first["ids"]) | set(second["ids"])) == 20
    assert not set(first["ids"]) & set(second["ids"])


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_missing_and_empty_data_folders_get_one_line(tmp_path, name):
    (tmp_path / "empty").mkdir()
    done = train(tmp_path / name, tmp_path / "results")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("error: ") and str(tmp_path / name) in last
    assert "Traceback" not in done.stderr


def test_one_speaker_only_gets_one_line(tmp_path):
    write_corpus(tmp_path / "data", num_speakers=1)
    done = train(tmp_path / "data", tmp_path / "results")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("error: ") and "speaker" in last
    assert "Traceback" not in done.stderr
