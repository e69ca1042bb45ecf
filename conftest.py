"""Fixtures of the tests and of the doctests."""

import os
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest

if not any("tests/gpu" in argument for argument in sys.argv):  # all others are right on a CPU
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("OMP_NUM_THREADS", "1")  # most layers are too small for more

import sfsrnet_modules  # noqa: F401  before speechbrain: lets torchaudio be imported on CPU-only torch

# isort: split
import torch
from speechbrain.lobes.models.dual_path import Decoder, Dual_Path_Model, Encoder

from sfsrnet_modules.models.dual_path import DualPathSeparator
from sfsrnet_modules.models.sfsrnet import SFSRNet
from sfsrnet_modules.models.super_resolution import SuperResolution
from sfsrnet_modules.models.transformer import ConvTransformer
from sfsrnet_modules.publishing.export import export_model

ROOT = Path(__file__).parent
SPEECH = ROOT.parent / "shared" / "speech"

TINY = """
sample_rate: 8000
num_spks: 2
transformer: !new:sfsrnet_modules.models.transformer.ConvTransformer
    num_layers: 1
    d_model: 8
    nhead: 2
    d_ffn: 16
model: !new:sfsrnet_modules.models.sfsrnet.SFSRNet
    separator: !new:sfsrnet_modules.models.dual_path.DualPathSeparator
        encoder: !new:speechbrain.lobes.models.dual_path.Encoder
            kernel_size: 16
            out_channels: 8
        masknet: !new:speechbrain.lobes.models.dual_path.Dual_Path_Model
            in_channels: 8
            out_channels: 8
            intra_model: !ref <transformer>
            inter_model: !copy <transformer>
            num_layers: 2
            K: 20
            num_spks: !ref <num_spks>
            linear_layer_after_inter_intra: False
        decoder: !new:speechbrain.lobes.models.dual_path.Decoder
            in_channels: 8
            out_channels: 1
            kernel_size: 16
            stride: 8
            bias: False
    super_resolution: !new:sfsrnet_modules.models.super_resolution.SuperResolution
        num_spks: !ref <num_spks>
        channels: [4, 4, 4]
        kernels: [3, 3, 3, 3]
"""


def tiny_sfsrnet(num_spks: int = 2, **options) -> SFSRNet:
    """An SFSRNet with small layers; `options` are those of the separator."""
    masknet = Dual_Path_Model(
        8,
        8,
        ConvTransformer(1, 8, 2, 16),
        ConvTransformer(1, 8, 2, 16),
        num_layers=2,
        K=20,
        num_spks=num_spks,
        linear_layer_after_inter_intra=False,
    )
    decoder = Decoder(in_channels=8, out_channels=1, kernel_size=16, stride=8, bias=False)
    separator = DualPathSeparator(Encoder(16, 8), masknet, decoder, **options)
    return SFSRNet(separator, SuperResolution(num_spks, channels=(4, 4, 4), kernels=(3, 3, 3, 3)))


def pytest_collection_finish():
    """Start what scripts are forked from, before the code under test starts one with less in it."""
    if "benchmarks.ranks" in sys.modules:
        forkserver.ensure_running()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def model_folder(tmp_path) -> Path:
    """An exported, untrained model with small layers."""
    hparams_file = tmp_path / "tiny.yaml"
    hparams_file.write_text(TINY)
    return export_model(tiny_sfsrnet(), hparams_file, {}, tmp_path / "model")


@pytest.fixture
def tiny_model() -> SFSRNet:
    return tiny_sfsrnet()


@pytest.fixture(autouse=True)
def _names_in_doctests(doctest_namespace):
    doctest_namespace["torch"] = torch


@pytest.fixture
def speech() -> Path:
    """Folder of real speech, which is not part of the project."""
    if not SPEECH.is_dir():
        pytest.skip("real speech is not here: ../shared/speech beside the project is missing")
    return SPEECH
