import numpy as np
import pytest
import soundfile

from sfsrnet_modules.common import audio_io as audio_files
from sfsrnet_modules.common.audio_io import open_audio, read_mono


def read(path) -> np.ndarray:
    with open_audio(path) as file:
        return np.concatenate(list(read_mono(file)))


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_blocks_are_the_mean_of_the_channels(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(audio_files, "BLOCK", 3000)
    path = tmp_path / f"talk.{ending}"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((20000, 2)), 16000)
    whole = soundfile.read(path, dtype="float32")[0].mean(1)
    assert np.allclose(read(path), whole, atol=1e-6)


def test_the_first_sample_that_is_not_finite_is_told(tmp_path):
    path = tmp_path / "broken.wav"
    samples = np.zeros((8000, 2))
    samples[6000, 1] = np.nan
    samples[7000, 0] = np.inf
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"NaN or infinite, the first at 0\.75 s"):
        read(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("gone.wav", "there is no file"), ("notes.wav", "can't be read as audio"), ("a.raw", "rate")],
)
def test_what_is_no_audio_is_named(tmp_path, name, reason):
    if name != "gone.wav":
        (tmp_path / name).write_text("not audio")
    with pytest.raises(ValueError, match=rf"{name}.*" if "file" not in reason else reason) as told:
        read(tmp_path / name)
    assert reason in str(told.value)


def test_no_samples_are_told(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    with pytest.raises(ValueError, match=r"empty\.wav holds no samples"):
        read(tmp_path / "empty.wav")
