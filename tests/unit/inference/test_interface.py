import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from speechbrain.inference.separation import SepformerSeparation

from sfsrnet_modules.common import precision
from sfsrnet_modules.common.mixture_level import at_mixture_level
from sfsrnet_modules.inference import SFSRNetSeparation, interface
from sfsrnet_modules.models.conditioning import Conditioning


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
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
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


def test_samples_that_are_not_finite_are_refused(separator):
    mixture = torch.randn(1, 800)
    mixture[0, 5] = torch.nan
    with pytest.raises(ValueError, match="1 of the mixture's 800 samples"):
        separator.separate_batch(mixture)


@pytest.mark.parametrize("shape", [(800,), (1, 800, 2), (1, 0)])
def test_what_is_no_batch_of_mixtures_is_told(separator, shape):
    with pytest.raises(ValueError, match=r"the mixture has shape .*; expected \[batch, samples\]"):
        separator.separate_batch(torch.randn(shape))


def test_double_precision_is_taken(separator):
    mixture = torch.randn(1, 800)
    expected = separator.separate_batch(mixture)
    assert torch.equal(separator.separate_batch(mixture.double()), expected)


def test_a_path_that_is_not_there_is_not_looked_for_elsewhere(separator, monkeypatch):
    monkeypatch.setattr(interface, "fetch", None)
    for path in ("nothing.wav", "/no/such/folder/talk.wav", "far/too/deep/talk.wav"):
        with pytest.raises(ValueError, match="can't be read as audio: there is no such file"):
            separator.separate_file(path)


def test_offset_and_hum_do_not_change_levels(separator, monkeypatch):
    """Where one output of the model is far softer than the other, as SI-SNR leaves it."""
    sources = 0.1 * torch.randn(80_000, 2)
    hum = 0.3 * torch.sin(2 * torch.pi * 50 / 8000 * torch.arange(80_000)) + 0.2
    scaled = sources * torch.tensor([30.0, 1.0])
    monkeypatch.setattr(separator, "separate_batch", lambda *_: scaled[None])
    voices = torch.cat(list(separator.stream([sources.sum(1) + hum])))
    change = 20 * (voices.norm(dim=0) / sources.norm(dim=0)).log10()  # dB
    assert change.abs().max() < 1.5  # some hum is left at the edges


def noise(path, seconds=1.0, rate=8000, channels=1):
    shape = (round(seconds * rate), channels)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(shape), rate)
    return path


def test_estimates_on_request(separator):
    mixture = torch.randn(1, 1000)
    every = separator.separate_estimates(mixture, all_estimates=True)
    assert every.shape == (3, 1, 1000, 2)  # after blocks 1 and 2, refined
    for block in (1, 2):
        assert torch.allclose(separator.separate_batch(mixture, block), every[block - 1], atol=1e-6)
    before_sr, refined = separator.separate_estimates(mixture)
    assert torch.allclose(before_sr, every[1], atol=1e-6) and torch.equal(refined, every[2])
    with pytest.raises(ValueError, match="no estimate after block 7"):
        separator.separate_batch(mixture, block=7)


def test_a_short_recording_is_separated_in_one_piece(separator, tmp_path):
    path = noise(tmp_path / "talk.wav", 2)
    mixture = separator.load_mixture(path)
    audible = Conditioning(8000).audible(mixture)
    expected = at_mixture_level(separator.separate_batch(mixture), audible)
    assert torch.allclose(separator.separate_file(path), expected, atol=1e-6)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (8000, 1), (11025, 1), (192000, 8)])
def test_voices_at_the_recordings_rate_have_its_very_length(separator, tmp_path, rate, channels):
    path = noise(tmp_path / "talk.wav", 2.0007, rate, channels)
    num_samples = soundfile.info(path).frames
    voices = separator.separate_file(path, rate="input", segment=1.0)
    assert voices.shape == (1, num_samples, 2)
    for written in separator.separate_long(path, tmp_path / "out"):
        info = soundfile.info(written)
        assert (info.frames, info.samplerate, info.channels) == (num_samples, rate, 1)


def test_long_equals_stream_equals_file(separator, tmp_path):
    path = noise(tmp_path / "talk.wav", 5)
    seconds = []
    options = {"segment": 2.0, "overlap": 0.4, "block": 1}
    written = separator.separate_long(path, tmp_path, progress=seconds.append, **options)
    assert written == [tmp_path / "talk_voice1.wav", tmp_path / "talk_voice2.wav"]
    assert sum(seconds) == pytest.approx(5)
    voices = separator.separate_file(path, **options)[0]
    blocks = separator.load_mixture(path)[0].split(999)
    assert torch.allclose(torch.cat(list(separator.stream(blocks, **options))), voices, atol=1e-6)
    for voice, wav in zip(voices.mT, written, strict=True):
        assert np.abs(soundfile.read(wav)[0] - voice.numpy()).max() < 1e-4


def streamed(voices: torch.Tensor):
    """A stream that gives `voices` [T, C] for whatever it is given."""

    def stream(blocks, heard, **options):
        list(blocks)
        heard.hear(voices)
        yield voices

    return stream


@pytest.mark.parametrize("drop_empty", [False, True])
def test_an_output_without_a_voice_is_silent_or_left_away(
    separator, tmp_path, caplog, monkeypatch, drop_empty
):
    path = noise(tmp_path / "alone.wav", 1)
    voices = 0.1 * torch.randn(8000, 2) * torch.tensor([0.1, 1.0])
    monkeypatch.setattr(separator, "stream", streamed(voices))
    with caplog.at_level("INFO"):
        written = separator.separate_long(path, tmp_path, drop_empty=drop_empty)
    assert "1 of 2 voices heard" in caplog.text
    assert [p.name for p in written] == ["alone_voice1.wav", "alone_voice2.wav"][drop_empty:]
    assert sorted(tmp_path.glob("alone_voice*")) == written
    assert np.abs(soundfile.read(written[-1])[0] - voices[:, 1].numpy()).max() < 1e-4
    if not drop_empty:
        assert not soundfile.read(written[0])[0].any()
    in_memory = separator.separate_file(path)[0]
    assert torch.equal(in_memory, voices * torch.tensor([0, 1]))


def test_gain_and_channels_are_told(separator, tmp_path, caplog, monkeypatch):
    path = noise(tmp_path / "loud.wav", 1, 8000, 2)
    loud = torch.tensor([[2.0, 0.9], [-1.0, 0.4]])
    monkeypatch.setattr(separator, "stream", streamed(loud))
    with caplog.at_level("INFO"):
        first, second = (soundfile.read(p)[0] for p in separator.separate_long(path, tmp_path))
    assert np.allclose(first, [0.99, -0.495], atol=1e-4)
    assert np.allclose(second, [0.4455, 0.198], atol=1e-4)
    assert "2 channels averaged to one" in caplog.text
    assert "voices turned down by the factor 0.495" in caplog.text


def test_a_rate_below_the_models_is_told(separator, tmp_path, caplog):
    assert separator.separate_file(noise(tmp_path / "phone.wav", 1, 4000)).shape == (1, 8000, 2)
    assert "has 4000 Hz, the model was trained on 8000 Hz" in caplog.text


@pytest.mark.parametrize(
    "options",
    [{"segment": 0.5}, {"overlap": 0}, {"segment": float("inf")}, {"segment": float("nan")}],
)
def test_segments_too_short_to_tell_voices_apart(separator, options):
    with pytest.raises(ValueError, match="segments of"):
        separator.stream([torch.randn(1, 800)], **options)


def test_unknown_rate(separator, tmp_path):
    with pytest.raises(ValueError, match="choose 'model' or 'input'"):
        separator.separate_file(noise(tmp_path / "talk.wav"), rate="8000")


def test_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"no model at {tmp_path}"):
        SFSRNetSeparation.from_hparams(tmp_path)


@pytest.mark.parametrize("source", ["nowhere", "results/nowhere/model", "/nowhere"])
def test_a_folder_that_is_not_there_is_not_looked_for_elsewhere(source, monkeypatch):
    monkeypatch.setattr(SepformerSeparation, "from_hparams", None)
    with pytest.raises(ValueError, match=f"no model at {source} .there is no such folder"):
        SFSRNetSeparation.from_hparams(source)


def test_folder_with_broken_weights_is_named(model_folder):
    (model_folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=f"no model at {model_folder}"):
        SFSRNetSeparation.from_hparams(model_folder)


def test_missing_default_model_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(interface, "DEFAULT_MODEL", tmp_path / "gone")
    with pytest.raises(ValueError, match=r"the default model is not at .*gone"):
        SFSRNetSeparation.from_hparams(tmp_path / "gone")


def test_default_model_separates():
    if not interface.DEFAULT_MODEL.is_dir():
        pytest.skip(f"the default model is missing: {interface.DEFAULT_MODEL}")
    separator = SFSRNetSeparation.from_hparams()
    assert separator.separate_batch(torch.randn(1, 4000)).shape == (1, 4000, 2)


def test_the_model_folder_as_savedir_is_left_as_it_is(model_folder, monkeypatch):
    before = sorted(model_folder.iterdir())
    SFSRNetSeparation.from_hparams(model_folder, savedir=str(model_folder))
    assert sorted(model_folder.iterdir()) == before
    monkeypatch.setenv("HOME", str(model_folder.parent))
    SFSRNetSeparation.from_hparams(f"~/{model_folder.name}")
