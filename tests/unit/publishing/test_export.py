"""Export of a training: the run is made up, its checkpoints are SpeechBrain's."""

import huggingface_hub
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.epoch_loop import EpochCounter

from conftest import TINY, tiny_sfsrnet
from sfsrnet_modules.inference import SFSRNetSeparation
from sfsrnet_modules.models.sfsrnet import SFSRNet
from sfsrnet_modules.models.weights import save_weights
from sfsrnet_modules.publishing.export import main

ORIGIN = "experiment: toy\nseed: 1\ndata_folder: !PLACEHOLDER\nepochs: 3\nlimit: !ref <epochs>\n"
ORIGIN += (
    "voices: {}\nkinds: [a]\nsteps:\n    seed: !ref <seed>\nlast: !ref <seed>\nown: !ref <seed>\n"
)
RUN = "experiment: toy\nseed: 7\ndata_folder: ../home/me/talk\nepochs: 3\nlimit: 3\n"
RUN += "voices: {1: 0.1}\nkinds: [a, b]\nsteps:\n    seed: 7\nlast: 7\nown: 8\n"
SCORES = {"duration": 1800.0, "si_snr": 4.0, "sdr_i": 6.0, "si_snr_i_before_sr": 3.0}


@pytest.fixture
def run(tmp_path):
    """Two epochs, the first better in validation; tested on three mixtures of two sources."""
    folder = tmp_path / "run"
    checkpoints = folder / "save"
    checkpoints.mkdir(parents=True)
    (tmp_path / "toy.yaml").write_text(ORIGIN + TINY)
    head = f"# Generated 2026-01-01 from:\n# {tmp_path / 'toy.yaml'}\n# yamllint disable\n"
    (folder / "hyperparams.yaml").write_text(head + RUN + TINY)
    (folder / "env.log").write_text("Git revision:\nabc1234\n====\n")
    (folder / "train_log.txt").write_text("epoch: 1, lr\nepoch: 2, lr\nepoch loaded: 1 - test\n")
    model, counter = tiny_sfsrnet(), EpochCounter(limit=2)
    checkpointer = Checkpointer(checkpoints, {"model": model, "counter": counter})
    for epoch, value in zip(counter, (5.0, 4.0), strict=True):
        torch.nn.init.constant_(model.separator.decoder.weight, float(epoch))
        checkpointer.save_checkpoint(meta={"si_snr_i": value})
    write_tables(folder)
    return folder


def write_tables(folder):
    manifests = folder / "manifests"
    manifests.mkdir()
    pool = pd.DataFrame({"ID": range(4), "duration": 3600.0, "speaker": list("aabc")})
    pool = pool.assign(source=["x", "x", "x", "y"], licence=["CC0", "CC0", "CC-BY-4.0", None])
    pool.to_csv(manifests / "pool.csv", index=False)
    names = ["x-1", "x-2", "y-1"]
    mixtures = pd.DataFrame({"ID": names, "duration": 1800.0, "speaker_1": "d", "speaker_2": "e"})
    mixtures.assign(source=["x", "x", "y"]).to_csv(manifests / "test.csv", index=False)
    scores = pd.DataFrame({"id": names, **SCORES, "si_snr_i": [1.0, 2.0, 6.0]})
    scores.to_csv(folder / "test_results.csv", index=False)


def export(run, *options: str):
    folder = run.parent / "toy-8k"
    main([str(run), "-o", str(folder), *options])
    return folder


def test_the_best_checkpoint_is_exported_and_loads(run):
    folder = export(run)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", "hyperparams.yaml", "model.safetensors"]
    separator = SFSRNetSeparation.from_hparams(folder)
    assert separator.mods.model.separator.decoder.weight.unique().tolist() == [1.0]


def test_checkpoints_are_averaged(run):
    folder = export(run, "--average", "2")
    weights = load_file(folder / "model.safetensors")
    assert weights["separator.decoder.weight"].unique().tolist() == [1.5]
    card = (folder / "README.md").read_text()
    assert "the average of those of epochs 1, 2" in card
    assert "These weights were not tested; those of epoch 1 were" in card
    assert "model-index" not in card


def test_the_start_has_its_share(run):
    start = tiny_sfsrnet()
    torch.nn.init.constant_(start.separator.decoder.weight, 9.0)
    (run.parent / "start").mkdir()
    save_weights(start, run.parent / "start/model.safetensors")
    with open(run / "hyperparams.yaml", "a") as file:
        file.write(f"start_from: {run.parent}/start\nstart_share: 0.25\n")
    folder = export(run)
    weights = load_file(folder / "model.safetensors")
    assert weights["separator.decoder.weight"].unique().tolist() == [3.0]
    assert "They have a share of 0.25 in its own." in (folder / "README.md").read_text()


def test_the_card_tells_of_every_condition(run):
    (run / "conditions").mkdir()
    scores = pd.DataFrame({"id": ["a", "b"], "duration": 2.0, "si_snr_i": [1.0, 3.0]})
    scores.to_csv(run / "conditions/room+noise-results.csv", index=False)
    alone = pd.DataFrame({"id": ["a"], "voice_si_snr": [20.0], "leak": [-15.0]})
    alone.to_csv(run / "conditions/one-voice-results.csv", index=False)
    card = (export(run) / "README.md").read_text()
    assert "| room+noise SI-SNRi | 2.00 dB | 1.00 to 3.00 | 2 |" in card
    assert "| one voice alone, the other output over it | -15.00 dB | nan to nan | 1 |" in card


def test_a_damaged_checkpoint_is_passed_over(run):
    best, *_ = sorted((run / "save").iterdir())
    (best / "checksums.json").write_text('{"model.ckpt": 0}')
    with open(best / "CKPT.yaml", "a") as meta:
        meta.write("checksums: checksums.json\n")
    separator = SFSRNetSeparation.from_hparams(export(run))
    assert separator.mods.model.separator.decoder.weight.unique().tolist() == [2.0]


def test_checkpoints_in_a_folder_of_their_own_are_found(run):
    (run / "save").rename(run.parent / "elsewhere")
    with open(run / "hyperparams.yaml", "a") as hparams:
        hparams.write(f"save_folder: {run.parent / 'elsewhere'}\n")
    assert (export(run) / "model.safetensors").is_file()


def test_the_folder_names_no_path(run):
    folder = export(run)
    for name in ("README.md", "hyperparams.yaml"):
        text = (folder / name).read_text()
        assert "home/me" not in text and str(run.parent) not in text


def test_card_has_the_front_matter_of_the_hub(run):
    card = huggingface_hub.ModelCard((export(run, "--license", "mit") / "README.md").read_text())
    assert card.data.license == "mit" and card.data.library_name == "speechbrain"
    assert card.data.pipeline_tag == "audio-to-audio" and card.data.datasets == ["x", "y"]
    assert [result.metric_value for result in card.data.eval_results] == [3.0, 6.0]


def test_card_tells_figures_data_and_command(run):
    note = run.parent / "note.md"
    note.write_text("Recorded at *home*.")
    card = (export(run, "--note", str(note)) / "README.md").read_text()
    assert "# toy-8k" in card and "Recorded at *home*." in card
    assert "| x | 2 | 1.00 | 1.50 dB | 6.00 dB | 3.00 dB |" in card
    assert "| all | 3 | 1.50 | 3.00 dB | 6.00 dB | 3.00 dB |" in card
    assert "| x | 2 | 3.00 | CC-BY-4.0, CC0 |" in card and "| y | 1 | 1.00 | unknown |" in card
    command = "python train.py hparams/toy.yaml --data_folder talk --seed 7"
    assert f"{command} --voices '{{1: 0.1}}' --kinds '[a, b]' --own 8\n" in card
    assert "3 mixtures of 2 other speakers kept for the test" in card
    assert "commit `abc1234`, seed 7" in card and "epoch 1, best in validation of 2" in card


def test_card_says_what_is_not_known(run):
    for name in ("env.log", "test_results.csv", "manifests/pool.csv"):
        (run / name).unlink()
    (run.parent / "toy.yaml").unlink()
    card = (export(run) / "README.md").read_text()
    assert "a commit that is not known" in card and "Not tested." in card
    assert "its manifests are not at hand" in card and "hparams/toy.yaml …" in card


def test_card_says_who_was_trained_on(run):
    test = pd.read_csv(run / "manifests/test.csv").assign(speaker_1="a")
    test.to_csv(run / "manifests/test.csv", index=False)
    card = (export(run) / "README.md").read_text()
    assert "3 mixtures of 2 speakers (1 of them trained on) kept for the test" in card


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", "No noise and no echo was added"),
        ("rooms: r", "No noise was added"),
        ("noise_folder: n", "No echo was added"),
        ("noise_kinds: [coloured]", "No echo was added"),
        ("mixture: both", "No echo was added"),
        ("mixture: clean_reverb", "No noise was added"),
        ("mixture: both_reverb", None),
        ("rooms: r\nnoise_folder: n", None),
    ],
)
def test_the_card_says_what_was_not_in_the_mixtures(run, keys, expected):
    with open(run / "hyperparams.yaml", "a") as file:
        file.write(f"{keys}\n")
    card = (export(run) / "README.md").read_text()
    assert ("strange to it" in card) == (expected is not None)
    assert expected is None or f"- {expected} to its mixtures" in card


def test_onnx_is_written_on_request(run, monkeypatch):
    def write(model, path, sample_rate):  # what the file holds: test_onnx.py
        assert isinstance(model, SFSRNet) and sample_rate == 8000
        path.write_bytes(b"a network")

    monkeypatch.setattr("sfsrnet_modules.publishing.export.export_onnx", write)
    folder = export(run, "--onnx")
    assert (folder / "model.onnx").read_bytes() == b"a network"
    export(run, "--onnx")
    assert (folder / "model.onnx").exists()
    text = (folder / "README.md").read_text()
    export(run)  # may be of other weights
    assert not (folder / "model.onnx").exists()
    assert "`model.onnx` holds the same network" in text


def test_an_older_export_is_replaced_whole(run, monkeypatch):
    folder = export(run)
    (folder / "model.ckpt").write_text("of an older version")
    before = (folder / "README.md").read_text()
    broken = {
        "sfsrnet_modules.publishing.export.save_weights": OSError(28, "No space left on device")
    }
    for name, error in broken.items():
        monkeypatch.setattr(name, lambda *args, error=error: (_ for _ in ()).throw(error))
    with pytest.raises(SystemExit, match="can't be written: No space left"):
        export(run, "--license", "mit")
    assert (folder / "README.md").read_text() == before and (folder / "model.ckpt").exists()
    monkeypatch.undo()
    export(run, "--license", "mit")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", "hyperparams.yaml", "model.safetensors"]


def test_files_that_no_export_wrote_are_not_replaced(run):
    folder = run.parent / "toy-8k"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    with pytest.raises(
        SystemExit, match=r"README.md is of no exported model and would be replaced"
    ):
        export(run)
    assert (folder / "README.md").read_text() == "mine"
    kept = (run / "hyperparams.yaml").read_text()
    with pytest.raises(SystemExit, match=r"hyperparams.yaml is of no exported model"):
        main([str(run), "-o", str(run)])
    assert (run / "hyperparams.yaml").read_text() == kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--average", "3"], "2 checkpoints with a validation in .*, 3 wanted"),
        (["--average", "0"], "average 1 checkpoint at least, not 0"),
        (["--note", "nowhere.md"], r"the note nowhere\.md can't be read"),
    ],
)
def test_what_cannot_be_done_gets_one_line_and_no_folder(run, options, message):
    with pytest.raises(SystemExit, match=f"error: {message}"):
        export(run, *options)
    assert not (run.parent / "toy-8k").exists()


def test_a_folder_that_is_no_training_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"error: no .*hyperparams\.yaml: give the output folder"):
        export(tmp_path / "nothing")


def test_a_folder_that_cannot_be_written_is_named(run):
    (run.parent / "toy-8k").write_text("a file is in the way")
    with pytest.raises(SystemExit, match="can't be written"):
        export(run)
