import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.scan.scan import scan
from sfsrnet_modules.common import audio_io
from sfsrnet_modules.common.audio_io import BLOCK, count_frames, open_audio, read_mono
from sfsrnet_modules.common.crops import read_audio


def read(path) -> np.ndarray:
    with open_audio(path) as file:
        return np.concatenate(list(read_mono(file)))


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_blocks_are_the_mean_of_the_channels(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(audio_io, "BLOCK", 3000)
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


def sound(num_frames: int = 16000, rate: int = 16000) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(num_frames) / rate)


def header_patched(path: Path, place: int, value: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[place : place + len(value)] = value
    path.write_bytes(data)


PAIRS = [
    (name, subtype)
    for name in soundfile.available_formats()
    for subtype in soundfile.available_subtypes(name)
    if name != "RAW"  # has no rate
]


@pytest.mark.parametrize(("name", "subtype"), PAIRS, ids=str)
def test_every_format_is_read_cropped_and_scanned(tmp_path, name, subtype):
    path = tmp_path / f"talk.{name.lower()}"
    rates = (16000, 8000)  # some telephony formats know 8000 alone
    for rate in rates:
        try:
            sent = sound(rate=rate)
            soundfile.write(path, sent, rate, format=name, subtype=subtype)
        except soundfile.LibsndfileError:  # listed, and not implemented
            continue
        break
    else:
        pytest.skip(f"libsndfile does not write {subtype} in {name}")
    with open_audio(path) as file:
        rate = file.samplerate  # some have one of their own
    whole = read(path)
    assert 16000 <= len(whole) < 16500  # some have blocks of fixed size
    assert np.corrcoef(whole[2000:14000], sent[2000:14000])[0, 1] > 0.9
    crop = read_audio(path, rate, start=4000 / rate, num_samples=3000)
    assert np.allclose(crop, whole[4000:7000], atol=1e-4)
    row = scan(tmp_path, [path.name], rate, str).iloc[0]
    assert (row["problem"], row["duration"]) == ("", len(whole) / rate)


def flac_of_unknown_length(path: Path) -> Path:
    soundfile.write(path, sound(), 16000)
    upper = path.read_bytes()[21] & 0xF0  # of the 36 bits that count the samples 4 are here
    header_patched(path, 21, bytes([upper, 0, 0, 0, 0]))
    return path


def test_a_flac_of_unknown_length_is_read_to_its_end(tmp_path):
    path = flac_of_unknown_length(tmp_path / "pipe.flac")
    with open_audio(path) as file:
        assert file.length is None and file.seconds is None
    whole = read(path)
    assert len(whole) == count_frames(path) == len(read_audio(path, 16000)) == 16000
    assert np.allclose(read_audio(path, 16000, 0.25, 12000), whole[4000:])
    assert len(read_audio(path, 8000)) == 8000
    with pytest.raises(OSError, match="is broken: it ends at 12000 of"):
        read_audio(path, 16000, 0.25, 12001)
    row = scan(tmp_path, [path.name], 8000, str).iloc[0]
    assert (row["problem"], row["duration"]) == ("", 1.0)


@pytest.mark.parametrize("start", [0.0, 0.3])
@pytest.mark.parametrize("size", ["0", "36", "whole"])
def test_a_wav_whose_length_was_never_written_is_read_to_its_end(tmp_path, size, start):
    path = tmp_path / "recorder.wav"
    soundfile.write(path, np.append(np.full(8, start), sound()), 16000)
    whole = path.read_bytes()
    header_patched(path, whole.index(b"data") + 4, bytes(4))
    if size != "whole":
        header_patched(path, 4, int(size).to_bytes(4, "little"))
    before = path.read_bytes()
    assert len(read(path)) == len(read_audio(path, 16000)) == 16008
    assert path.read_bytes() == before
    assert scan(tmp_path, [path.name], 8000, str)["duration"].item() == 16008 / 16000


def test_a_wav_that_is_empty_stays_so(tmp_path):
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0), 8000)
    path.write_bytes(path.read_bytes() + b"LIST" + (4).to_bytes(4, "little") + b"INFO")
    with pytest.raises(ValueError, match="holds no samples"):
        read(path)


ENDINGS_CUT = ["wav", "flac", "mp3", "ogg", "aiff", "au", "w64", "rf64"]


@pytest.mark.parametrize("ending", ENDINGS_CUT)
def test_truncated_files_are_told_and_whole_ones_are_not(tmp_path, caplog, ending):
    path = tmp_path / f"talk.{ending}"
    noise = 0.1 * np.random.default_rng(0).standard_normal(400_000)  # ogg: pages enough
    soundfile.write(path, noise, 16000, format=ending.upper())
    assert len(read(path)) == 400_000 and not caplog.text
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    seconds = len(read(path)) / 16000
    assert 12 < seconds < 16
    assert f"talk.{ending} is truncated: only its first {seconds:.2f} s are there" in caplog.text
    problem = scan(tmp_path, [path.name], 8000, str)["problem"].item()
    assert problem == "not readable as audio, or truncated"


@pytest.fixture
def longer(tmp_path) -> dict[str, Path]:
    """Recordings of 8 s of which libsndfile reads less, or says that they are cut."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(64_000)
    for ending in ("mp3", "ogg"):
        soundfile.write(tmp_path / f"half.{ending}", noise, 16000)
        half = (tmp_path / f"half.{ending}").read_bytes()
        (tmp_path / f"joined.{ending}").write_bytes(2 * half)
    quiet_end = np.append(noise, np.zeros(64_000))  # frames of a variable rate: a wrong guess
    soundfile.write(tmp_path / "bare.mp3", quiet_end, 16000)
    whole = (tmp_path / "bare.mp3").read_bytes()
    assert b"Xing" in whole[:1000]
    (tmp_path / "bare.mp3").write_bytes(whole.replace(b"Xing", bytes(4), 1))
    return {name: tmp_path / name for name in ("joined.mp3", "joined.ogg", "bare.mp3")}


@pytest.mark.parametrize("name", ["joined.mp3", "joined.ogg", "bare.mp3"])
def test_what_goes_on_behind_the_length_that_is_told_is_read(longer, caplog, name):
    pytest.importorskip("av")
    assert len(read(longer[name])) / 16000 == pytest.approx(8, abs=0.2)
    assert count_frames(longer[name]) == len(read(longer[name])) and not caplog.text
    found = scan(longer[name].parent, [name], 8000, str)
    assert found["problem"].item() == "" and found["duration"].item() == pytest.approx(8, abs=0.2)


def test_without_pyav_it_is_said_that_there_may_be_more(longer, caplog, monkeypatch):
    monkeypatch.setattr("sfsrnet_modules.common.decoding.is_installed", lambda: False)
    for path in longer.values():
        assert len(read(path)) > 0 and len(read(path)) > 0
        assert caplog.text.count(f"{path} may be longer than what is read of it") == 1


def test_what_pyav_cannot_decode_is_read_as_far_as_libsndfile_does(longer, caplog, monkeypatch):
    def broken(path) -> None:
        raise OSError("it can't be decoded")

    monkeypatch.setattr(audio_io, "decode", broken)
    monkeypatch.setattr("sfsrnet_modules.common.decoding.is_installed", lambda: True)
    assert len(read(longer["joined.ogg"])) == 64_000
    assert "joined.ogg may be longer" in caplog.text and "it can't be decoded" in caplog.text


@pytest.mark.parametrize("gain", [-1.0, -0.8, -0.4])
def test_channels_that_cancel_each_other(tmp_path, caplog, gain):
    path = tmp_path / "poles.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal(30000)
    silence = np.zeros(BLOCK)  # the first blocks say nothing
    left = np.concatenate([silence, noise])
    soundfile.write(path, np.stack([gain * left, left], axis=1), 16000, subtype="FLOAT")
    taken = read(path)
    assert np.allclose(np.abs(taken), np.abs(left), atol=1e-6)
    assert caplog.text.count("channels cancel each other") == 1
    assert f"channel {1 + (gain > -1)} alone is taken" in caplog.text  # the louder, or the first


def test_hum_that_nobody_hears_takes_no_channel_away(tmp_path, caplog):
    path = tmp_path / "call.wav"
    rng = np.random.default_rng(0)
    hum = 1e-4 * np.sin(np.arange(BLOCK) / 50)
    voices = 0.05 * rng.standard_normal((30000, 2))  # one caller left, one right
    channels = np.concatenate([np.stack([hum, -hum], axis=1), voices])
    soundfile.write(path, channels, 16000, subtype="FLOAT")
    assert np.allclose(read(path)[-30000:], voices.mean(1), atol=1e-6) and not caplog.text


@pytest.mark.parametrize("channels", [2, 8])
def test_channels_with_nothing_in_common_are_averaged(tmp_path, caplog, channels):
    path = tmp_path / "room.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal((30000, channels))
    soundfile.write(path, noise, 16000, subtype="FLOAT")
    assert np.allclose(read(path), noise.mean(1), atol=1e-6) and not caplog.text


def test_names_that_are_not_utf_8(tmp_path):
    path = tmp_path / "\udce4.wav"
    soundfile.write(os.fsencode(path), sound(), 16000)
    assert len(read(path)) == len(read_audio(path, 16000)) == 16000
    path.write_bytes(b"no audio")
    with pytest.raises(ValueError, match=r"\\xe4.wav can't be read") as told:
        read(path)
    str(told.value).encode()
