"""The direction of imports (train.py -> training -> models) and the size of things."""

import ast
from pathlib import Path

import pytest

from conftest import ROOT


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


# what a room of sfsrnet_modules may import beside itself; data_prep may import `common` alone
MAY_IMPORT = {
    "common": set(),
    "models": {"common"},
    "evaluation": {"common", "models", "inference"},
    "training": {"common", "models", "evaluation", "inference"},
    "inference": {"common", "models"},
    "publishing": {"common", "models", "training", "evaluation", "inference"},
    "apps": {"common", "evaluation", "inference", "publishing"},
}


def test_every_room_is_named_and_every_module_is_in_one():
    package = ROOT / "sfsrnet_modules"
    assert {path.parent.name for path in package.glob("*/__init__.py")} == set(MAY_IMPORT)
    assert [path.name for path in package.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_in_one_direction(room):
    others = set(MAY_IMPORT) - MAY_IMPORT[room] - {room}
    forbidden = ["data_prep", *(f"sfsrnet_modules.{name}" for name in others)]
    for path in (ROOT / "sfsrnet_modules" / room).glob("*.py"):
        assert not reaches(path, *forbidden), path


def test_separators_know_no_super_resolution():
    for name in ("transformer", "separator", "dual_path"):
        path = ROOT / f"sfsrnet_modules/models/{name}.py"
        assert not reaches(
            path, "sfsrnet_modules.models.super_resolution", "sfsrnet_modules.models.sfsrnet"
        )


def test_data_preparation_knows_no_model():
    rooms = [f"sfsrnet_modules.{name}" for name in MAY_IMPORT if name != "common"]
    for path in (ROOT / "data_prep").rglob("*.py"):
        assert not reaches(path, *rooms), path


def test_what_is_measured_or_shipped_needs_no_test():
    for room in ("benchmarks", "data_prep", "sfsrnet_modules"):
        for path in (ROOT / room).rglob("*.py"):
            assert not reaches(path, "tests", "conftest"), path
            assert "from conftest" not in path.read_text(encoding="utf-8"), path  # in doctests


def test_parameters_are_reached_through_modules_alone():
    """DDP wraps `self.modules` only: a model called through `hparams` is never synchronised."""
    brain = (ROOT / "sfsrnet_modules/training/brain.py").read_text(encoding="utf-8")
    assert "self.hparams.model(" not in brain and "def _fit_train" not in brain


def test_the_story_and_the_readme_stay_short():
    assert len((ROOT / "train.py").read_text().splitlines()) < 80
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
