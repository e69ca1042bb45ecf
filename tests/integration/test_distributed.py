"""Training on several processes over the loopback: as one process, only sooner."""

import os
import re
import signal
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.ranks import TINY, Job, options, steps
from tests.integration.test_train import corpus  # noqa: F401  the fixture

ITEMS = 10
KEYS = {**TINY, "items_per_epoch": ITEMS, "num_valid": 3, "num_test": 5, "ema": 0.9}


def run(
    folder: Path,
    data: Path,
    num_ranks: int,
    event=None,
    codes=(0,),
    flags=(),
    by="torchrun",
    **keys,
) -> Job:
    keys = {"data_folder": data, "output_folder": folder / "results", **KEYS, **keys}
    job = Job(folder, [*options(**keys), *flags], num_ranks, event, by)
    assert set(job.wait()) == set(codes), job.output
    return job


def write_gradients(folder: Path) -> None:
    """Each rank writes its gradients of every step, and its weights at the end of an epoch."""
    from sfsrnet_modules.training.brain import Separation

    optimizers_step, on_stage_end = Separation.optimizers_step, Separation.on_stage_end
    rank, gradients = os.environ.get("RANK", 0), []

    def note(brain):
        gradients.append(torch.cat([p.grad.flatten() for p in brain.modules.parameters()]))
        optimizers_step(brain)

    def write(brain, stage, *args):
        on_stage_end(brain, stage, *args)
        if stage.name == "TRAIN":
            written = {"gradients": gradients, "weights": brain.hparams.model.state_dict()}
            torch.save(written, folder / f"rank{rank}.pt")

    Separation.optimizers_step, Separation.on_stage_end = note, write


def written(folder: Path, name: str, rank: int = 0):
    return torch.load(folder / f"rank{rank}.pt")[name]


def assert_equal_weights(folder: Path, num_ranks: int) -> None:
    first, *others = (written(folder, "weights", rank) for rank in range(num_ranks))
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)
    assert all(value.isfinite().all() for value in first.values())


def items(folder: Path, num_ranks: int, epoch: int = 1) -> list[str]:
    logs = [steps(folder, rank) for rank in range(num_ranks)]
    return [i for log in logs for e, ids in log if e == str(epoch) for i in ids.split("+")]


@pytest.fixture(scope="module")
def three(corpus, tmp_path_factory) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("three")
    run(folder, corpus, 3, write_gradients)
    return folder


def test_weights_are_equal_and_no_item_is_twice_or_missing(three):
    assert_equal_weights(three, 3)
    for epoch in (1, 2):
        # the last step has 4 of 3 x 2 items; all items of an epoch, each with one rank
        assert sorted(items(three, 3, epoch)) == sorted(f"epoch{epoch}-{i}" for i in range(ITEMS))


def test_odd_counts_are_tested_once_each_as_by_one_process(three, corpus):  # noqa: F811
    path = three / "results" / "test_results.csv"
    together = path.read_text()
    run(three, corpus, 1, flags=["--test_only"])
    assert path.read_text() == together
    assert len(pd.read_csv(path)) == 5
    log = (three / "results" / "train_log.txt").read_text().splitlines()
    assert len(log) == 4  # two epochs and two tests, each logged once
    figures = [re.search(r"test loss: (\S+),.*test si_snr_i: (\S+),", line) for line in log[2:]]
    assert figures[0].groups() == figures[1].groups()


def test_two_processes_have_the_gradients_of_one_with_twice_the_batch(corpus, tmp_path):  # noqa: F811
    keys = {"items_per_epoch": 5, "number_of_epochs": 1, "lr": 0}  # the last step has one item
    run(tmp_path / "one", corpus, 1, write_gradients, batch_size=4, **keys)
    run(tmp_path / "two", corpus, 2, write_gradients, batch_size=2, **keys)
    one, two = (written(tmp_path / name, "gradients") for name in ("one", "two"))
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        assert (a - b).norm() < 1e-5 * a.norm()


def nan_on_one_rank(folder: Path) -> None:
    from tests.integration.probe import DynamicMixing, nan

    write_gradients(folder)
    DynamicMixing.__getitem__ = nan  # the item 2 of an epoch: with rank 0


def nothing_to_learn_on_one_rank(folder: Path) -> None:
    from sfsrnet_modules.training.losses import MultiLoss

    write_gradients(folder)
    if os.environ["RANK"] == "1":
        MultiLoss._limited = lambda loss, score: score.clamp_max(-1000)


@pytest.mark.parametrize(
    ("event", "skipped"), [(nan_on_one_rank, 1), (nothing_to_learn_on_one_rank, 0)]
)
def test_a_bad_batch_on_one_rank_stops_none(event, skipped, corpus, tmp_path):  # noqa: F811
    run(tmp_path, corpus, 2, event, number_of_epochs=1)
    assert_equal_weights(tmp_path, 2)
    log = (tmp_path / "results" / "train_log.txt").read_text()
    assert f"skipped_steps: {skipped}," in log


def test_srun_starts_the_same_training(corpus, tmp_path):  # noqa: F811
    run(tmp_path, corpus, 2, by="srun", number_of_epochs=1)
    assert sorted(items(tmp_path, 2)) == sorted(f"epoch1-{i}" for i in range(ITEMS))
    assert len((tmp_path / "results" / "train_log.txt").read_text().splitlines()) == 2


def signalled(number: int, rank: int, folder: Path) -> None:
    """A process is told to stop in the second step of the second epoch."""
    from sfsrnet_modules.training.brain import Separation

    on_fit_batch_start = Separation.on_fit_batch_start

    def tell(brain, *args):
        on_fit_batch_start(brain, *args)
        if brain.hparams.epoch_counter.current == 2 and brain.step == 2:
            os.killpg(0, number)  # the loader's worker too, as SLURM does

    if int(os.environ.get("RANK", 0)) == rank:
        Separation.on_fit_batch_start = tell


def test_one_is_told_all_stop_and_any_number_goes_on(corpus, tmp_path):  # noqa: F811
    told = partial(signalled, signal.SIGUSR1, 1)
    run(tmp_path, corpus, 2, told, codes=[75])
    assert len(items(tmp_path, 2, epoch=2)) == 8  # two steps of 2 x 2
    run(tmp_path / "alone", corpus, 1, output_folder=tmp_path / "results")
    seen = items(tmp_path, 2, epoch=2) + items(tmp_path / "alone", 1, epoch=2)
    assert sorted(seen) == sorted(f"epoch2-{i}" for i in range(ITEMS))
    assert len((tmp_path / "results" / "train_log.txt").read_text().splitlines()) == 3


def test_an_interrupted_run_ends_with_the_same_bits(corpus, tmp_path):  # noqa: F811
    for name, event, codes in (
        ("whole", None, [0]),
        ("stopped", partial(signalled, signal.SIGTERM, 0), [75]),
        ("stopped", None, [0]),
    ):
        run(tmp_path / name, corpus, 1, event, codes, num_workers=1)
    whole, stopped = (tmp_path / name / "results" for name in ("whole", "stopped"))
    for name in ("model", "ema", "optimizer"):
        a, b = (_newest(folder, name) for folder in (whole, stopped))
        assert a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a), name
    logs = [(folder / "train_log.txt").read_text() for folder in (whole, stopped)]
    times = r"(items_per_second|data_wait|tflop_per_second|share_of_peak): \S+"
    logs = [re.sub(times, "", log) for log in logs]
    assert logs[0] == logs[1]
    assert tensorboard_steps(stopped) == tensorboard_steps(whole) == [1, 2]


# --- Processes that do not do the same ------------------------------------------------------------


def one_validates_63_s(folder: Path) -> None:
    """Beyond the table of positions, on one process alone; then comes another epoch."""
    from torch.nn.parallel import DistributedDataParallel

    from data_prep.mixing.fixed import FixedMixtures

    get_item = FixedMixtures.__getitem__

    def lengthened(dataset, index):
        item = get_item(dataset, index)
        if dataset.manifest.endswith("valid.csv") and index == 1:  # with rank 1
            times = -(-63 * 8000 // len(item["mixture"]))
            item["mixture"] = item["mixture"].repeat(times)  # [T]
            item["sources"] = item["sources"].repeat(times, 1)  # [T, C]
        return item

    write_gradients(folder)
    FixedMixtures.__getitem__ = lengthened
    DistributedDataParallel._sync_buffers = None  # no step sends the tables


def test_a_long_recording_in_one_process_holds_up_none(corpus, tmp_path):  # noqa: F811
    keys = {"items_per_epoch": 4, "num_valid": 2, "num_test": 2, "ema": "null"}
    run(tmp_path, corpus, 2, one_validates_63_s, chunk=50, **keys)
    assert_equal_weights(tmp_path, 2)


def told_while_validating(folder: Path) -> None:
    from sfsrnet_modules.training.item_scores import ItemScores

    add = ItemScores.add

    def tell(scores, *args):
        add(scores, *args)
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)

    ItemScores.add = tell


@pytest.mark.parametrize("num_valid", [2, 5])  # one process is done when the other leaves, or not
def test_one_is_told_in_validation_and_all_leave(num_valid, corpus, tmp_path):  # noqa: F811
    keys = {"num_valid": num_valid, "items_per_epoch": 4}
    run(tmp_path, corpus, 2, told_while_validating, codes=[75], **keys)


def killed_before_it_joins(folder: Path) -> None:
    from sfsrnet_modules.training import distributed

    distributed.JOIN = 5
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)


def killed_while_it_joins(folder: Path) -> None:
    """Between the rendezvous and the connections from each process to each."""
    from sfsrnet_modules.training import distributed

    distributed.JOIN = 5
    if os.environ["RANK"] == "1":
        torch.distributed.distributed_c10d.ProcessGroupGloo = lambda *args, **keys: os.kill(
            os.getpid(), signal.SIGKILL
        )


@pytest.mark.parametrize("event", [killed_before_it_joins, killed_while_it_joins])
def test_nobody_waits_for_a_process_that_never_came(event, corpus, tmp_path):  # noqa: F811
    job = run(tmp_path, corpus, 2, event, codes=[1, -signal.SIGKILL])
    assert "error: 2 processes were to meet at 127.0.0.1 within 5 s" in job.output


def on_a_disk_of_its_own(folder: Path) -> None:
    node = folder / f"node{os.environ['RANK']}"
    node.mkdir()
    os.chdir(node)


def test_two_output_folders_of_one_name_are_refused(corpus, tmp_path):  # noqa: F811
    job = run(tmp_path, corpus, 2, on_a_disk_of_its_own, [1], output_folder="results")
    assert "error: process 1 on" in job.output and "Traceback" not in job.output
    assert not list(tmp_path.glob("node*/results/.shared*"))


def test_batch_norm_on_several_cpu_processes_is_refused(corpus, tmp_path):  # noqa: F811
    job = run(tmp_path, corpus, 2, codes=[1], sr_norm="bn")
    assert "error: batch norm over the items of 2 processes" in job.output
    assert "Traceback" not in job.output


def test_what_one_process_cannot_prepare_ends_all(tmp_path):
    job = run(tmp_path, tmp_path / "nowhere", 2, codes=[1])
    assert job.output.count("error: No folder at") == 2 and "Traceback" not in job.output


def tensorboard_steps(folder: Path) -> list[int]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return [event.step for event in events.Scalars("si_snr_i/valid")]


def validated_worse_and_worse(folder: Path) -> None:
    from sfsrnet_modules.training import brain

    scores = iter((3.0, 2.0, 1.0))
    brain._quality = lambda stats: {"si_snr_i": next(scores), "weights": "model"}


def test_patience_ends_a_run_that_no_longer_improves(corpus, tmp_path):  # noqa: F811
    keys = {"patience": 2, "number_of_epochs": 9, "items_per_epoch": 2}
    run(tmp_path, corpus, 1, validated_worse_and_worse, **keys)
    log = (tmp_path / "results" / "train_log.txt").read_text().splitlines()
    assert len(log) == 4  # two epochs are worse than the first, then comes the test
    run(tmp_path, corpus, 1, **keys)
    log = (tmp_path / "results" / "train_log.txt").read_text().splitlines()
    assert [line[:5] for line in log[3:]] == ["epoch"] * 2  # tested again, not trained on
    assert log[4].startswith("epoch loaded")


def _newest(folder: Path, name: str) -> dict:
    newest = max((folder / "save").glob("CKPT*"), key=lambda path: path.stat().st_mtime)
    return torch.load(newest / f"{name}.ckpt")


def _same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
