import os
import stat
from itertools import chain

import pytest
from speechbrain.utils.run_opts import RunOptions

from sfsrnet_modules.training import distributed
from sfsrnet_modules.training.distributed import EpochBatches, adopt_slurm, join_group

STEP = {
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_PROCID": "11",
    "SLURM_LOCALID": "3",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_JOB_ID": "123456",
}
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def environment(monkeypatch):
    """An environment without torchrun's and SLURM's variables, which are taken away again."""
    before = dict(os.environ)
    for name in [*NAMES, *(name for name in before if name.startswith("SLURM_"))]:
        os.environ.pop(name, None)
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


def of_torchrun(environment) -> tuple:
    return tuple(environment.get(name) for name in NAMES)


def test_srun_is_translated(environment, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    environment |= STEP
    adopt_slurm()
    rank, local, size, host, port = of_torchrun(environment)
    assert (rank, local, size, host) == ("11", "3", "16", "gpu07")
    assert 15000 <= int(port) < 25000


def test_each_task_that_sees_one_gpu_takes_that(environment, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    environment |= STEP
    adopt_slurm()
    assert environment["LOCAL_RANK"] == "0"


def test_scontrol_names_the_first_host(environment, tmp_path):
    scontrol = tmp_path / "scontrol"
    asked = '"$*" = "show hostnames rack[1,3]n[02-04]"'
    scontrol.write_text(f"#!/bin/sh\n[ {asked} ] && echo rack1n02\n")
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IEXEC)
    environment |= {**STEP, "SLURM_STEP_NODELIST": "rack[1,3]n[02-04]"}
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    adopt_slurm()
    assert environment["MASTER_ADDR"] == "rack1n02"


@pytest.mark.parametrize(
    "variables",
    [
        {},  # by hand
        {**STEP, "SLURM_STEP_NUM_TASKS": "1"},  # srun of one task
        {k: v for k, v in STEP.items() if k != "SLURM_STEP_NUM_TASKS"} | {"SLURM_NTASKS": "16"},
    ],
)
def test_one_process_stays_alone(environment, variables):
    environment |= variables  # the last: in a batch script, without srun
    adopt_slurm()
    assert of_torchrun(environment) == (None,) * 5


def test_torchrun_within_srun_has_its_own(environment):
    environment |= {**STEP, "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}
    adopt_slurm()
    assert of_torchrun(environment)[:4] == ("5", "1", "8", None)


@pytest.mark.parametrize("name", sorted(set(STEP) - {"SLURM_STEP_NUM_TASKS"}))
def test_a_variable_of_srun_that_is_missing_is_named(environment, name):
    environment |= {key: value for key, value in STEP.items() if key != name}
    message = f"SLURM_STEP_NUM_TASKS is 16 in the environment, but {name} missing: start .* srun"
    with pytest.raises(ValueError, match=message):
        adopt_slurm()
    assert of_torchrun(environment) == (None,) * 5


@pytest.mark.parametrize("name", ["LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_a_variable_of_torchrun_that_is_missing_is_named(environment, name):
    environment |= dict.fromkeys(NAMES, "1")
    del environment[name]
    with pytest.raises(ValueError, match=f"RANK is 1 in the environment, but {name} missing: "):
        join_group(RunOptions())


@pytest.mark.parametrize(
    ("device", "num_gpus", "taken"),
    [
        (None, 0, ("cpu", "gloo")),
        (None, 2, ("cuda:1", "nccl")),
        ("cpu", 2, ("cpu", "gloo")),
        ("cuda", 2, ("cuda:1", "nccl")),
        ("cuda:0", 2, ("cuda:1", "nccl")),  # of each process its own
    ],
)
def test_the_backend_follows_the_device(environment, monkeypatch, device, num_gpus, taken):
    environment |= dict.fromkeys(NAMES, "1")
    inferred = f"cuda:{environment['LOCAL_RANK']}" if num_gpus else "cpu"
    monkeypatch.setattr(distributed, "infer_device", lambda: inferred)
    monkeypatch.setattr("torch.cuda.is_available", lambda: num_gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: num_gpus)
    monkeypatch.setattr(distributed, "ddp_init_group", lambda run_opts: None)
    joined = join_group(RunOptions(device=device))
    assert (joined.device, joined.distributed_backend) == taken
    assert {"device", "distributed_backend"} <= joined.overridden_args
    chosen = RunOptions(
        device=device, distributed_backend="gloo", overridden_args={"distributed_backend"}
    )
    assert join_group(chosen).distributed_backend == "gloo"


def test_more_processes_than_gpus_are_refused(environment, monkeypatch):
    environment |= dict.fromkeys(NAMES, "1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ValueError, match="process 1 of this host has no GPU, there are 1: start"):
        join_group(RunOptions(device="cuda"))


@pytest.mark.parametrize("num_items", [1, 7, 12, 13])
@pytest.mark.parametrize("start", [0, 6])
def test_the_union_of_a_step_does_not_depend_on_the_number_of_processes(num_items, start):
    unions = []
    for size in (1, 2, 3, 6):
        each = [EpochBatches(num_items, 6 // size, rank, size) for rank in range(size)]
        for batches in each:
            batches.start = start
        union = []
        for number, step in enumerate(zip(*each, strict=True), each[0].steps_done + 1):
            weights = [batches.weight(number) for batches in each]
            assert sum(weights) == pytest.approx(size)
            union.append(sorted(chain(*(b for b, w in zip(step, weights, strict=True) if w > 0))))
        unions.append(union)
    assert all(union == unions[0] for union in unions)
    assert list(chain(*unions[0])) == list(range(start, num_items))


def test_another_number_of_processes_goes_on_where_they_stopped():
    first = EpochBatches(20, 2, 0, 3)
    second = EpochBatches(20, 2, 0, 1)
    second.start = first.items_before(2)
    assert second.start == 12 and next(iter(second)) == [12, 13]
    assert second.steps_done == 6 and len(second) == 10
