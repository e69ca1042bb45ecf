"""Runs train.py with something happening in the middle: ``probe.py EVENT FOLDER ARGUMENTS...``

kill: SIGKILL at the third step of the second epoch. nan: the third mixture of an epoch is NaN.
watch: every process writes its mixtures' names and, at the end of training, its weights.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import sfsrnet_modules  # noqa: F401

# isort: split
import torch

import train
from data_prep.mixing.dynamic import DynamicMixing
from sfsrnet_modules.training.brain import Separation

on_fit_batch_end = Separation.on_fit_batch_end
on_stage_end = Separation.on_stage_end
get_item = DynamicMixing.__getitem__


def kill(brain, *args):
    on_fit_batch_end(brain, *args)
    if brain.hparams.epoch_counter.current == 2 and brain.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def nan(dataset, index):
    item = get_item(dataset, index)
    if index == 2:
        item["mixture"][5] = torch.nan
    return item


def remember(brain, batch, *args):
    brain.ids = [*getattr(brain, "ids", []), *batch.id]
    on_fit_batch_end(brain, batch, *args)


def watch(brain, stage, *args):
    if stage.name == "TRAIN":
        path = Path(brain.folder) / f"rank{os.environ['RANK']}.pt"
        torch.save({"ids": brain.ids, "weights": brain.hparams.model.state_dict()}, path)
    on_stage_end(brain, stage, *args)


if __name__ == "__main__":
    event, Separation.folder, *arguments = sys.argv[1:]
    if event == "kill":
        Separation.on_fit_batch_end = kill
    elif event == "nan":
        DynamicMixing.__getitem__ = nan
    elif event == "watch":
        Separation.on_fit_batch_end, Separation.on_stage_end = remember, watch
    train.main(arguments)
