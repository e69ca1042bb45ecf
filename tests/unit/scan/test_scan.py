"""Measuring the files of a corpus."""

import logging

import numpy as np
import pytest
import soundfile as sf

from data_prep.scan import scan as scan_module
from data_prep.scan.scan import NAMED, require_usable, scan, usable


def add_noise(path, seconds=1.5, rate=8000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).normal(0, 0.1, (round(seconds * rate), channels))
    sf.write(path, samples, rate)


def test_rows_hold_what_was_measured(tmp_path):
    add_noise(tmp_path / "s" / "a.wav", rate=16000)
    (row,) = scan(tmp_path, ["s/a.wav"], 8000, lambda name: name[0]).to_dict("records")
    assert row.pop("level_db") == pytest.approx(-20, abs=0.1)
    facts = {"ID": "s/a.wav", "speaker": "s", "wav": "$data_root/s/a.wav", "problem": ""}
    assert row == facts | {
        "duration": 1.5,
        "sample_rate": 16000,
        "measure": "rms",
        "channels": 1,
    }
    loud = scan(tmp_path, ["s/a.wav"], 8000, str, "lufs", "noise_root")
    assert loud["wav"][0] == "$noise_root/s/a.wav"
    assert -22 < loud["level_db"][0] < -14  # K-weighting lifts what lies above 2 kHz


def test_wav_written_to_a_pipe_is_whole(tmp_path):
    add_noise(tmp_path / "s" / "pipe.wav", rate=8000)
    data = bytearray((tmp_path / "s" / "pipe.wav").read_bytes())
    size = data.find(b"data") + 4
    data[size : size + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "s" / "pipe.wav").write_bytes(data)
    files = scan(tmp_path, ["s/pipe.wav"], 8000, str)
    assert files["duration"].tolist() == [1.5] and files["problem"].tolist() == [""]


def test_several_channels_are_said_once(tmp_path, caplog):
    sf.write(tmp_path / "stereo.wav", np.tile([0.1, 0.9], (8000, 1)), 8000)
    with caplog.at_level(logging.INFO):
        pool = usable(scan(tmp_path, ["stereo.wav"], 8000, str)).set_index("ID")
    assert caplog.text.count("1 files have several channels: the first is taken") == 1
    assert pool.loc["stereo.wav", "level_db"] == pytest.approx(-20, abs=0.01)


def test_all_problems_are_told_at_once(tmp_path):
    add_noise(tmp_path / "whole.wav")
    add_noise(tmp_path / "rate.wav", rate=44100)
    sf.write(tmp_path / "silent.wav", np.zeros(8000), 8000)  # a corpus may want it
    (tmp_path / "empty.wav").touch()
    names = ["whole.wav", "silent.wav"]
    require_usable(scan(tmp_path, names, 8000, str), 8000, tmp_path, "")
    files = scan(tmp_path, [*names, "rate.wav", "empty.wav", "gone.wav"], 8000, str)
    with pytest.raises(ValueError, match="3 of the 5 files wanted cannot be used") as told:
        require_usable(files, 8000, tmp_path, "copy them")
    for text in (
        "1 missing: gone.wav",
        "1 not readable as audio, or truncated: empty.wav",
        "1 sampled at 44100 Hz instead of 8000 Hz: rate.wav",
        ": copy them",
    ):
        assert text in str(told.value)
    assert not (tmp_path / "problems.csv").exists()


def test_a_stopped_scan_goes_on_where_it_was(tmp_path, monkeypatch):
    names = [f"{n}.wav" for n in range(6)]
    for name in names:
        add_noise(tmp_path / name)
    kept = tmp_path / "kept"
    scan(tmp_path, names[:4], 8000, str, folder=kept)
    lines = (kept / "scanned.jsonl").read_text()
    lost = lines[lines.rindex(".wav") - 1 :][:5]
    (kept / "scanned.jsonl").write_text(lines[: lines.rindex(".wav")])  # killed while writing
    add_noise(tmp_path / "1.wav", seconds=1.0)  # changed since
    measured = []

    def measure(path, *rest):
        measured.append(path.name)
        return real(path, *rest)

    real = scan_module._measure
    monkeypatch.setattr(scan_module, "_measure", measure)
    files = scan(tmp_path, names, 8000, str, folder=kept)
    assert sorted(measured) == sorted({"1.wav", "4.wav", "5.wav", lost})
    assert files.equals(scan(tmp_path, names, 8000, str))
    measured.clear()
    scan(tmp_path, names, 8000, str, folder=kept)
    assert not measured
    scan(tmp_path, names, 8000, str, "lufs", folder=kept)
    assert len(measured) == 6


def test_many_problems_are_told_in_a_table(tmp_path):
    files = scan(tmp_path, [f"{n}.wav" for n in range(NAMED + 1)], 8000, str)
    with pytest.raises(ValueError, match=r"21 missing: 0\.wav, .*all of them in .*problems\.csv"):
        require_usable(files, 8000, tmp_path, "")
    assert len((tmp_path / "problems.csv").read_text().splitlines()) == NAMED + 2
