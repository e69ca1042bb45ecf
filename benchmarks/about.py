"""What every table of measurements says of itself: command, commit, machine."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def provenance(*packages: str) -> str:
    """A sentence with the command, the commit and the machine, and the versions of `packages`."""
    module = Path(sys.argv[0]).stem
    command = " ".join([f"python -m benchmarks.{module}", *sys.argv[1:]])
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", *packages))
    cores = len(os.sched_getaffinity(0))
    return (
        f"`{command}`, commit {commit()}, {cores} cores of {processor()}, Python "
        f"{platform.python_version()}, {names}; load average {os.getloadavg()[0]:.1f} at the start."
    )


def commit() -> str:
    """The commit of the project, with "-dirty" where files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((x.split(": ")[1] for x in lines if x.startswith("model name")), "a processor")


def table(header: list[str], rows: list[list]) -> str:
    """A table in markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
