"""recipes/one_gpu.sh, with a python in the place of the real one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from sfsrnet_modules.common.hparams import read_hparams, read_yaml

# writes down what it is called with; the plan writes its file, the training ends as told
PYTHON = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
with open("calls", "a") as calls:
    calls.write(json.dumps(words) + "\\n")
if words[:2] == ["-m", "benchmarks.plan"]:
    Path(words[words.index("--output") + 1]).write_text("a plan\\n\\n    python train.py 'a b'\\n")
elif words[0] == "train.py":
    sys.exit(int(os.environ.get("CODE", 0)))
elif words[0] == "export.py":
    sys.exit("error: no epoch ended")
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder with the script, and the python that it finds."""
    (tmp_path / "recipes").mkdir()
    shutil.copy(ROOT / "recipes/one_gpu.sh", tmp_path / "recipes")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(PYTHON)
    (tmp_path / "bin/python").chmod(0o755)
    return tmp_path


def run(project: Path, *options: str, minutes: str = "1", **variables: str) -> tuple[int, list]:
    """The exit code, and the words of each call of python."""
    (project / "calls").unlink(missing_ok=True)
    env = os.environ | {"PATH": f"{project}/bin:{os.environ['PATH']}"} | variables
    command = ["bash", "recipes/one_gpu.sh", "my speech", "noise", minutes, "out", *options]
    code = subprocess.run(command, cwd=project, env=env).returncode
    return code, [json.loads(line) for line in (project / "calls").read_text().splitlines()]


def test_the_training_that_was_planned_is_run_and_run_again(project):
    code, (plan, training) = run(project, "--ema", "0.9")
    assert code == 0 and training == ["train.py", "a b"]
    assert plan[:3] == ["-m", "benchmarks.plan", "hparams/shipped.yaml"]
    options = dict(zip(plan[3::2], plan[4::2], strict=True))
    assert options["--data_folder"] == "my speech" and options["--output_folder"] == "out"
    assert options["--minutes"] == "1" and options["--ema"] == "0.9"
    assert options["--fewer_voices"] == "{1: 0.06, 0: 0.01}"
    assert run(project, "--ema", "0.9", minutes="2") == (0, [training])  # what is planned stays
    command = ["bash", "recipes/one_gpu.sh", "my speech", "noise", "1", "out"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert (
        done.returncode == 2 and "begun with my\\ speech noise --ema 0.9 , not with" in done.stderr
    )


def test_minutes_are_whole(project):
    command = ["bash", "recipes/one_gpu.sh", "speech", "noise", "9.5", "out"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.stderr == "error: MINUTES is 9.5: give a whole number above 0\n"
    assert done.returncode == 2


def test_options_take_the_place_of_the_scripts_own(project):
    _, (plan, _) = run(project, "--lr=0.1", "--pause_share", "0")
    assert "--lr" not in plan and "--lr=0.1" in plan and plan.count("--pause_share") == 1


def test_what_the_time_ends_is_exported_and_asks_to_be_run_again(project):
    code, (_, _, export) = run(project, CODE="75")  # of train.py that was told to stop
    assert code == 75 and export == ["export.py", "out", "-o", "out/model"]
    code, (training,) = run(project, CODE="1")
    assert code == 1 and training[0] == "train.py"


def test_its_options_are_keys_of_the_configuration(project):
    _, (plan, _) = run(project)
    keys = {word.removeprefix("--") for word in plan[3::2]} - {"minutes", "output"}
    assert keys <= read_yaml(read_hparams(ROOT / "hparams/shipped.yaml")).keys()
    assert len(keys) >= 8
