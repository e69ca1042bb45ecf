"""What the speed tables rest on; the measurements themselves are `make bench`."""

import json

import torch

from benchmarks import speed_report, speed_sections
from benchmarks.speed_cases import BASELINES, CASES, STOCK, in_evaluation, stock_sepformer
from sfsrnet_modules.models.conditioning import Conditioning


def test_stock_and_ours_give_the_same_on_the_same_weights():
    mixture = torch.randn(1, 2000)
    conditioned, gain = Conditioning(8000)(mixture)  # ours does that itself
    stock = in_evaluation(stock_sepformer(), "fp32")(conditioned) / gain.unsqueeze(2)  # [B, T, C]
    estimates = in_evaluation(CASES["SepFormer 26 M"][0](), "fp32")(mixture)  # [E, B, T, C]
    assert (estimates[-1] - stock).norm() < 1e-5 * stock.norm()


def test_ratios_are_medians_of_each_rounds_ratio():
    case = "SepFormer 26 M"
    assert BASELINES[case] == STOCK
    assert speed_sections.ratio({STOCK: [2.0, 9.0, 40.0], case: [1.0, 3.0, 10.0]}, case) == "3.00"
    assert speed_sections.ratio({case: [1.0]}, case) == ""


def test_report_keeps_what_was_measured_and_names_what_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(speed_report, "MEASURED", tmp_path)
    monkeypatch.setattr(speed_report, "ROOT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    measured = {"lines": ["| a table |"], "about": "a machine", "curves": {"model": {"1": 5.0}}}
    (tmp_path / "dprnn.json").write_text(json.dumps(measured))
    speed_report.report({"dprnn": "DPRNN", "loader": "The loader"})
    text = (tmp_path / "benchmarks/speed.md").read_text()
    assert "| a table |" in text and "--section dprnn`, a machine." in text
    assert "Not measured: `python -m benchmarks.speed --section loader`." in text
    assert (tmp_path / "benchmarks/speed.png").stat().st_size > 1000
