"""What a training takes and what fits into a given time, for a model with small layers."""

import shlex

import pytest

from benchmarks import plan
from benchmarks.ranks import TINY
from conftest import ROOT
from sfsrnet_modules.common.command_line import parse_arguments

FILE = "hparams/mini.yaml"
KEYS = {"segment": 0.25, "number_of_epochs": 2, "items_per_epoch": 8, "num_workers": 0}
OPTIONS = {key: [str(value)] for key, value in (TINY | KEYS).items()}


def step(batch: int, seconds: float, file: str = FILE) -> plan.Step:
    return plan.Step(file, batch, seconds, seconds, None, 0.1, epochs=100, items=20_000)


@pytest.fixture
def measured(monkeypatch):
    """Puts made-up seconds of batches of 2, 4, 8 … in place of measured ones; None: no memory."""

    def use(*seconds: float | None) -> None:
        def measure(file, options, num_steps):
            batch = int(options.get("batch_size", ["2"])[0])
            taken = seconds[(batch // 2).bit_length() - 1]
            return None if taken is None else step(batch, taken, file)

        monkeypatch.setattr(plan, "measure", measure)
        monkeypatch.setattr(plan, "may_double", lambda: True)

    return use


def test_hours_are_those_of_all_mixtures():
    assert step(2, 0.5).items_per_second == 4
    assert step(2, 0.5).hours == pytest.approx(100 * 20_000 / 4 / 3600)


@pytest.mark.parametrize(
    ("seconds", "sizes", "best"),
    [
        ((1, 1, 1.97, 99), [2, 4, 8], 4),  # 4.06 items a second, twice the batch earned 1.5 %
        ((1, 1, 1.9, 3.81, 99), [2, 4, 8, 16], 8),
        ((1, 1, None), [2, 4], 4),
        ((1, 3), [2, 4], 2),
        ((1, None), [2], 2),
    ],
)
def test_batches_grow_as_long_as_it_pays(measured, seconds, sizes, best):
    measured(*seconds)
    steps = plan.grow(FILE, {}, 7, 4096)
    assert [s.batch for s in steps] == sizes
    assert plan.best_of(steps).batch == best


def test_no_batch_is_larger_than_asked_for(measured):
    measured(1, 1, 1, 1)
    assert [s.batch for s in plan.grow(FILE, {}, 7, largest=5)] == [2, 4]


def test_one_size_alone_is_compiled(measured):
    measured(1, 1, 1)
    assert [s.batch for s in plan.grow(FILE, {"compile": []}, 7, 4096)] == [2]


def test_a_first_batch_without_memory_is_an_error(measured):
    measured(None)
    with pytest.raises(ValueError, match="does not fit into the memory"):
        plan.grow(FILE, {}, 7, 4096)


def test_what_fits_are_whole_batches_within_the_time():
    fast = step(32, 0.1)  # 320 items a second
    items = plan.items_that_fit(fast, 540)
    assert items % 32 == 0
    used = fast.epochs * items / 320
    most = (540 - plan.ENDS) * (1 - plan.VALIDATION)
    assert most - fast.epochs * 32 / 320 < used <= most
    with pytest.raises(ValueError, match="too few for 100 epochs"):
        plan.items_that_fit(fast, plan.ENDS + 10)


def test_a_step_is_measured(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = plan.measure(FILE, {"data_folder": ["none"]} | OPTIONS, num_steps=1)
    assert (found.batch, found.epochs, found.items) == (2, 2, 8)
    assert 0 < found.share < 1 and found.seconds > 0 and found.memory is None
    larger = plan.measure(FILE, {"data_folder": ["none"]} | OPTIONS | {"batch_size": ["4"]}, 1)
    assert larger.batch == 4


def test_the_report_ends_with_a_command_that_train_takes(measured, tmp_path, monkeypatch):
    measured(0.5, 0.5, 2)
    options = [FILE, "--minutes", "3", "--price", "2", "--output", str(tmp_path / "plan.md")]
    options += ["--fewer_voices", "{1: 0.1, 0: 0.01}", "--items_per_epoch", "7"]
    plan.main(options)
    text = (tmp_path / "plan.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| {FILE} | 4 |"))
    hours = 100 * 20_000 / 8 / 3600  # 69.4
    assert row.endswith(f"| 2,000,000 | {hours:.1f} | 8.68 | 1.09 | 139 |"), row
    words = shlex.split(text.splitlines()[-1])
    assert words[:2] == ["python", "train.py"]
    file, run_opts, overrides = parse_arguments(words[2:])
    assert file == FILE and run_opts.precision in ("fp32", "bf16")
    assert overrides["fewer_voices"] == "{1: 0.1, 0: 0.01}" and overrides["batch_size"] == "4"
    assert overrides["data_folder"] == "SPEECH" and overrides["number_of_epochs"] == "100"
    assert int(overrides["items_per_epoch"]) == plan.items_that_fit(step(4, 0.5), 180)
