from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from conftest import ROOT
from sfsrnet_modules.common.hparams import load_hparams, read_hparams, read_yaml, save_hparams
from sfsrnet_modules.publishing.training_run import TrainingRun
from tests import scripts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hparams/sfsrnet.yaml"], r"no --data_folder given.*mini\.yaml needs none"),
        (["hparams/none.yaml"], r"there is no file hparams/none\.yaml"),
        (
            ["hparams/sfsrnet.yaml", "--data_folder", "x", "--batchsize", "2"],
            r"--batchsize is neither .* did you mean --batch_size",
        ),
        (
            ["hparams/sfsrnet.yaml", "--data_folder", "x", "--data_folder", "y"],
            r"--data_folder is given twice: leave one",
        ),
        (
            ["hparams/sfsrnet.yaml", "--data_folder", "x", "--sample_rate", "4000"],
            r"at most the sample rate of 4000 Hz",
        ),
    ],
)
def test_bad_command_lines_get_one_sentence(arguments, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match=message):
        load_hparams(arguments)


def test_overrides_reach_the_objects(monkeypatch):
    monkeypatch.chdir(ROOT)
    *_, hparams = load_hparams(["hparams/mini.yaml", "--rates", "[500, 1000, 2000, 8000]"])
    assert hparams["loss"].rates == [500, 1000, 2000, 8000]


def test_train_ends_with_that_sentence_and_no_trace():
    done = scripts.run("train.py", "hparams/sfsrnet.yaml")
    assert done.returncode == 1
    assert (
        done.stderr.startswith("error: no --data_folder given") and "Traceback" not in done.stderr
    )


def test_options_of_speechbrain_that_are_keys_are_kept_with_the_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = ["hparams/mini.yaml", "--precision", "bf16", "--seed", "5", "--debug"]
    _, run_opts, overrides, hparams = load_hparams(arguments)
    assert run_opts.precision == hparams["precision"] == "bf16"
    folders = [
        'manifest_folder: "results/mini/5/manifests"',
        'output_folder: "results/mini/5/debug"',
    ]
    assert sorted(overrides.splitlines()) == [*folders, "precision: bf16", "seed: 5"]


# --- Variants -----------------------------------------------------------------------------------

BASE = """
size: 2  # of the base
counter: !new:collections.Counter
    a: !ref <size>
twice: !ref <size> * 2
"""


def variant(folder: Path, text: str) -> Path:
    (folder / "base.yaml").write_text(BASE)
    (folder / "variant.yaml").write_text(f"# What differs\nbase: base.yaml  # beside it\n{text}")
    return folder / "variant.yaml"


def test_a_variant_changes_what_it_holds_and_the_command_line_has_the_last_word(tmp_path):
    text = read_hparams(variant(tmp_path, "size: 3"))
    assert load_hyperpyyaml(text) == {"size": 3, "counter": {"a": 3}, "twice": 6}
    assert load_hyperpyyaml(text, "size: 4")["counter"] == {"a": 4}


def test_a_variant_replaces_an_object_by_one_of_another_class(tmp_path):
    text = read_hparams(variant(tmp_path, "counter: !new:datetime.timedelta\n    days: 1"))
    assert load_hyperpyyaml(text)["counter"].days == 1


def test_a_variant_of_a_variant_has_both_differences(tmp_path):
    variant(tmp_path, "size: 3")
    (tmp_path / "second.yaml").write_text("base: variant.yaml\ntwice: 0")
    assert load_hyperpyyaml(read_hparams(tmp_path / "second.yaml"))["counter"] == {"a": 3}


def test_a_misspelt_key_of_a_variant_is_an_error(tmp_path):
    message = r"sise in .*variant\.yaml is no key of .*base\.yaml.*: did you mean size\?"
    with pytest.raises(ValueError, match=message):
        read_hparams(variant(tmp_path, "sise: 3"))


def test_a_variant_may_have_keys_that_others_refer_to(tmp_path):
    text = read_hparams(variant(tmp_path, "half: 1\nsize: !ref <half> * 2"))
    assert load_hyperpyyaml(text)["twice"] == 4


def test_a_missing_base_is_named(tmp_path):
    (tmp_path / "variant.yaml").write_text("base: none.yaml")
    with pytest.raises(ValueError, match=r"there is no file .*none\.yaml"):
        load_hparams([str(tmp_path / "variant.yaml")])


def test_what_a_run_keeps_is_complete(tmp_path, monkeypatch):
    file, *_, overrides, hparams = load_hparams([str(ROOT / "hparams/mini.yaml"), "--lr", "1"])
    save_hparams(tmp_path, file, overrides)
    monkeypatch.chdir(tmp_path)  # far from the base
    *_, again = load_hparams(["hyperparams.yaml"])
    plain = {key: value for key, value in hparams.items() if isinstance(value, int | float | str)}
    assert len(plain) > 40 and plain.items() <= again.items() and again["lr"] == 1
    assert again["corpus"].fetch.keywords == {"cache_folder": "cache"}
    assert list(read_yaml(Path("hyperparams.yaml").read_text())) == list(
        read_yaml(read_hparams(file))
    )


def test_a_mapping_or_object_on_the_command_line_takes_the_place_of_the_files(
    monkeypatch, tmp_path
):
    monkeypatch.chdir(ROOT)
    common = ["--data_folder", "x", "--output_folder", str(tmp_path)]
    options = [*common, "--opt_class", "!name:torch.optim.SGD {lr: !ref <lr>}"]
    options += ["--source_weights", "{books: 0.5}"]
    for name in ("sfsrnet", "small"):  # the weights are null there, others here
        file, _, overrides, hparams = load_hparams([f"hparams/{name}.yaml", *options])
        assert hparams["source_weights"] == {"books": 0.5}
        optimizer = hparams["opt_class"]([torch.nn.Parameter(torch.zeros(1))])
        assert isinstance(optimizer, torch.optim.SGD)
        assert optimizer.defaults["lr"] == hparams["lr"]
        save_hparams(tmp_path, file, overrides)
        kept = load_hyperpyyaml((tmp_path / "hyperparams.yaml").read_text())
        assert kept["source_weights"] == {"books": 0.5}
        assert kept["opt_class"].func is torch.optim.SGD
        command = TrainingRun(tmp_path).command()
        assert "--source_weights '{'\"'\"'books'\"'\"': 0.5}'" in command
        assert "!name:torch.optim.SGD {" in command


def test_an_empty_mapping_empties_the_files(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    options = ["--data_folder", "x", "--output_folder", str(tmp_path), "--source_weights", "{}"]
    assert load_hparams(["hparams/small.yaml", *options])[3]["source_weights"] == {}
