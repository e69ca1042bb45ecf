"""Trees of WSJ0 and LibriSpeech: with made-up speech, or with the very names of the published lists
and other real speech."""

import errno
import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from conftest import ROOT, SPEECH
from data_prep.scan import scanned
from tests import scripts

LISTS = ROOT.parent / "shared" / "metadata"
RATE = 16000
THIRD_DB = (0, -0.000043, 1.23456789, -2.5)  # gains of a third speaker, some long to write


def need_published() -> None:
    """Skip where the published lists or real speech are missing."""
    if not (SPEECH.is_dir() and LISTS.is_dir()):
        pytest.skip("published lists and real speech are not here: ../shared is missing")


def recordings(speech: Path, number: int = 40, seconds: float = 4.0) -> list[np.ndarray]:
    """Real recordings at 16 kHz, each of another length of up to `seconds`."""
    paths = sorted((speech / "librispeech").glob("*/*.flac"))[:number]
    lengths = np.linspace(0.5, 1, number) * seconds * RATE
    return [
        sf.read(p, frames=int(n), dtype="float32")[0] for p, n in zip(paths, lengths, strict=True)
    ]


def voices(number: int = 12, seconds: float = 1.5, seed: int = 0) -> list[np.ndarray]:
    """Made-up recordings: noise in syllables, each of another length of up to `seconds`."""
    rng = np.random.default_rng(seed)
    lengths = (np.linspace(0.5, 1, number) * seconds * RATE).astype(int)
    syllables = [np.sin(np.arange(n) / RATE * rng.uniform(10, 20)) ** 2 for n in lengths]
    return [0.05 * s * rng.standard_normal(len(s)) for s in syllables]


def stereo(audio: list[np.ndarray]) -> list[np.ndarray]:
    """As WHAM's noise: two channels, [frames, 2] each."""
    return [np.stack([a, a[::-1]], axis=-1) for a in audio]


def fill(names: list[str], folder: Path, audio: list[np.ndarray]) -> Path:
    """Give each name some recording; few files, many links."""
    store = folder / ".store"
    store.mkdir(parents=True)
    for name, (i, samples) in zip(sorted(set(names)), itertools.cycle(enumerate(audio))):
        original = store / f"{i}{Path(name).suffix}"
        if not original.exists():
            sf.write(original, samples, RATE)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(original)
    return folder


def own(path: Path, data: bytes | None = None) -> Path:
    """Make a file of `fill` one of its own, with other data, so that changes leave the others."""
    data = path.read_bytes() if data is None else data
    path.unlink()
    path.write_bytes(data)
    return path


def spread(rows: list, number: int) -> list:
    """Evenly spaced rows."""
    return [rows[i * len(rows) // number] for i in range(min(number, len(rows)))]


def speaker_of(path: str) -> str:
    """LibriSpeech's folders are <subset>/<speaker>/<chapter>, WSJ0's wsj0/<subset>/<speaker>."""
    return path.split("/")[2 if path.startswith("wsj0") else 1]


def third_voice(paths: list[str], others: Iterable[list[str]]) -> str:
    """The first path of another speaker than those of a mixture."""
    speakers = {speaker_of(path) for path in paths}
    return next(path for other in others for path in other if speaker_of(path) not in speakers)


# --- WSJ0 ---------------------------------------------------------------------------------------


def wsj0_names(lists: Path) -> list[str]:
    """Paths of the utterances of all lists in a folder."""
    rows = [line.split() for p in sorted(lists.glob("mix_*.txt")) for line in p.open()]
    return [name for row in rows for name in row[::2]]


def wsj0_lists(folder: Path, tr: int, cv: int, tt: int) -> Path:
    """The published lists, cut to some lines, and with a third speaker as lists of three."""
    folder.mkdir(parents=True)
    for path in (LISTS / "wsj0-2mix").glob("activlev_*.txt"):
        shutil.copy(path, folder)
    for part, number in {"tr": tr, "cv": cv, "tt": tt}.items():
        lines = (LISTS / "wsj0-2mix" / f"mix_2_spk_{part}.txt").read_text().splitlines()
        write_wsj0_list(folder, part, [line.split() for line in spread(lines, number)])
    return folder


def write_wsj0_list(folder: Path, part: str, rows: list[list[str]]) -> None:
    thirds = [
        third_voice(row[::2], (other[::2] for other in rows[i:] + rows[:i]))
        for i, row in enumerate(rows)
    ]
    gains_db = itertools.cycle(map(str, THIRD_DB))
    three = [[*row, path, gain] for row, path, gain in zip(rows, thirds, gains_db, strict=False)]
    for num_spks, table in ((2, rows), (3, three)):
        text = "".join(f"{' '.join(row)} \n" for row in table)  # as published, with a space
        (folder / f"mix_{num_spks}_spk_{part}.txt").write_text(text)


def small_wsj0(folder: Path) -> tuple[Path, Path]:
    """WSJ0 and lists of 4, 2 and 2 mixtures, with made-up speech in `folder`."""
    lists, rng = folder / "lists", np.random.default_rng(0)
    lists.mkdir(parents=True)
    subsets = {"tr": "si_tr_s", "cv": "si_dt_05", "tt": "si_et_05"}
    for first, (part, subset) in enumerate(subsets.items()):
        speakers = [f"{first}{n:x}{c}" for n, c in enumerate("abcd")]
        names = [f"{s}c020{u}" for u in range(2) for s in speakers]
        levels = "".join(f"{name} {rng.uniform(1e-4, 1e-3):.16e}\n" for name in names)
        (lists / f"activlev_{subset}.txt").write_text(levels)
        paths = [f"wsj0/{subset}/{name[:3]}/{name}.wav" for name in names]
        gains = rng.uniform(0, 2.5, 4 if part == "tr" else 2)
        rows = [
            [paths[2 * i], f"{g:.5g}", paths[2 * i + 1], f"{-g:.5g}"] for i, g in enumerate(gains)
        ]
        write_wsj0_list(lists, part, rows)
    return fill(wsj0_names(lists), folder / "wsj0_discs", voices()), lists


# --- LibriSpeech --------------------------------------------------------------------------------


def librimix_names(lists: Path, prefix: str) -> list[str]:
    """Paths of the speech ("source") or of the noise ("noise") of all lists in a folder."""
    tables = [pd.read_csv(path) for path in sorted(lists.glob("libri*.csv"))]
    columns = [table[c] for table in tables for c in table.filter(regex=f"^{prefix}.*path$")]
    return [name for column in columns for name in column]


def librimix_lists(folder: Path, train: int, dev: int, test: int) -> Path:
    """The published lists, cut to some lines, and with a third speaker as lists of three."""
    folder.mkdir(parents=True)
    for part, number in {"train-clean-100": train, "dev-clean": dev, "test-clean": test}.items():
        lines = (LISTS / "libri2mix" / f"libri2mix_{part}.csv").read_text().splitlines()
        rows = [line.split(",") for line in spread(lines[1:], number)]
        write_librimix_list(folder, part, rows)
    return folder


def write_librimix_list(folder: Path, part: str, rows: list[list[str]]) -> None:
    thirds = [
        third_voice(row[1:5:2], (other[1:5:2] for other in rows[i:] + rows[:i]))
        for i, row in enumerate(rows)
    ]
    three = [
        [f"{row[0]}_{Path(path).stem}", *row[1:5], path, row[2], *row[5:]]
        for row, path in zip(rows, thirds, strict=True)
    ]
    for num_spks, table in ((2, rows), (3, three)):
        sources = [f"source_{c + 1}_{what}" for c in range(num_spks) for what in ("path", "gain")]
        header = ["mixture_ID", *sources, "noise_path", "noise_gain"]
        text = "".join(",".join(row) + "\n" for row in [header, *table])
        (folder / f"libri{num_spks}mix_{part}.csv").write_text(text)


def small_librispeech(folder: Path) -> tuple[Path, Path, Path]:
    """LibriSpeech, lists of 4, 2 and 2 mixtures, and noise, with made-up sound in `folder`."""
    lists, rng = folder / "lists", np.random.default_rng(0)
    lists.mkdir(parents=True)
    parts = [("train-clean-100", "tr", 4), ("dev-clean", "cv", 2), ("test-clean", "tt", 2)]
    for first, (subset, noise, number) in enumerate(parts, start=1):
        rows = []
        for i in range(number):
            speakers = [f"{first}{i}{c}" for c in (1, 2)]
            stems = [f"{speaker}-7-000{i}" for speaker in speakers]
            paths = [f"{subset}/{s}/7/{t}.flac" for s, t in zip(speakers, stems, strict=True)]
            gains = [f"{gain:.16f}" for gain in rng.uniform(0.3, 1.5, 3)]
            fields = ["_".join(stems), paths[0], gains[0], paths[1], gains[1]]
            rows.append([*fields, f"{noise}/{i}_0.5_{i}_-0.5.wav", gains[2]])
        write_librimix_list(lists, subset, rows)
    speech = fill(librimix_names(lists, "source"), folder / "LibriSpeech", voices())
    # The first noise is shorter than a speaker's turn, the others are longer.
    sounds = [
        sound[: RATE * 3 // 5] if i == 0 else sound for i, sound in enumerate(voices(4, 3.0, 1))
    ]
    noise = fill(librimix_names(lists, "noise"), folder / "wham_noise", stereo(sounds))
    return speech, lists, noise


# --- Accidents ----------------------------------------------------------------------------------

# Is killed when half of the n-th file is written.
KILLED = """
import os, signal, sys
from pathlib import Path

whole, left = Path.write_bytes, [int(sys.argv[2])]

def write_bytes(self, data):
    left[0] -= 1
    if left[0] == 0:
        whole(self, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, data)

Path.write_bytes = write_bytes
"""


def killed_at(nth: int, code: str) -> int:
    """Run Python code that is killed when it has written half of its n-th file; its status."""
    return scripts.run("-c", f"{KILLED}\n{code}", nth).returncode


def fill_disk_at(monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    """Let the disk be full when half of the n-th file is written, and stay so."""
    whole, written = Path.write_bytes, itertools.count(1)

    def write_bytes(self: Path, data: bytes):
        if next(written) < nth:
            return whole(self, data)
        whole(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_bytes)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Name and contents of all files in a folder, but for what scans keep for themselves."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    paths = (path for path in paths if path.name != scanned.FILE)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
