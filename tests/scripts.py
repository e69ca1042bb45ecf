"""Runs the project's scripts, each in a process of its own that need not import its libraries.

Importing them takes seconds a process. Here every process is a fork of one that has done it.
"""

import runpy
import sys
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from benchmarks.about import ROOT
from benchmarks.ranks import become_program, server


def run(*words: object, cwd: Path = ROOT) -> CompletedProcess[str]:
    """Run ``python WORDS...`` to its end: a script, ``-m MODULE`` or ``-c CODE``, arguments."""
    words = [str(word) for word in words]
    with TemporaryDirectory() as folder:
        printed = [Path(folder) / name for name in ("out", "err")]
        process = server.Process(target=_run, args=(words, printed, cwd))
        process.start()
        process.join()
        out, err = (path.read_text(encoding="utf-8") for path in printed)
        return CompletedProcess(words, process.exitcode, out, err)


def _run(words: list[str], printed: list[Path], cwd: Path) -> None:
    become_program(cwd, *printed)
    sys.argv = words[words[0] == "-m" :]
    if words[0] == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        exec(words[1], {"__name__": "__main__"})
    else:
        runpy.run_path(words[0], run_name="__main__")
