"""The package alone: built, installed and used far from the checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from conftest import ROOT

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
OFFLINE = ["--no-build-isolation", "--no-deps", "--no-index", "-q"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("sfsrnet_modules", "data_prep"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    call([*PIP, "wheel", *OFFLINE, "-w", str(folder), str(folder / "source")], folder)
    (path,) = folder.glob("*.whl")
    return path


def call(command: list[str], folder: Path, **env: str) -> str:
    done = subprocess.run(command, cwd=folder, env=env or None, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_model_is_in_the_wheel_and_no_tests_are(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for model in ("sfsrnet-small-8k", "sfsrnet-small-16k"):
        assert f"sfsrnet_modules/pretrained/{model}/model.safetensors" in names
    tops = {name.split("/")[0] for name in names if "dist-info" not in name}
    assert tops == {"sfsrnet_modules", "data_prep"}


def test_the_installed_commands_run_anywhere_with_the_model_that_comes_along(wheel, tmp_path):
    site = tmp_path / "site"
    call([*PIP, "install", *OFFLINE, "--target", str(site), str(wheel)], tmp_path)
    soundfile.write(tmp_path / "talk.wav", 0.1 * np.random.default_rng(0).normal(size=8000), 8000)
    env = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    show = "import sfsrnet_modules; print(sfsrnet_modules.__file__)"
    assert str(site) in call([sys.executable, "-c", show], tmp_path, **env)
    command = [sys.executable, str(site / "bin" / "sfsrnet-separate"), "talk.wav", "-o", "voices"]
    call(command, tmp_path, **env)
    voices = [soundfile.info(path) for path in (tmp_path / "voices").glob("*.wav")]
    assert len(voices) == 2 and all(voice.duration == 1.0 for voice in voices)
    assert "--port" in call(
        [sys.executable, str(site / "bin" / "sfsrnet-demo"), "--help"], tmp_path, **env
    )
