"""The direction of imports (train.py -> brain -> losses, metrics) and the size of things."""

import ast
from pathlib import Path

from conftest import ROOT

MODELS = ("transformer", "separator", "dual_path", "super_resolution", "sfsrnet")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reaches(path: Path, *names: str) -> bool:
    return any(name == n or name.startswith(f"{n}.") for name in imports(path) for n in names)


def test_models_know_no_brain_no_loss_and_no_data():
    others = ("brain", "losses", "metrics", "inference", "export", "example", "hparams")
    forbidden = [f"sfsrnet_modules.{name}" for name in others]
    for name in MODELS:
        assert not reaches(ROOT / f"sfsrnet_modules/{name}.py", "data_prep", *forbidden), name


def test_separators_know_no_super_resolution():
    for name in ("transformer", "separator", "dual_path"):
        path = ROOT / f"sfsrnet_modules/{name}.py"
        assert not reaches(path, "sfsrnet_modules.super_resolution", "sfsrnet_modules.sfsrnet")


def test_data_preparation_knows_no_model():
    for path in (ROOT / "data_prep").glob("*.py"):
        inner = {name for name in imports(path) if name.startswith("sfsrnet_modules.")}
        assert inner == set(), path  # the bare package only makes torchaudio importable


def test_modules_know_no_data_preparation():
    for path in (ROOT / "sfsrnet_modules").glob("*.py"):
        assert not reaches(path, "data_prep"), path


def test_parameters_are_reached_through_modules_alone():
    """DDP wraps `self.modules` only: a model called through `hparams` is never synchronised."""
    brain = (ROOT / "sfsrnet_modules/brain.py").read_text(encoding="utf-8")
    assert "self.hparams.model(" not in brain and "def fit_batch" not in brain


def test_the_story_and_the_readme_stay_short():
    assert len((ROOT / "train.py").read_text().splitlines()) < 80
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
