"""What a scan found out so far: one that was stopped goes on where it was."""

import json
import os
from contextlib import suppress
from pathlib import Path
from threading import Lock

FILE = "scanned.jsonl"


class Scanned:
    """Facts about files, by path, size and time of change, kept in a file as they come.

    Arguments
    ---------
    folder : Path, optional
        Where ``scanned.jsonl`` lies; None keeps nothing.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "a.wav").write_bytes(b"sound")
    >>> with Scanned(folder) as scanned:
    ...     scanned.add(folder / "a.wav", "8000", {"duration": 1.5})
    >>> with Scanned(folder) as scanned:
    ...     scanned.get(folder / "a.wav", "8000"), scanned.get(folder / "a.wav", "16000")
    ({'duration': 1.5}, None)
    """

    def __init__(self, folder: Path | None):
        self.path = None if folder is None else folder / FILE
        self.known: dict[str, dict] = {}
        self._lock = Lock()

    def __enter__(self) -> "Scanned":
        if self.path is None:
            return self
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    self.known |= json.loads(line)
                except json.JSONDecodeError:  # the last one, of a run that was killed
                    continue
        self._file = self.path.open("a", buffering=1, encoding="utf-8")  # lines, kept at once
        self._write("\n")  # whatever was left unfinished ends here
        return self

    def __exit__(self, *_) -> None:
        if self.path is not None:
            with suppress(OSError):  # told already, by ``_write``
                self._file.close()

    def get(self, path: Path, question: str) -> dict | None:
        """Facts about a file as it is now, or None; `question` says what was measured."""
        return self.known.get(_key(path, question)) if self.known else None

    def add(self, path: Path, question: str, facts: dict) -> None:
        """Keep facts about a file; an ``OSError`` says that the disk is full."""
        key = _key(path, question)
        if self.path is not None and key not in self.known:
            with self._lock:  # scans are made of threads
                self._write(json.dumps({key: facts}) + "\n")

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error.strerror}") from error


def _key(path: Path, question: str) -> str:
    stat = os.stat(path)
    return f"{os.path.abspath(path)} {stat.st_size} {stat.st_mtime_ns} {question}"
