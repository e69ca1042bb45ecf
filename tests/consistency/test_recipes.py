"""Commands of the recipes' README files and rows of SpeechBrain's list are what train.py takes."""

import csv
import re
import shlex

import pytest
from ruamel.yaml import YAML

from benchmarks.ranks import SIZES
from conftest import ROOT
from data_prep.corpora import librimix, wsj0mix
from sfsrnet_modules.common.hparams import load_hparams, read_hparams, read_yaml

READMES = sorted((ROOT / "recipes").glob("*/*/README.md"))


def commands(text: str) -> list[str]:
    """Arguments of train.py: in blocks of code, and in the first column of tables."""
    text = text.replace("\\\n", " ")
    found = re.findall(r"^python train\.py (\S.*)$", text, flags=re.MULTILINE)
    heads = re.findall(r"^\| command, after `python train\.py ?(.*?)`", text, flags=re.MULTILINE)
    cells = re.findall(r"^\| `((?:hparams/|--).*?)` \|", text, flags=re.MULTILINE)
    head = heads[0].strip("… ") if heads else ""
    return found + [f"{head} {cell}".strip() for cell in cells]


def test_commands_are_found():
    numbers = {path.parts[-3]: len(commands(path.read_text())) for path in READMES}
    assert numbers["WSJ0Mix"] >= 15 and numbers["LibriMix"] >= 15 and numbers["Folder"] >= 5


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parts[-3])
def test_commands_are_taken(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command in set(commands(path.read_text())):
        arguments = re.findall(r'"[^"]*"|\S+', command)
        arguments = [argument.strip('"') for argument in arguments]
        load_keys(arguments)


def test_commands_of_the_readme_are_taken(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = commands((ROOT / "README.md").read_text().split("| | |")[0])
    assert len(found) >= 4
    for command in found:
        load_keys(re.sub(r"\s+#.*", "", command).split())


def options_of_the_readme() -> list[str]:
    """What stands in the first column of its table of options."""
    table = (ROOT / "README.md").read_text().split("| | |\n|---|---|\n")[1].split("\n\n")[0]
    cells = (line.split("|")[1] for line in table.splitlines())
    return [option for cell in cells for option in re.findall("`(--.*?)`", cell)]


@pytest.mark.parametrize("option", options_of_the_readme())
def test_what_is_built_with_an_option_of_the_readme(option, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    keys = {"data_folder": "x", "output_folder": tmp_path, "rates": "[4000, 8000]", **SIZES}
    key, *value = shlex.split(option.replace("…", "8000"))
    keys.pop(key.removeprefix("--"), None)
    words = [word for pair in keys.items() for word in (f"--{pair[0]}", str(pair[1]))]
    *_, hparams = load_hparams(["hparams/sfsrnet.yaml", *words, key, *value])
    name = key.removeprefix("--")
    if name in hparams:
        assert hparams[name] == (YAML(typ="safe").load(value[0]) if value else True)


def load_keys(arguments: list[str]) -> None:
    """Check that every option is a top-level key, and that the data's own agree."""
    hparams_file, options = arguments[0], arguments[1:]
    known = read_yaml(read_hparams(ROOT / hparams_file)).keys()
    keys = [option.removeprefix("--") for option in options[::2]]
    assert len(options) % 2 == 0 and set(keys) <= known, arguments


@pytest.mark.parametrize(("module", "name"), [(wsj0mix, "WSJ0Mix"), (librimix, "LibriMix")])
def test_writing_commands_are_parsed(module, name, monkeypatch):
    text = (ROOT / "recipes" / name / "separation/README.md").read_text().replace("\\\n", " ")
    lines = re.findall(rf"^python -m {module.__name__} (.*)$", text, flags=re.MULTILINE)
    called = []
    monkeypatch.setattr(module, "write", lambda **arguments: called.append(arguments))
    assert all(module.main(line.split()) == 0 for line in lines) and len(called) == 2


# --- tests/recipes: the recipes as SpeechBrain lists its own ------------------------------------

COLUMNS = (
    "Task,Dataset,Script_file,Hparam_file,Data_prep_file,Readme_file,Result_url,HF_repo,"
    "test_debug_flags,test_debug_checks,performance"
).split(",")
LISTS = sorted((ROOT / "tests/recipes").glob("*.csv"))


def rows(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, skipinitialspace=True))


ROWS = [row for path in LISTS for row in rows(path)]


def test_every_dataset_and_every_configuration_is_listed():
    assert {path.stem for path in LISTS} == {path.parts[-3] for path in READMES}
    files = {path.name for path in (ROOT / "hparams").glob("*.yaml")}
    assert {row["Hparam_file"] for row in ROWS} == {f"hparams/{name}" for name in files}
    for path in LISTS:
        assert all(list(row) == COLUMNS and row["Dataset"] == path.stem for row in rows(path))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['Dataset']}-{row['Hparam_file']}")
def test_a_listed_recipe_is_there_and_takes_its_flags(row, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    for column in ("Script_file", "Hparam_file", "Data_prep_file", "Readme_file"):
        assert (ROOT / row[column]).is_file(), row[column]
    readme = (ROOT / row["Readme_file"]).read_text(encoding="utf-8")
    assert row["performance"].removeprefix("SI-SNRi=").removesuffix("dB") in readme
    flags = [*shlex.split(row["test_debug_flags"]), f"--output_folder={tmp_path}"]
    *_, hparams = load_hparams([row["Hparam_file"], *flags])
    assert sum(p.numel() for p in hparams["modules"]["model"].parameters() if p.requires_grad) < 1e5
    assert re.fullmatch(r"file_exists=\[[\w./,]+\]", row["test_debug_checks"])
