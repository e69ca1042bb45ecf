"""The ablation's runner on made-up voices: two rows of two steps."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn

from benchmarks.ablation import main
from benchmarks.ablation_table import SCORES
from benchmarks.models import build as build_row
from benchmarks.muon import MuonAndAdam
from benchmarks.rows import ROWS
from benchmarks.voices import write_corpus
from sfsrnet_modules.evaluation.summary import read_results

TINY = {
    "filters": 8,
    "width": 8,
    "blocks": 2,
    "heads": 2,
    "ffn": 16,
    "chunk": 20,
    "rates": "[4000, 8000]",
    "sr_channels": "[4, 4, 4]",
    "segment": 0.5,
    "num_workers": 0,
    "ema": "null",
    "warmup": 0,
}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> list[str]:
    """Of a run that is done."""
    folder = tmp_path_factory.mktemp("ablation")
    options = {"folder": folder / "runs", "output": folder / "ablation.md", "steps": 2, "epochs": 1}
    options |= {"num_valid": 2, "mixtures": 3, "data_folder": write_corpus(folder / "voices")}
    options |= {"cache_folder": folder / "cache"}
    texts = [str(text) for key, value in (options | TINY).items() for text in (f"--{key}", value)]
    arguments = ["--table", "3", "--rows", "sepformer", "full", "--jobs", "2", *texts]
    assert main(arguments) == 0
    return arguments


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(f"--{name}") + 1]


def test_the_table_has_a_line_a_row_and_says_what_was_not_run(arguments):
    with open(option(arguments, "output"), encoding="utf-8") as file:
        text = file.read()
    lines = {line.split(" | ")[0]: line.split(" | ") for line in text.splitlines()}
    base = lines["| **SepFormer: neither**"]
    full = lines["| + multi-loss and SR with heuristic: SFSRNet"]
    assert " to " in base[1] and base[2] == "1" and base[3] == ""
    assert full[3][0] in "+-" and float(full[4]) < 100  # difference, before SR
    assert float(full[5]) > float(base[5]) > 0  # parameters
    assert full[8].startswith("24.0")
    empty = lines["| + SR with heuristic"]
    assert empty[1:8] == [""] * 7 and empty[8].startswith("23.3")
    assert "not run: `python -m benchmarks.ablation --table 3 --rows sr`" in text
    assert "--table 3 --data_folder SPEECH --steps 2" in text
    assert plt.imread(option(arguments, "output").replace(".md", ".png")).std() > 0.05


def test_rows_are_scored_on_validation_speakers(arguments):
    folder = Path(option(arguments, "folder"))
    valid = pd.read_csv(folder / "validation-1234/valid.csv", dtype=str)
    pool = pd.read_csv(folder / "manifests-1234/pool.csv", dtype=str)
    for key in ("sepformer", "full"):
        scores = read_results(folder / key / "1234" / SCORES)
        assert list(scores.index) == list(valid["ID"]) and len(scores) == 3
    assert not set(valid[["speaker_1", "speaker_2"]].stack()) & set(pool["speaker"])


def test_muon_and_adam_step_at_one_rate_and_are_taken_up_again():
    def stepped(steps: int, saved: dict | None = None) -> tuple[nn.Module, dict]:
        torch.manual_seed(0)
        layer, x = nn.Linear(8, 4), torch.randn(16, 8)
        optimizer = MuonAndAdam(layer.parameters(), lr=0.01)
        if saved is not None:
            layer.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
        for _ in range(steps):
            optimizer.zero_grad()
            (layer(x) - 1).square().mean().backward()
            optimizer.step()
        return layer, {"model": layer.state_dict(), "optimizer": optimizer.state_dict()}

    whole, _ = stepped(6)
    resumed, _ = stepped(3, stepped(3)[1])
    begun, _ = stepped(0)
    assert torch.equal(whole.weight, resumed.weight) and torch.equal(whole.bias, resumed.bias)
    assert (whole.weight - begun.weight).abs().min() > 0
    assert (whole.bias - begun.bias).abs().max() <= 0.061  # Adam: about lr a step


def test_blocks_after_an_early_split_treat_all_voices_alike():
    separator = build_row(ROWS["early-split"])["separator"]
    mixture = torch.randn(2, 4000)
    estimates = separator(mixture, all_estimates=True)  # [E, B, T, C]
    assert len(estimates) == separator.num_estimates == 3
    assert torch.equal(separator(mixture, all_estimates=False)[0], estimates[-1])
    assert torch.equal(separator(mixture, all_estimates=False, block=3)[0], estimates[-2])
    with torch.no_grad():  # the voices change places
        for parameter in separator.split.parameters():
            parameter.copy_(parameter.unflatten(0, (2, -1)).flip(0).flatten(0, 1))
    assert (separator(mixture, all_estimates=True) - estimates.flip(3)).abs().max() < 1e-5
    assert (estimates - estimates.flip(3)).abs().max() > 1e-2


def test_a_finished_row_is_kept(arguments):
    main(arguments)
    for key in ("sepformer", "full"):
        out = f"{option(arguments, 'folder')}/{key}/1234/train.out"
        with open(out, encoding="utf-8") as file:
            assert file.read().count("Model:     ") == 1


def test_other_options_are_not_mixed_with_a_finished_row(arguments):
    with pytest.raises(SystemExit, match="holds a run of another command"):
        main([*arguments, "--lr", "0.1"])


def test_a_failed_row_is_left_empty_with_its_error(arguments):
    changed = [*arguments, "--lr_schedule", "none"]
    changed[changed.index("--folder") + 1] += "-failing"
    main(changed)
    with open(option(arguments, "output"), encoding="utf-8") as file:
        assert "not finished, seed 1234: error: lr_schedule is 'none'" in file.read()
    with open(f"{option(changed, 'folder')}/full/1234/run.json", encoding="utf-8") as file:
        assert json.load(file)["minutes"] > 0


def test_unknown_rows_and_options_are_refused(arguments):
    with pytest.raises(SystemExit, match="no rows sfsrnet"):
        main(["--rows", "sfsrnet", "--data_folder", "nowhere"])
    with pytest.raises(SystemExit, match="not a list of --key value"):
        main(["--data_folder", "nowhere", "--lr"])
