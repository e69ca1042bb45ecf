"""What only a GPU can show: ``python -m pytest tests/gpu``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.voices import write_corpus
from conftest import ROOT

if not torch.cuda.is_available():
    pytest.skip("no GPU here that PyTorch can use", allow_module_level=True)

TINY = {
    "blocks": 2,
    "rates": "[4000, 8000]",
    "segment": 0.5,
    "items_per_epoch": 10,
    "batch_size": 4,  # the last batch is short
    "num_valid": 3,
    "num_test": 4,
    "num_workers": 0,
    "number_of_epochs": 2,
    "precision": "bf16",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def train(corpus: Path, output: Path, *launcher: str, **options) -> str:
    """Train, test and export; return the log of its epochs."""
    options = TINY | {"data_folder": corpus, "output_folder": output} | options
    pairs = [f"--{key}={value}" for key, value in options.items() if value is not True]
    pairs += [f"--{key}" for key, value in options.items() if value is True]
    command = [sys.executable, *launcher, "train.py", "hparams/small.yaml", *pairs]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return (output / "train_log.txt").read_text()


def test_steps_in_bfloat16(corpus, tmp_path):
    assert "nan" not in train(corpus, tmp_path)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])  # the second by CUDA graphs
def test_compiled(mode, corpus, tmp_path):
    assert "nan" not in train(corpus, tmp_path, compile=True, compile_mode=mode)


def test_resumed(corpus, tmp_path):
    train(corpus, tmp_path, number_of_epochs=1)
    assert "epoch: 2" in train(corpus, tmp_path)


def test_one_process_by_nccl(corpus, tmp_path):
    launcher = "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"
    assert "nan" not in train(corpus, tmp_path, *launcher)


def test_a_step_waits_for_nothing(tiny_model):
    model = tiny_model.cuda()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    mixture = torch.randn(2, 2000, device="cuda")
    for mode in ("default", "error"):  # the first step sets up what later ones keep
        torch.cuda.set_sync_debug_mode(mode)
        try:
            model(mixture).square().mean().backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.found_inf = (~norm.isfinite()).float()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
