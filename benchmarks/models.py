"""Builds the model of a row of the ablation, counts it and takes its time."""

from functools import cache
from statistics import median
from threading import Lock

import sfsrnet_modules  # noqa: F401  first: lets speechbrain be imported on CPU-only torch

# isort: split
import torch
from torch import nn

from benchmarks.about import ROOT
from benchmarks.rows import AS_SMALL, DPRNN, OF_SMALL, SMALL, SMALL_DPRNN, Row
from benchmarks.speed_cases import DEVICE, interleaved
from sfsrnet_modules.common.hparams import build_hparams, read_hparams, read_yaml
from sfsrnet_modules.evaluation.complexity import count_parameters, macs_per_second

LOADING = Lock()
ROUNDS = 7  # of the timing, in which all rows take turns


def options_of(row: Row) -> dict[str, str]:
    """Every option of a row: what differs, and what makes other files train as small.yaml."""
    return dict(row.options) if row.file in OF_SMALL else shared_options() | row.options


@cache
def shared_options() -> dict[str, str]:
    """What all rows take from small.yaml."""
    keys = read_yaml(read_hparams(ROOT / SMALL))
    return {key: _plain(keys[key]) for key in AS_SMALL}


def _plain(value) -> str:
    return "null" if value is None else str(list(value) if isinstance(value, list) else value)


def build(row: Row, extra: dict[str, str] | None = None) -> dict:
    """What the row's yaml file describes, with the row's options and `extra` ones."""
    options = {"data_folder": "/nowhere", **options_of(row), **(extra or {})}
    overrides = "\n".join(f"{key}: {value}" for key, value in options.items())
    # one at a time: HyperPyYAML keeps its constructors in a class that all threads share
    with LOADING:
        return build_hparams(read_hparams(ROOT / row.file), overrides)


def size(hparams: dict) -> dict[str, int]:
    """Parameters and multiply-accumulates for a second of audio."""
    macs = macs_per_second(hparams["model"], hparams["sample_rate"])
    return {"parameters": count_parameters(hparams["model"]), "macs": macs}


def milliseconds(models: dict[str, nn.Module], sample_rate: int) -> dict[str, float]:
    """Median time of each model for a second of audio, all of them in turns."""
    mixture = torch.randn(1, sample_rate, device=DEVICE)
    for model in models.values():
        model.to(DEVICE).eval()
    with torch.inference_mode():
        times = interleaved(models, mixture, ROUNDS + 1)  # the first is left out
    return {name: 1e3 * median(values[1:]) for name, values in times.items()}


def as_published(row: Row) -> Row:
    """A row of DPRNN at the size of hparams/dprnn.yaml, which is the published one."""
    small = {*SMALL_DPRNN, "sr_channels", "sr_kernels"}
    assert row.file == DPRNN
    return row._replace(options={k: v for k, v in row.options.items() if k not in small})
