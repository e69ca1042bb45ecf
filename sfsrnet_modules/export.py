"""Writes a trained model as a folder that SpeechBrain's pretrained interface loads."""

import os
import re
from pathlib import Path

import torch
from hyperpyyaml import resolve_references
from ruamel.yaml import YAML
from torch import nn

WEIGHTS = "model.ckpt"  # SpeechBrain's name for the loadable "model"

# what `pretrained_from_hparams` needs beside the model
INTERFACE = """
modules:
    model: !ref <model>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        model: !ref <model>
"""


def export_model(
    model: nn.Module, hparams_file: str | Path, overrides: str | dict, folder: str | Path
) -> Path:
    """Write `hyperparams.yaml` and the weights of a model to a folder.

    Of the training's configuration only what builds the model is kept, so that the folder stands
    alone: it names neither data nor output folders.

    Arguments
    ---------
    model : torch.nn.Module
        The trained model.
    hparams_file : str or Path
        The yaml file of the training, with a ``model`` key.
    overrides : str or dict
        What the command line changed in it.
    folder : str or Path
        Where to; made if need be.

    Returns
    -------
    Path
        The folder, for ``SFSRNetSeparation.from_hparams(source=folder)``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_whole(folder / "hyperparams.yaml", lambda p: _write_hparams(p, hparams_file, overrides))
    _write_whole(folder / WEIGHTS, lambda p: torch.save(model.state_dict(), p))
    return folder


def _write_hparams(path: Path, hparams_file: str | Path, overrides: str | dict) -> None:
    yaml = YAML()
    with open(hparams_file, encoding="utf-8") as file:
        resolved = resolve_references(file, overrides, overrides_must_match=True).getvalue()
    training = yaml.load(re.sub(r"\s+#.*", "", resolved))  # comments would lose their places
    kept = {key: training[key] for key in ("sample_rate", "num_spks", "model")}
    with open(path, "w", encoding="utf-8") as file:
        file.write("# Separates speech: SFSRNetSeparation.from_hparams(source=<this folder>)\n")
        yaml.dump(kept, file)
        file.write(INTERFACE)


def _write_whole(path: Path, write) -> None:
    """Write under a temporary name first: the file exists whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    os.replace(partial, path)
