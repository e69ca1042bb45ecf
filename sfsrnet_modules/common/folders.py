"""The one walk over a folder: every file once, whatever links lie in it."""

import os
from collections.abc import Iterator
from pathlib import Path

from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

NAMED = 5  # files named in a message; more are counted


def files_below(folder: str | os.PathLike) -> list[Path]:
    """List the files in a folder and below it.

    Links are followed. A file or a folder that is met by its own name isn't met by a link again, so
    that a link to a parent or from one speaker to another adds nothing; the log names such links.
    A link to nothing is listed, so that what is missing is noticed. What is hidden (names begin
    with a dot, as ``.DS_Store`` and ``._a.wav`` of other systems) is left out.

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
    found, folders, links, idle = {}, set(), [os.fspath(folder)], []
    while links:  # files and folders by their own names come first, then those of links
        here, links = links, []
        for top in here:
            before = len(found)
            for real, path in _walk(top, folders, links):
                found.setdefault(real, path)
            if len(found) == before and top != os.fspath(folder):
                idle.append(Path(top))
    if idle:
        names = some_names(sorted(idle), folder)
        logger.info("%s: %d links lead to what is met already: %s", folder, len(idle), names)
    return sorted(map(Path, found.values()))


def some_names(paths: list[Path], folder: str | os.PathLike) -> str:
    """Name files below a folder, the first few of them, such that every terminal can print them."""
    names = ", ".join(str(path.relative_to(folder)) for path in paths[:NAMED])
    names += ", ..." if len(paths) > NAMED else ""
    return names.encode(errors="backslashreplace").decode()


def _walk(top: str, folders: set[str], links: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the files below `top`, by their real paths and these; `links` is given what is one."""
    if not os.path.isdir(top):
        yield os.path.realpath(top), top
    for folder, below, names in os.walk(top):
        real = os.path.realpath(folder)
        if real in folders:
            below.clear()
            continue
        folders.add(real)
        below[:] = [name for name in below if not name.startswith(".")]
        names = [name for name in names if not name.startswith(".")]
        links += [path for name in (*below, *names) if os.path.islink(path := f"{folder}/{name}")]
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield os.path.join(real, name), path
