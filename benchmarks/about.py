"""What every table of measurements says of itself: command, commit, machine."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def provenance(*packages: str) -> str:
    """A sentence with the command, the commit and the machine, and the versions of `packages`.

    Of a path from the root, which says nothing on another machine, the last part is named.
    """
    arguments = [Path(word).name if os.path.isabs(word) else word for word in sys.argv[1:]]
    command = " ".join([f"python -m benchmarks.{Path(sys.argv[0]).stem}", *arguments])
    load = os.getloadavg()[0]
    return f"`{command}`, commit {commit()}, {machine(*packages)}; load average {load:.1f} before."


def machine(*packages: str) -> str:
    """Cores and processor, and the versions of Python, PyTorch and `packages`."""
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", *packages))
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {processor()}, Python {platform.python_version()}, {names}"


def facts() -> dict[str, str]:
    """What the benchmarks' reports are filled in with, by name."""
    return {
        "commit": commit(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "cores": str(len(os.sched_getaffinity(0))),
        "cpu": processor(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "speechbrain")},
    }


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


def write_above(path: Path, text: str, heading: str) -> None:
    """Write a report; what a file has from a heading on stays: others' and earlier figures."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    _, found, others = before.partition(f"\n{heading}")
    path.write_text(f"{text}{found}{others}", encoding="utf-8")
