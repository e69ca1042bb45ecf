"""The same mixtures clean, with noise, in a room and with both, by one command."""

import shutil

import pandas as pd
import pytest

import evaluate
from benchmarks.voices import write_corpus
from data_prep.corpora import folder, recognise
from data_prep.corpora.acoustics import Acoustics
from data_prep.mixing import rooms
from sfsrnet_modules.inference import SFSRNetSeparation


def words(options: dict) -> list[str]:
    return [text for key, value in options.items() for text in (f"--{key}", str(value))]


def test_one_command_scores_every_condition(model_folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyroomacoustics")
    monkeypatch.setattr(rooms, "NUMBERS", {"train": 1, "valid": 1, "test": 2})
    corpus = write_corpus(tmp_path / "voices")
    folder.prepare(corpus, tmp_path, 8000, num_valid=2, num_test=2, max_duration=1.0)
    options = {"model": model_folder, "manifest": tmp_path / "test.csv", "data_folder": corpus}
    options |= {"rooms": tmp_path / "rooms", "output": tmp_path / "scores.csv", "workers": 0}
    arguments = words(options)
    seconds = []
    whole = SFSRNetSeparation.separate_batch
    monkeypatch.setattr(
        SFSRNetSeparation,
        "separate_batch",
        lambda self, mix, block=None: (
            seconds.append(mix.shape[1] / 8000) or whole(self, mix, block)
        ),
    )
    assert evaluate.main([*arguments, "--conditions", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    for name in ("clean", "noise", "room", "room+noise"):
        assert f"\n{name} " in printed
        scores = pd.read_csv(tmp_path / f"scores/{name}-results.csv")
        assert len(scores) == 2 and scores["si_snr_i"].notna().all()
    assert seconds == [16.0, 16.0, 16.0, 16.0]  # a conversation of 45 s, in overlapping segments


def test_one_voice_has_no_noise_of_the_manifest(model_folder, tmp_path):
    corpus, out = write_corpus(tmp_path / "voices"), tmp_path / "manifests"
    acoustics = Acoustics(8000, noise_kinds=["coloured"])
    recognise.prepare(corpus, out, 8000, num_valid=2, num_test=2, acoustics=acoustics)
    options = {"model": model_folder, "manifest": out / "test.csv", "data_folder": corpus}
    options |= {"output": tmp_path / "scores.csv", "workers": 0, "device": "cpu"}
    arguments = words(options)
    assert "snr" in pd.read_csv(out / "test.csv")
    assert evaluate.main([*arguments, "--conditions"]) == 0
    assert "snr" not in pd.read_csv(tmp_path / "scores/one-voice.csv")
    assert "snr" in pd.read_csv(tmp_path / "scores/noise.csv")


def test_a_folder_that_has_grown_is_tested_again(model_folder, tmp_path):
    corpus = write_corpus(tmp_path / "voices")
    options = {"model": model_folder, "data_folder": corpus, "num_test": 2, "workers": 0}
    arguments = words(options)
    arguments += ["--output", str(tmp_path / "scores"), "--device", "cpu"]  # no ending
    assert evaluate.main(arguments) == 0
    shutil.rmtree(corpus)
    write_corpus(corpus, num_speakers=12)
    (tmp_path / "scores.csv").unlink()
    assert evaluate.main(arguments) == 0
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 2


def test_without_a_manifest_as_many_mixtures_are_drawn_as_asked_for(model_folder, tmp_path):
    options = {"model": model_folder, "data_folder": write_corpus(tmp_path / "voices")}
    options |= {"num_test": 3, "output": tmp_path / "scores.csv", "workers": 0}
    arguments = words(options)
    assert evaluate.main([*arguments, "--device", "cpu"]) == 0
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 3
