import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models.dual_path import Dual_Path_Model, Encoder, SBRNNBlock

from benchmarks.ranks import SIZES
from conftest import ROOT, tiny_sfsrnet
from sfsrnet_modules.common.audio_io import open_audio, read_mono
from sfsrnet_modules.common.hparams import read_hparams
from sfsrnet_modules.models.dual_path import DualPathSeparator
from sfsrnet_modules.models.full_band import FullBand
from sfsrnet_modules.models.sfsrnet import SFSRNet
from sfsrnet_modules.models.upper_band import UpperBand
from sfsrnet_modules.publishing import onnx
from sfsrnet_modules.publishing.onnx import Answer, any_length, export_onnx

onnxruntime = pytest.importorskip("onnxruntime")
TOLERANCE = 1e-4  # of the loudest sample


def trained(model: SFSRNet) -> SFSRNet:
    """Give the layer that starts at zero weights of its own, as training does."""
    *_, last = (m for m in model.super_resolution.layers if isinstance(m, torch.nn.Conv2d))
    torch.nn.init.normal_(last.weight, std=0.3)
    return model.eval()


SMALL = {**SIZES, "kernel": 16, "blocks": 1, "rates": [8000], "sr_channels": [4, 4, 4]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model of the form that comes along, with small layers: an export takes half a minute."""
    torch.manual_seed(0)
    text = read_hparams(ROOT / "hparams/shipped.yaml")
    model = trained(load_hyperpyyaml(text, SMALL | {"data_folder": "nowhere"})["model"])
    path = export_onnx(model, tmp_path_factory.mktemp("onnx") / "model.onnx", 8000)
    return model, onnxruntime.InferenceSession(path)


def difference(exported, mixture: torch.Tensor) -> float:
    model, session = exported
    voices = torch.from_numpy(session.run(None, {"mixture": mixture.numpy()})[0])
    with torch.inference_mode():
        expected = model(mixture)[-1]
    assert voices.shape == expected.shape
    return ((voices - expected).abs().max() / expected.abs().max()).item()


# the last needs 4001 positions of the inter models, the table has 2500
@pytest.mark.parametrize(("batch", "length"), [(1, 16), (3, 1001), (2, 5555), (1, 320_000)])
def test_any_batch_and_length(exported, batch, length):
    assert difference(exported, 0.1 * torch.randn(batch, length)) < TOLERANCE


def test_real_speech_and_silence(exported, speech):
    path = sorted(speech.glob("librispeech/*/*.flac"))[0]
    with open_audio(path) as file:
        mixture = torch.from_numpy(np.concatenate(list(read_mono(file))))[None, ::2]  # [1, T]
    mixture[:, 8000:16000] = 0.0
    assert difference(exported, mixture) < TOLERANCE


PEAK_MEMORY = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
session.run(None, {"mixture": numpy.ones((1, int(sys.argv[2])), dtype=numpy.float32)})
peak, = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak.split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_hold_the_weights_of_all_rows(exported):
    length = 320_000  # 4001 positions: the weights of 20 rows and 2 heads are 2.6 GB
    command = [sys.executable, "-c", PEAK_MEMORY, exported[1]._model_path, str(length)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # kB
    assert peak < 1_000_000


@pytest.mark.parametrize(("gain", "offset"), [(1e-4, 0.0), (1.0, 0.5), (1e-3, -0.1)])
def test_levels_and_offsets(exported, gain, offset):
    assert difference(exported, gain * torch.randn(2, 3001) + offset) < TOLERANCE


def test_file_says_its_rate(exported):
    assert exported[1].get_modelmeta().custom_metadata_map["sample_rate"] == "8000"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"heuristic": False},
        {"target": "complex_mask"},
        {"target": "complex_residual"},
        {"form": "subpixel"},
    ],
)
@pytest.mark.parametrize("length", [16, 255, 1001])
def test_form_for_onnx_gives_the_models_own_answer(length, options):
    model = tiny_sfsrnet()
    sr = type(model.super_resolution)
    model.super_resolution = sr(2, channels=(4, 4, 4), kernels=(3, 3, 3, 3), **options)
    trained(model)
    mixture = torch.randn(2, length)
    with torch.inference_mode(), any_length():
        answer = Answer(model)(mixture)
    expected = model(mixture)[-1]
    assert torch.allclose(answer, expected, atol=1e-5)
    assert (expected - model(mixture)[0]).abs().max() > 0.01  # SR does something


def test_recurrent_models_are_refused(tiny_model, tmp_path):
    rnn = SBRNNBlock(8, 8, num_layers=1, bidirectional=True)
    masknet = Dual_Path_Model(8, 8, rnn, rnn, num_layers=1, K=20)
    separator = DualPathSeparator(Encoder(16, 8), masknet, tiny_model.separator.decoder)
    with pytest.raises(ValueError, match="recurrent layers"):
        export_onnx(SFSRNet(separator), tmp_path / "model.onnx", 8000)
    assert not any(tmp_path.iterdir())


def test_a_network_that_differs_is_refused(exported, tmp_path, monkeypatch):
    model, session = exported
    once_more = Mock(save=lambda path: shutil.copy(session._model_path, path))
    once_more.model.metadata_props = {}
    monkeypatch.setattr(onnx, "_trace", lambda *_: once_more)
    assert export_onnx(model, tmp_path / "model.onnx", 8000).unlink() is None
    monkeypatch.setattr(onnx, "largest_difference", lambda *_: 0.5)
    with pytest.raises(ValueError, match=r"differs from PyTorch's by 5\.0e-01"):
        export_onnx(model, tmp_path / "model.onnx", 8000)
    assert not any(tmp_path.iterdir())


def test_a_model_of_two_rates_is_refused(tiny_model, tmp_path):
    model = FullBand(tiny_model, UpperBand(channels=8), 16000)
    with pytest.raises(ValueError, match=r"two rates .* can't be exported as ONNX, as"):
        export_onnx(model, tmp_path / "model.onnx", 16000)
