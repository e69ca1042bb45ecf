import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from sfsrnet_modules import inference
from sfsrnet_modules.inference import SFSRNetSeparation, at_mixture_level
from sfsrnet_modules.separate import main, separate


@pytest.fixture
def separator(model_folder):
    return SFSRNetSeparation.from_hparams(source=str(model_folder))


def test_exported_folder_gives_the_models_own_answer(model_folder, separator):
    state = load_file(model_folder / "model.safetensors")
    loaded = separator.mods.model.state_dict()
    assert state.keys() == loaded.keys() and all(torch.equal(state[k], loaded[k]) for k in state)
    mixture = torch.randn(2, 1001)
    assert torch.equal(separator.separate_batch(mixture), separator.mods.model(mixture)[-1])


def test_exported_folder_stands_alone(model_folder):
    text = (model_folder / "hyperparams.yaml").read_text()
    assert "output_folder" not in text and "data_folder" not in text
    names = sorted(p.name for p in model_folder.iterdir())
    assert names == ["hyperparams.yaml", "model.safetensors"]


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (8000, 2), (44100, 2), (16000, 8)])
def test_any_rate_and_number_of_channels(separator, tmp_path, rate, channels):
    path = tmp_path / "recording.flac"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((rate, channels)), rate)
    assert separator.separate_file(path).shape == (1, 8000, 2)


def test_bfloat16_is_near_and_only_where_the_processor_has_it(model_folder, separator, monkeypatch):
    mixture = torch.randn(1, 4000)
    run_opts = {"precision": "bf16"}
    quick = SFSRNetSeparation.from_hparams(source=str(model_folder), run_opts=run_opts)
    monkeypatch.setattr(inference, "cpu_has_bfloat16", lambda: False)
    plain = SFSRNetSeparation.from_hparams(source=str(model_folder), run_opts=run_opts)
    expected = separator.separate_batch(mixture)
    assert torch.equal(plain.separate_batch(mixture), expected) and plain.precision == "fp32"
    if quick.precision == "bf16":
        answer = quick.separate_batch(mixture)
        assert answer.dtype == torch.float32
        assert 0 < (answer - expected).norm() / expected.norm() < 0.03


def test_silence_stays_silence(separator, tmp_path):
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(4000), 8000)
    assert separator.separate_file(path).abs().max() < 1e-6


def test_levels_come_from_the_mixture():
    sources = torch.randn(2, 4000, 2) * torch.tensor([0.01, 0.3])
    scaled = sources * torch.tensor([40.0, -0.2])  # SI-SNR leaves scale and sign open
    levels = at_mixture_level(scaled, sources.sum(2)).square().mean(1)
    change = 10 * torch.log10(levels / sources.square().mean(1))  # dB
    assert change.abs().max() < 0.1


def test_samples_that_are_not_finite_are_refused(separator):
    mixture = torch.randn(1, 800)
    mixture[0, 5] = torch.nan
    with pytest.raises(ValueError, match="1 of the mixture's 800 samples"):
        separator.separate_batch(mixture)


def test_shell_writes_voices_and_names_what_it_cannot_read(model_folder, tmp_path, capsys):
    good, bad = tmp_path / "talk.wav", tmp_path / "notes.wav"
    soundfile.write(good, 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    bad.write_text("not audio")
    arguments = [str(bad), str(good), "--model", str(model_folder), "-o", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "notes.wav can't be read as audio" in capsys.readouterr().err
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["talk_voice1.wav", "talk_voice2.wav"]
    assert soundfile.info(tmp_path / "out" / "talk_voice1.wav").frames == 8000


def test_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["talk.wav", "--model", str(tmp_path)])
    assert f"error: no model at {tmp_path}" in stopped.value.code


def test_a_voice_that_would_clip_turns_all_down_alike(separator, tmp_path, capsys):
    path = tmp_path / "loud.wav"
    separator.separate_file = lambda path: torch.tensor([[[2.0, 0.5], [-1.0, 0.2]]])
    first, second = (soundfile.read(p)[0] for p in separate(separator, path, tmp_path))
    assert np.allclose(first, [0.99, -0.495], atol=1e-4) and np.allclose(
        second[0], 0.2475, atol=1e-4
    )
    assert "turned down by the factor 0.49" in capsys.readouterr().out
