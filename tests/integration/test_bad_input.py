"""Whatever a command is given: one line that names the value and the way out, and no trace."""

import logging
import re
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest

import evaluate
import export
import train
from benchmarks.voices import write_corpus
from conftest import ROOT
from sfsrnet_modules.apps import example, separate
from tests.integration.test_train import TINY


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    """Run beside the project's files; what a training changes in its process is put back."""
    for name in ("hparams", "README.md", "data_prep"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("speechbrain.utils.logger.get_environment_description", str)
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers = handlers


def refusal(main, *words: object) -> str:
    """The line with which a command ends."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    message = str(ended.value.code)
    assert message.startswith("error: ") and "\n" not in message
    return message


def training(corpus: Path, output: Path, **keys) -> list[str]:
    keys = {"data_folder": corpus, "output_folder": output, **TINY, **keys}
    return ["hparams/mini.yaml", *(w for k, v in keys.items() for w in (f"--{k}", str(v)))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the first argument is nothing: give a yaml file first"),
        (["--lr", "1"], "the first argument is --lr: give a yaml file first"),
        (["none.yaml"], r"no file none\.yaml: the first argument is a yaml file"),
        (["README.md"], r"README\.md .*is not yaml"),
        (["hparams/mini.yaml", "0.1"], "0.1 follows the yaml file: give options as --key value"),
        (["hparams/mini.yaml", "--lr"], "--lr has no value: give one"),
        (["hparams/mini.yaml", "--lr", "1", "2"], "--lr is followed by 1 2: give one value"),
        (["hparams/mini.yaml", "--lr", "1", "--lr=2"], "--lr is given twice: leave one"),
        (["hparams/mini.yaml", "--batchsize", "2"], "did you mean --batch_size"),
        (["hparams/mini.yaml", "--test-only", "True"], "did you mean --test_only"),
        (["hparams/mini.yaml", "--ckpt_interval_step", "5"], "did you mean --ckpt_interval_steps"),
        (["hparams/mini.yaml", "--local-rank", "0"], "--local-rank is an old way.*torchrun"),
        (["hparams/mini.yaml", "--local_rank=0"], "--local_rank is an old way.*torchrun"),
        (["hparams/mini.yaml", "--distributed_launch"], "--distributed_launch is an old way"),
        (["hparams/mini.yaml", "--jit"], "--jit would change nothing: .* leave it away"),
        (["hparams/mini.yaml", "--compile_module_keys", "model"], "keys would change nothing"),
        (["hparams/mini.yaml", "--test_only", "x"], "--test_only is x: it is a flag, give it"),
        (["hparams/mini.yaml", "--debug", "out", "x"], "--debug is out x: it is a flag"),
        (["hparams/mini.yaml", "--device", "gpu"], "--device gpu is no device: cpu, or cuda:0"),
        (["hparams/mini.yaml", "--device", "cuda:99"], "--device cuda:99 is not here.*or cpu"),
        (["hparams/mini.yaml", "--precision", "fp8"], "--precision: invalid choice: 'fp8'"),
        (["hparams/mini.yaml", "--optimizer_step_limit", "x"], "is x: give a whole number"),
        (["hparams/mini.yaml", "--grad_accumulation_factor", "0"], "is 0: give a number above 0"),
        (["hparams/mini.yaml", "--batch_size", "many"], "is many: give a number, it is 2 by"),
        (["hparams/mini.yaml", "--batch_size", "0"], "is 0: give a number above 0"),
        (["hparams/mini.yaml", "--blocks", "0"], "--blocks is 0: give a number above 0"),
        (["hparams/mini.yaml", "--t60", "0.3"], "t60 is 0.3: give the lowest and the highest"),
        (["hparams/mini.yaml", "--fewer_voices", "2"], "fewer_voices is 2: give numbers of voices"),
        (["hparams/mini.yaml", "--segment", "-1"], "is -1: give a number above 0"),
        (["hparams/mini.yaml", "--seed", "-1"], "is -1: give a number of 0 or more"),
        (["hparams/mini.yaml", "--dynamic_mixing", "no way"], "is .*: give True or False"),
        (["hparams/mini.yaml", "--rates", "[a]"], "can't be built with these options: .*MultiLoss"),
        (["hparams/mini.yaml", "--rates", "[1"], "with these options is not yaml"),
        (["hparams/mini.yaml", "--heads", "3"], "can't be built.*divisible by num_heads"),
        (["hparams/mini.yaml", "--width", "0"], "can't be built with these options"),
        (["hparams/mini.yaml", "--output_folder", "/proc/x"], "/proc/x.* can't be made: .*another"),
    ],
)
def test_a_training_is_not_begun(words, message):
    assert re.search(message, refusal(train.main, *words))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"data_folder": "nowhere"}, "No folder at nowhere: set data_folder"),
        ({"mixture": "both"}, "mixture is both and mode min: both are for WSJ0-mix"),
        ({"lists": "nowhere"}, "No folder at nowhere: set lists"),
        ({"sample_rate": 44100}, "None of the 18 audio files can be used, .*44100 Hz"),
        ({"num_spks": 40}, "Found 9 speakers.*num_spks=40.*add speakers, or lower num_spks"),
        ({"batch_size": 1.5}, "batch_size is 1.5: give a whole number"),
        ({"ema": 2}, "ema is 2: give a number between 0 and 1"),
        ({"ema": "abc"}, "--ema is abc: give a number, it is 0.99 by default"),
        ({"speed": "[2]"}, r"speed is \[2\]: give the lowest and the highest value"),
        ({"speed": 2}, "speed is 2: give the lowest and the highest value"),
        ({"chunk": 0}, "the model can't separate a second of audio .*check the sizes"),
        ({"ffn": 0}, "the model can't separate a second of audio .*check the sizes"),
        ({"test_only": "True"}, "no checkpoint in .*out/save to test: train first"),
    ],
)
def test_a_training_ends_before_its_first_step(keys, message, corpus, tmp_path):
    words = training(corpus, tmp_path / "out", **keys)
    assert re.search(message, refusal(train.main, *words))


def test_a_refused_command_leaves_the_configuration_of_the_folder(corpus, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/hyperparams.yaml").write_text("of an earlier run")
    refusal(train.main, *training(corpus, tmp_path / "out", data_folder="nowhere"))
    assert (tmp_path / "out/hyperparams.yaml").read_text() == "of an earlier run"


def test_an_output_folder_of_another_model_is_left_as_it_is(corpus, tmp_path):
    keys = {"number_of_epochs": 1, "items_per_epoch": 2, "num_valid": 1, "num_test": 1}
    train.main(training(corpus, tmp_path, **keys, test_only="False"))
    before = (tmp_path / "hyperparams.yaml").read_text()
    for other in ({"filters": 16}, {"blocks": 1, "rates": "[8000]"}, {"sr_norm": "gln"}):
        message = refusal(train.main, *training(corpus, tmp_path, **keys, **other))
        assert re.search("is a checkpoint of another model.*another output_folder", message)
    assert (tmp_path / "hyperparams.yaml").read_text() == before


def test_what_the_shell_leaves_is_read_as_it_is_meant(corpus, tmp_path, monkeypatch):
    from sfsrnet_modules.common.command_line import parse_arguments

    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["a.yaml", "--output_folder", "results/z", "--test_only", "True", "--debug", "false"]
    _, run_opts, overrides = parse_arguments([*words, "--data_folder=~/a=b #1", "--lr", "-1"])
    assert run_opts.test_only and not run_opts.debug
    assert {"test_only", "debug"} <= run_opts.overridden_args
    assert overrides == {
        "output_folder": "results/z",
        "data_folder": f'"{tmp_path}/a=b #1"',
        "lr": "-1",
    }


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (evaluate.main, ["--manifest", "none.csv", "--data_folder", "."], "No manifest at none"),
        (
            evaluate.main,
            ["--manifest", "x", "--data_folder", ".", "--model", "none"],
            "no model at",
        ),
        (
            evaluate.main,
            ["--manifest", "x", "--data_folder", ".", "--compare", "none.csv"],
            "none.csv can't be read as results",
        ),
        (export.main, ["nowhere", "-o", "out"], "no nowhere/hyperparams.yaml: give the output"),
        (example.main, ["nowhere", "--model", "hparams"], "no model at hparams"),
    ],
)
def test_the_other_commands_end_with_a_line(main, words, message):
    assert message in refusal(main, *words)


@pytest.mark.parametrize("main", [evaluate.main, export.main, separate.main])
def test_a_device_or_option_that_is_not_there_is_named(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--device", "cuda:99", "--nothing"])
    assert ended.value.code == 2 and "error: " in capsys.readouterr().err


def test_an_average_of_two_has_no_blocks_to_score(capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--data_folder", ".", "--twice", "--every_block"])
    assert "--every_block: not allowed with argument --twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "./a.csv"], "the results would replace a.csv: give another name with -o"),
        (["--conditions"], "--compare is for one set of mixtures, --conditions makes several"),
    ],
)
def test_what_is_compared_with_is_kept_and_read(words, message, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--data_folder", ".", "--compare", "a.csv", *words])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--manifest", "a.csv", "--mixture", "both"], "--mixture would change nothing: a manif"),
        (["--manifest", "a.csv", "--num_test", "7"], "--num_test would change nothing"),
        (["--rooms", "nowhere"], "--rooms would change nothing: only a manifest, --conditions"),
        (["--noise_folder", "nowhere"], "--noise_folder would change nothing"),
    ],
)
def test_options_of_an_evaluation_that_would_change_nothing(words, message, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--data_folder", ".", *words])
    assert message in capsys.readouterr().err


def test_options_that_a_variant_has_no_use_for(tmp_path):
    words = ["hparams/wide.yaml", "--data_folder", ".", "--output_folder", tmp_path / "out"]
    message = refusal(train.main, *words, "--block_weight", "0.4")
    assert "--block_weight would change nothing: what takes it in hparams/shipped.yaml" in message


def test_items_with_a_silent_source_have_no_bands_to_draw(capsys):
    scores = pd.DataFrame({"duration": [1.0], "leak": [-30.0]}, index=["one-voice"])
    evaluate.report(scores, None, Namespace(model="a", output=Path("results.csv"), bands=True))
    printed = capsys.readouterr().out
    assert "leak" in printed and "Picture" not in printed


@pytest.mark.parametrize("words", [["none.wav"], ["README.md"], ["hparams"]])
def test_what_is_no_recording_is_named(words, model_folder, tmp_path, caplog, capsys):
    code = separate.main([*words, "--model", str(model_folder), "-o", str(tmp_path / "voices")])
    assert code in (1, 2)
    assert words[0] in capsys.readouterr().err and not list(tmp_path.glob("voices/*"))
