import errno
import logging
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer

from conftest import ROOT
from sfsrnet_modules.training.checkpoints import RandomStates, WholeCheckpointer


@pytest.fixture
def model() -> torch.nn.Module:
    return torch.nn.Linear(4, 4)


@pytest.fixture
def checkpointer(tmp_path, model) -> WholeCheckpointer:
    return WholeCheckpointer(tmp_path, {"model": model})


def save(checkpointer: WholeCheckpointer, model: torch.nn.Module, value: float, **meta):
    torch.nn.init.constant_(model.weight, value)
    return checkpointer.save_checkpoint(meta=meta)


def recovered(checkpointer: WholeCheckpointer, model: torch.nn.Module, **keys) -> float:
    torch.nn.init.constant_(model.weight, -1)
    checkpointer.recover_if_possible(**keys)
    return model.weight[0, 0].item()


@pytest.mark.parametrize("name", ["model.ckpt", "CKPT.yaml", "checksums.json"])
@pytest.mark.parametrize("harm", ["truncate", "empty", "flip", "remove"])
def test_a_damaged_newest_is_named_and_the_one_before_taken(
    name, harm, checkpointer, model, tmp_path, caplog
):
    save(checkpointer, model, 1)
    newest = save(checkpointer, model, 2).path
    data = bytearray((newest / name).read_bytes())
    data[len(data) // 2] ^= 16
    changed = {"truncate": data[: len(data) // 2], "empty": b"", "flip": data}
    (newest / name).unlink()
    if harm != "remove":
        (newest / name).write_bytes(changed[harm])
    if name == "CKPT.yaml" and harm == "remove":  # no checkpoint at all, for SpeechBrain either
        assert recovered(checkpointer, model) == 1
        return
    with caplog.at_level(logging.WARNING):
        assert recovered(checkpointer, model) == 1
    assert str(newest) in caplog.text and "is damaged" in caplog.text
    assert (tmp_path / f"damaged+{newest.name}").is_dir()


def test_a_damaged_best_leaves_the_second_best(checkpointer, model):
    for value, score in ((1, 5.0), (2, 9.0), (3, 7.0)):
        last = save(checkpointer, model, value, score=score)
    best = checkpointer.find_checkpoint(max_key="score")
    best.paramfiles["model"].write_bytes(b"")
    assert recovered(checkpointer, model, max_key="score") == 3
    assert last.path.is_dir()


def test_what_speechbrain_wrote_is_loaded(tmp_path, model, checkpointer):
    torch.nn.init.constant_(model.weight, 3)
    Checkpointer(tmp_path, {"model": model}).save_checkpoint()
    assert recovered(checkpointer, model) == 3


def test_two_of_each_kind_are_kept(checkpointer, model, tmp_path):
    for value in range(6):
        torch.nn.init.constant_(model.weight, value)
        checkpointer.save_and_keep_only(meta={"score": -value}, max_keys=["score"])
    kept = {torch.load(path)["weight"][0, 0].item() for path in tmp_path.glob("CKPT*/model.ckpt")}
    assert kept == {0, 1, 4, 5}


def test_a_full_disk_is_a_warning_and_nothing_is_lost(
    checkpointer, model, tmp_path, monkeypatch, caplog
):
    save(checkpointer, model, 1)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with caplog.at_level(logging.WARNING):
        assert save(checkpointer, model, 2) is None
    assert "No space left on device" in caplog.text and "make room" in caplog.text
    monkeypatch.undo()
    assert [path.name[:4] for path in tmp_path.iterdir()] == ["CKPT"]
    assert recovered(checkpointer, model) == 1


SAVER = """
import sys, torch
import sfsrnet_modules
from sfsrnet_modules.training.checkpoints import WholeCheckpointer
model = torch.nn.Linear(1000, 1000)
checkpointer = WholeCheckpointer(sys.argv[1], {"model": model})
while True:
    checkpointer.save_and_keep_only()
    print("saved", flush=True)
"""


def test_a_process_killed_while_it_writes_leaves_whole_ones_only(tmp_path):
    command = [sys.executable, "-c", SAVER, str(tmp_path)]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    writer.stdout.readline()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list(tmp_path.glob("unfinished*/*.ckpt")):
        pass
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    checkpointer = WholeCheckpointer(tmp_path, {"model": torch.nn.Linear(1000, 1000)})
    assert checkpointer.recover_if_possible() is not None
    assert not list(tmp_path.glob("damaged*"))
    checkpointer.save_checkpoint()
    assert not list(tmp_path.glob("unfinished*"))


def test_random_states_go_on(tmp_path):
    checkpointer = WholeCheckpointer(tmp_path, {"random": RandomStates()})
    checkpointer.save_checkpoint()
    drawn = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    checkpointer.recover_if_possible()
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
