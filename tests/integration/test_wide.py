"""The full band as users get it: trained on a finished model, resumed, exported, in the shell."""

import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from safetensors.torch import load_file

from benchmarks.ranks import SIZES, TINY
from benchmarks.voices import voice, write_corpus
from conftest import ROOT
from sfsrnet_modules.apps import separate
from sfsrnet_modules.common.hparams import read_hparams
from sfsrnet_modules.inference import SFSRNetSeparation
from sfsrnet_modules.publishing.export import export_model
from sfsrnet_modules.publishing.training_run import TrainingRun
from tests import scripts

PROBE = str(ROOT / "tests/integration/probe.py")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory) -> Path:
    """A model folder at 8 kHz, untrained, with small layers."""
    hparams_file = ROOT / "hparams/shipped.yaml"
    overrides = {"data_folder": "nowhere", **SIZES}
    model = load_hyperpyyaml(read_hparams(hparams_file), overrides)["model"]
    return export_model(model, hparams_file, overrides, tmp_path_factory.mktemp("narrow") / "model")


@pytest.fixture(scope="module")
def trained(narrow, tmp_path_factory) -> Path:
    """A training that was killed in its second epoch, and went on."""
    folder = tmp_path_factory.mktemp("wide")
    corpus = write_corpus(folder / "corpus", rate=16000)
    keys = {**TINY, **SIZES, "upper_channels": 8, "ckpt_interval_steps": 1}
    keys |= {"data_folder": corpus, "output_folder": folder / "results", "start_from": narrow}
    keys |= {"source_weights": "null", "cache_folder": folder / "cache"}
    del keys["rates"]  # of the narrow model's loss
    options = ["hparams/wide.yaml", *(w for k, v in keys.items() for w in (f"--{k}", str(v)))]
    killed = scripts.run(PROBE, "kill", folder, *options)
    assert killed.returncode == -signal.SIGKILL
    done = scripts.run("train.py", *options)
    assert done.returncode == 0, done.stderr
    return folder / "results"


def test_only_the_upper_band_is_trained(trained, narrow):
    weights = load_file(trained / "model/model.safetensors")
    for name, value in load_file(narrow / "model.safetensors").items():
        assert torch.equal(weights.pop(f"narrow.{name}"), value), name
    assert weights["super_resolution.layers.9.weight"].abs().max() > 0  # it starts at zero
    (checkpoint,) = TrainingRun(trained).best_checkpoints()
    optimizer = torch.load(checkpoint.paramfiles["optimizer"])
    assert len(optimizer["param_groups"][0]["params"]) == len(weights)


def test_the_card_names_where_the_lower_band_comes_from(trained):
    card = (trained / "model/README.md").read_text()
    assert "16 kHz audio" in card and "began with the weights of `model`, whose card" in card


def test_the_folder_stands_alone_and_gives_the_trained_answer(trained):
    assert "start_from" not in (trained / "model/hyperparams.yaml").read_text()
    separator = SFSRNetSeparation.from_hparams(trained / "model")
    assert separator.hparams.sample_rate == 16000
    (checkpoint,) = TrainingRun(trained).best_checkpoints()
    best = torch.load(checkpoint.paramfiles["model"])
    exported = separator.mods.model.state_dict()
    assert all(torch.equal(best[name], exported[name]) for name in best)


def test_a_stereo_recording_becomes_voices_with_the_full_band(trained, tmp_path):
    """A meeting of two voices with pauses in 48 kHz, through the shell."""
    rng = np.random.default_rng(0)
    voices = np.stack([voice(pitch, 4.0, rng, 48000) for pitch in (110, 210)], axis=1)
    hiss = 0.02 * rng.standard_normal(voices.shape)  # up to 24 kHz, with the voices
    voices = voices + hiss * (np.abs(voices) > 0.01)
    voices[:48000, 0], voices[-48000:, 1] = 0, 0  # pauses
    stereo = voices @ [[1.0, 0.6], [0.5, 1.0]]
    soundfile.write(tmp_path / "meeting.wav", 0.5 * stereo, 48000)
    options = ["--model", trained / "model", "-o", tmp_path, "--rate", "model"]
    assert separate.main([str(w) for w in (tmp_path / "meeting.wav", *options)]) == 0
    mixture, _ = soundfile.read(tmp_path / "meeting.wav")
    expected = energy_above(mixture.mean(1), 48000)
    found = 0.0
    for path in (tmp_path / "meeting_voice1.wav", tmp_path / "meeting_voice2.wav"):
        signal_, rate = soundfile.read(path)
        assert rate == 16000 and len(signal_) == 4 * 16000
        found += energy_above(signal_, rate)
    assert found == pytest.approx(expected, rel=0.5)


def energy_above(waveform: np.ndarray, rate: int) -> float:
    """Energy of a waveform from 4.5 to 7.5 kHz, in samples of 16 kHz."""
    spectrum = np.abs(np.fft.rfft(waveform)) ** 2
    frequencies = np.fft.rfftfreq(len(waveform), 1 / rate)
    inside = (frequencies > 4500) & (frequencies < 7500)
    return spectrum[inside].sum() / len(waveform) / (rate / 16000)
