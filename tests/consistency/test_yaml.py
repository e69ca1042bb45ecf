"""Every yaml file builds, has the size it states, and every row of the ablation is a command."""

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from benchmarks.models import build as build_row
from benchmarks.rows import ROWS, TABLES
from conftest import ROOT
from sfsrnet_modules.common.hparams import read_hparams, read_yaml
from sfsrnet_modules.evaluation.complexity import count_parameters, macs_per_second

FULL = ROOT / "hparams/sfsrnet.yaml"
FILES = sorted(FULL.parent.glob("*.yaml"))
SAME_RATE = "rates: [8000, 8000, 8000, 8000, 8000, 8000, 8000, 8000]"
# name: (overrides of sfsrnet.yaml, parameters in M), the paper's table 3 but for SepFormer's row
ABLATION = {
    "multi-loss, same rate": (f"super_resolution: null\n{SAME_RATE}", 51.57),
    "multi-loss, changing rates": ("super_resolution: null", 51.57),
    "SR without heuristic": ("every_block: False\nheuristic: False", 57.30),
    "SR with heuristic": ("every_block: False", 57.31),
    "multi-loss and SR with heuristic": ("", 58.23),
}


def build(name: str, overrides: str = "") -> dict:
    text = read_hparams(ROOT / "hparams" / name)
    return load_hyperpyyaml(text, f"data_folder: /nowhere\n{overrides}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_builds_and_learns_from_a_quarter_of_a_second(path):
    hparams = build(path.name)
    model, loss = hparams["model"], hparams["loss"]
    optimizer = hparams["opt_class"](model.parameters())
    sources = 0.1 * torch.randn(1, 2000, 2)
    has_refined = model.super_resolution is not None
    before, terms = loss(model(sources.sum(2)), sources, None, has_refined)
    before.backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    optimizer.step()
    with torch.no_grad():
        after, _ = loss(model(sources.sum(2)), sources, None, has_refined)
    assert after < before
    if path.name == "wide.yaml":  # trains super-resolution alone
        assert list(terms) == ["sr"]
        return
    assert len(terms) == model.separator.num_estimates + has_refined
    assert len(hparams["rates"]) == model.separator.num_estimates


COMPLETE = {  # of other architectures: what they have no use for
    "dprnn.yaml": {"transformer", "layers", "heads", "ffn"},
    "convtasnet.yaml": {
        *("transformer", "chunk", "layers", "heads", "ffn"),
        *("head", "shared_head", "every_block", "checkpointing"),
    },
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_variant_holds_only_what_differs(path):
    own = read_yaml(path.read_text())
    base = read_yaml(read_hparams(path.parent / own.get("base", FULL.name)))
    if path.name in COMPLETE:
        assert base.keys() - own.keys() == COMPLETE[path.name]
    elif path != FULL:
        assert next(iter(own)) == "base"
        assert [key for key, value in own.items() if key in base and value == base[key]] == []


def test_the_frame_of_sr_is_32_ms_at_any_rate():
    hparams = build("sfsrnet.yaml", "sample_rate: 16000\nrates: [16000]\nevery_block: False")
    assert (hparams["sr"].stft.n_fft, hparams["sr"].stft.hop) == (512, 128)
    assert build("sfsrnet.yaml")["sr"].stft.n_fft == 256


@pytest.mark.parametrize("row", ABLATION)
def test_ablation_row_builds(row):
    overrides, millions = ABLATION[row]
    assert count_parameters(build("sfsrnet.yaml", overrides)["model"]) / 1e6 == pytest.approx(
        millions, abs=0.01
    )


SIZES = (  # name, overrides, parameters in M, multiply-accumulates in G for a second of audio
    ("sfsrnet.yaml", "", 58.23, 216.0),
    ("sfsrnet.yaml", "head: gated", 59.81, 216.3),
    ("sepformer.yaml", "", 25.68, 68.8),
    ("sepformer.yaml", "super_resolution: !ref <sr>", 32.35, 177.2),
    ("mini.yaml", "", 1.01, 1.06),
    ("small.yaml", "", 1.01, 1.06),
    ("shipped.yaml", "", 3.45, 3.78),
    ("wide.yaml", "", 3.67, 4.03),
    ("dprnn.yaml", "", 9.27, 114.4),
    ("convtasnet.yaml", "", 10.11, 111.6),
)


def test_every_file_states_its_size():
    assert {name for name, *_ in SIZES} == {path.name for path in FILES}


@pytest.mark.parametrize(("name", "overrides", "millions", "giga_macs"), SIZES)
def test_size_and_cost(name, overrides, millions, giga_macs):
    hparams = build(name, overrides)
    model = hparams["model"]
    assert count_parameters(model) / 1e6 == pytest.approx(millions, abs=0.01)
    if giga_macs > 10 and name != "dprnn.yaml":
        model.to("meta")  # shapes alone; an LSTM would be unrolled there
    macs = macs_per_second(model, hparams["sample_rate"])
    assert macs / 1e9 == pytest.approx(giga_macs, abs=0.1)


def test_the_upper_band_costs_a_fifth_at_most():
    model = build("wide.yaml")["model"]
    assert macs_per_second(model, 16000) < 1.2 * macs_per_second(model.narrow, 8000)


@pytest.mark.parametrize("key", ROWS)
def test_every_row_of_the_small_ablation_builds_and_learns(key):
    hparams = build_row(ROWS[key])
    model, loss = hparams["model"], hparams["loss"]
    sources = torch.randn(1, 4800, 2)  # Conv-TasNet's longest dilation needs 0.53 s
    has_refined = model.super_resolution is not None
    loss(model(sources.sum(2)), sources, None, has_refined)[0].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert any(key in keys for _, _, keys in TABLES.values())
    if key not in TABLES["search"][2]:
        assert hparams["segment"] == 2 and hparams["lr"] == build("small.yaml")["lr"]


def test_separators_are_compared_at_the_same_number_of_parameters():
    _, base, keys = TABLES["size"]
    wanted = count_parameters(build_row(ROWS[base])["model"])
    for key in keys:
        parameters = count_parameters(build_row(ROWS[key])["model"])
        assert parameters == pytest.approx(wanted, rel=0.03), key


@pytest.mark.parametrize(("light", "dense"), [("separable-large", "dense-large")])
def test_a_light_sr_costs_a_tenth_of_the_dense_one(light, dense):
    separator, *models = (
        macs_per_second(build_row(ROWS[key])["model"], 8000) for key in ("multi-loss", light, dense)
    )
    transforms = 5 * 125 * 2 * 129 * 256  # STFT of mixture and two estimates, and back: in both
    light, dense = (macs - separator - transforms for macs in models)
    assert light <= 0.1 * dense


@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_model_knows_its_rate(rate):
    """Where hum ends, and how it is filtered, depends on it."""
    model = build("small.yaml", f"sample_rate: {rate}\nrates: [{rate}]")["model"]
    assert model.conditioning.stride == rate // 160
