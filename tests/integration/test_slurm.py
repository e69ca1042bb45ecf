"""The batch scripts, with srun, scancel and scontrol made up."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT

SCRIPTS = sorted((ROOT / "recipes/slurm").glob("*.sbatch"))
# srun runs what follows its options; scancel signals what srun runs; each writes down its call
SRUN = """#!/bin/bash
echo "srun $*" >> calls
while [[ "$1" == --* ]]; do shift; done
"$@" &
echo $! > running
wait $!
code=$?
wait
exit $code
"""
SCANCEL = """#!/bin/bash
echo "scancel $*" >> calls
kill -USR1 "$(cat running)"
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >> calls
[ "$1" = show ] && printf 'node1\\nnode2\\n'
exit 0
"""
# in place of python and of torchrun: says its arguments; ends as told, or when it is told
TRAIN = """#!{python}
import os, signal, sys, time
open("calls", "a").write("train " + " ".join(sys.argv[1:]) + "\\n")
if os.environ["CODE"]:
    sys.exit(int(os.environ["CODE"]))
signal.signal(signal.SIGUSR1, lambda *_: sys.exit({code}))
open("started", "w").close()
time.sleep(30)
"""


@pytest.fixture
def cluster(tmp_path) -> Path:
    """A project's folder with the scripts, and the commands in its virtual environment."""
    shutil.copytree(ROOT / "recipes/slurm", tmp_path / "recipes/slurm")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / "wsj0-mix").mkdir()
    (tmp_path / "wsj0-mix" / "a.wav").write_text("sound")
    commands = {
        "srun": SRUN,
        "scancel": SCANCEL,
        "scontrol": SCONTROL,
        "python": TRAIN.format(python=sys.executable, code=75),
        "torchrun": TRAIN.format(python=sys.executable, code=1),  # whatever train.py's is
    }
    for name, text in commands.items():
        (tmp_path / ".venv/bin" / name).write_text(text)
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    (tmp_path / ".venv/bin/activate").write_text(f'PATH="{tmp_path}/.venv/bin:$PATH"\n')
    return tmp_path


def submit(cluster: Path, script: Path, code: int | str, **variables) -> subprocess.Popen:
    path = os.environ["PATH"]
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
        "PATH": f"{cluster}/.venv/bin:{path}",  # srun and so on are the system's
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_SUBMIT_DIR": str(cluster),
        "SLURM_TMPDIR": str(cluster / "local"),
        "SLURM_GPUS_ON_NODE": "8",
        "DATA": str(cluster / "wsj0-mix"),
        "CODE": str(code),
        **variables,
    }
    command = ["bash", f"recipes/slurm/{script.name}", "hparams/sfsrnet.yaml", "--lr", "1"]
    return subprocess.Popen(command, cwd=cluster, env=env, stdout=subprocess.PIPE)


def calls(cluster: Path) -> str:
    return (cluster / "calls").read_text()


@pytest.mark.parametrize("path", [*SCRIPTS, ROOT / "recipes/slurm/common.sh"], ids=lambda p: p.name)
def test_is_bash(path):
    subprocess.run(["bash", "-n", path], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-x", path], check=True, cwd=ROOT)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_data_is_staged_and_the_arguments_arrive(script, cluster):
    assert submit(cluster, script, code=0).wait(20) == 0
    assert (cluster / "local/data/a.wav").read_text() == "sound"
    options = f"train.py hparams/sfsrnet.yaml --lr 1 --data_folder {cluster}/local/data"
    assert options in calls(cluster) and "scontrol requeue" not in calls(cluster)
    if script.stem == "multi_node":
        assert "--nnodes=2 --nproc-per-node=8" in calls(cluster)
        assert "--rdzv-endpoint=node1:29500" in calls(cluster)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_told_to_stop_it_is_requeued(script, number, cluster):
    job = submit(cluster, script, code="")
    deadline = time.monotonic() + 20
    while not (cluster / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    job.send_signal(number)
    assert job.wait(20) == (75 if script.stem == "single_node" else 1)
    assert "scancel --signal=USR1 42" in calls(cluster)
    assert calls(cluster).splitlines()[-1] == "scontrol requeue 42"


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (1, False), (0, False)])
def test_only_what_can_go_on_is_requeued(code, requeued, cluster):
    assert submit(cluster, SCRIPTS[1], code).wait(20) == code
    assert ("scontrol requeue 42" in calls(cluster)) == requeued


@pytest.mark.parametrize(("code", "stays"), [(75, True), (1, False), (0, False)])
def test_a_copy_that_slurm_would_leave_is_removed(code, stays, cluster):
    variables = {"SLURM_TMPDIR": "", "TMPDIR": str(cluster / "tmp")}
    assert submit(cluster, SCRIPTS[1], code, **variables).wait(20) == code
    assert (cluster / "tmp/sfsrnet-42/data/a.wav").exists() == stays


def test_without_data_it_says_so(cluster):
    job = submit(cluster, SCRIPTS[0], 0, DATA="")
    assert job.wait(20) != 0 and not (cluster / "calls").exists()
