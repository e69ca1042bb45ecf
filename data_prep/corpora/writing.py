"""Writing mixtures as files, and the commands that do it."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm.contrib.concurrent import thread_map


def write_all(write: Callable[[dict], None], items: list[dict], folder: Path, names: list[str]):
    """Writes the items of a part in parallel, with a progress bar.

    Arguments
    ---------
    write : callable
        Writes one item, unless it is there.
    items : list of dict
    folder : Path
        Of the part.
    names : list of str
        Its sub-folders, made if missing.
    """
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    thread_map(write, items, desc=f"Writing {folder}", unit="mixture")


def told(write: Callable, arguments: argparse.Namespace) -> int:
    """Runs a command; an error is told in one line, and makes the exit status 1."""
    try:
        write(**vars(arguments))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
