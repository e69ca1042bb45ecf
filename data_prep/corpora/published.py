"""What corpora of published mixing lists share: finding, making manifests, writing mixtures."""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.contrib.concurrent import thread_map

from data_prep.scan import manifests
from sfsrnet_modules.common.writing import write_wav

LIST_SUFFIXES = (".txt", ".csv")


# --- Finding ------------------------------------------------------------------------------------


def find_generated(
    data_folder: Path, path: Path, part: str, corpus: str, itself: str | None = None
) -> Path:
    """Find the folder of a corpus's parts under any folder above it.

    Arguments
    ---------
    data_folder : Path
        ``path``, or a folder on the way down to it.
    path : Path
        Where the parts are, from the top of the corpus; its last folder is the mode.
    part : str
        Folder that is to be in it.
    corpus, itself : str
        Names of the mixtures and of the speech that they are made of, where lists of it are
        published, for the message.

    Raises
    ------
    ValueError
        There is none, or one of the other mode.
    """
    for i in range(len(path.parts) + 1):
        folder = data_folder.joinpath(*path.parts[i:])
        if (folder / part).is_dir():
            _check_mode(folder.absolute().name, path.name)
            return folder
    otherwise = f", or to {itself} itself and lists to the published lists" if itself else ""
    raise ValueError(
        f"No {path}/{part} in {data_folder}: set data_folder to generated {corpus} folders of that "
        f"rate, mode, part and number of speakers{otherwise}"
    )


def _check_mode(name: str, mode: str) -> None:
    if name in {"min", "max"} - {mode}:
        raise ValueError(
            f"mode is {mode}, data_folder leads to mixtures of mode {name}: set mode to {name}, or "
            f"data_folder to those of {mode}"
        )


def find_lists(lists: Path, pattern: str) -> list[Path]:
    """Find published lists in a folder or below it, as in a clone of their repository."""
    return sorted(lists.rglob(pattern), key=lambda path: (len(path.parts), path))


def find_list(lists: Path, name: str, corpus: str) -> Path:
    """Find one published list; a ``ValueError`` says where there is none."""
    found = find_lists(lists, name)
    if not found:
        raise ValueError(
            f"No {name} in {lists}: set lists to the folder of the published lists of {corpus}"
        )
    return found[0]


def fingerprint_lists(lists: Path) -> str:
    """Digest of the lists in a folder and below it."""
    paths = (path for path in find_lists(lists, "*") if path.suffix in LIST_SUFFIXES)
    return manifests.fingerprint(lists, [str(path.relative_to(lists)) for path in paths])


def wanted(tables: Iterable[pd.DataFrame], columns: str) -> list[str]:
    """Entries of all columns whose name a regular expression finds, sorted, each once."""
    entries = [table.filter(regex=columns).to_numpy().ravel() for table in tables]
    return sorted(set(np.concatenate(entries)))


# --- Manifests ----------------------------------------------------------------------------------


def make_manifests(
    make: Callable[[Path], dict[str, pd.DataFrame]],
    output_folder: Path,
    state: dict,
    published: dict[str, int],
    corpus: str,
) -> None:
    """Make and writes the manifests, unless they were made of the same.

    Arguments
    ---------
    make : callable
        Of the output folder; the manifests by name.
    output_folder : Path
    state : dict
        What they are made of.
    published : dict
        Number of mixtures of each manifest, of which another one is warned.
    corpus : str
        Its name, for the warning.
    """
    if manifests.is_prepared(output_folder, state):
        return
    tables = make(output_folder)
    manifests.expect(tables, published, corpus)
    manifests.write(output_folder, tables, state)


def fit_lengths(parts: list[np.ndarray], mode: str) -> list[np.ndarray]:
    """Cut sounds to the shortest of them ("min"), or pads to the longest ("max"): [T] each."""
    lengths = [len(part) for part in parts]
    length = min(lengths) if mode == "min" else max(lengths)
    return [np.pad(part, (0, max(length - len(part), 0)))[:length] for part in parts]


# --- Writing ------------------------------------------------------------------------------------


def write_tree(
    root: Path,
    tables: dict[str, pd.DataFrame],
    names: list[str],
    id_column: str,
    make: Callable[[dict, int, str], list[np.ndarray]],
    sample_rates: Iterable[int],
    modes: Iterable[str],
) -> None:
    """Write the mixtures of lists, ``wav8k/min/<part>/<name>/<ID>.wav``; what is there stays.

    Arguments
    ---------
    root : Path
        Where ``wav8k`` and so on are made.
    tables : dict
        Names of parts, and their lists.
    names : list of str
        Folders of a part.
    id_column : str
        Of the lists.
    make : callable
        Of an item of a list, a rate in Hz and a mode; the audio of each folder, [T].
    sample_rates : iterable of int
        Hz.
    modes : iterable of str
        "min", "max".
    """
    for rate, mode, part in itertools.product(sample_rates, modes, tables):
        folder = root / f"wav{rate // 1000}k" / mode / part
        for name in names:
            (folder / name).mkdir(parents=True, exist_ok=True)

        def write(item: dict, rate=rate, mode=mode, folder=folder) -> None:
            paths = [folder / name / f"{item[id_column]}.wav" for name in names]
            if not all(path.exists() for path in paths):
                for path, audio in zip(paths, make(item, rate, mode), strict=True):
                    write_wav(path, audio, rate)

        items = tables[part].to_dict("records")
        thread_map(write, items, desc=f"Writing {folder}", unit="mixture")


def run_command(
    write: Callable, arguments: list[str] | None, description: str, lists: str, parts: list[str],
    choices: Iterable[str], **options: dict,
) -> int:  # fmt: skip
    """Write mixtures from the command line; an error is one line, and makes the exit status 1.

    Arguments
    ---------
    write : callable
        Of the options, by name.
    arguments : list of str, optional
        Default: the program's.
    description, lists : str
        Help of the command and of its ``--lists``.
    parts : list of str
        Those that are written by default.
    choices : iterable of str
        Those that there are.
    **options
        Further options, and the arguments of ``add_argument`` for each.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data_folder", help="the speech that the lists name, or a copy of it")
    parser.add_argument("--lists", required=True, help=lists)
    parser.add_argument("--output_folder", required=True)
    parser.add_argument("--num_spks", type=int, default=2)
    parser.add_argument("--sample_rates", type=int, nargs="+", default=[8000], help="Hz")
    parser.add_argument("--modes", nargs="+", default=["min"], choices=["min", "max"])
    parser.add_argument("--parts", nargs="+", default=parts, choices=choices)
    for name, details in options.items():
        parser.add_argument(f"--{name}", **details)
    try:
        write(**vars(parser.parse_args(arguments)))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
