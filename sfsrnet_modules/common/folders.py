"""The one walk over a folder: every file once, whatever links lie in it."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: str | os.PathLike) -> list[Path]:
    """List the files in a folder and below it.

    Links are followed. A file or a folder that is met by its own name isn't met by a link again, so
    that a link to itself, to a parent or from one speaker to another adds nothing. What is hidden
    (names begin with a dot, as ``.DS_Store`` and ``._a.wav`` of other systems) is left out.

    Arguments
    ---------
    folder : str or os.PathLike

    Returns
    -------
    list of Path
        Sorted, below `folder`.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> for name in ("a.wav", "._a.wav"):
    ...     (folder / name).touch()
    >>> (folder / "round").symlink_to(folder)
    >>> [path.name for path in files_below(folder)]
    ['a.wav']
    """
    found, folders, links = {}, set(), [os.fspath(folder)]
    while links:  # files and folders by their own names come first, then those of links
        here, links = links, []
        for top in here:
            for path in _walk(top, folders, links):
                found.setdefault(os.path.realpath(path), path)
    return sorted(map(Path, found.values()))


def _walk(top: str, folders: set[str], links: list[str]) -> Iterator[str]:
    """Yield files below `top` that are no links; `links` is given what is one."""
    if os.path.isfile(top):
        yield top
    for folder, below, names in os.walk(top):
        if (real := os.path.realpath(folder)) in folders:
            below.clear()
            continue
        folders.add(real)
        below[:] = [name for name in below if not name.startswith(".")]
        for name in (*below, *names):
            path = os.path.join(folder, name)
            if name.startswith("."):
                continue
            if os.path.islink(path):
                links.append(path)
            elif name in names and os.path.isfile(path):
                yield path
