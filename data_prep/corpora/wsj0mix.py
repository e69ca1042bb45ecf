"""WSJ0-2mix and WSJ0-3mix: from generated folders, or from WSJ0 itself and the published lists.

Generated folders are those of the MATLAB scripts and their ports,
``2speakers/wav8k/min/{tr,cv,tt}/{mix,s1,s2}``. From WSJ0 itself mixtures are mixed when they are
read, or written as such folders::

    python -m data_prep.corpora.wsj0mix WSJ0 --lists LISTS --output_folder wsj0-mix

``LISTS`` holds ``mix_2_spk_{tr,cv,tt}.txt`` and ``activlev_*.txt``, which the authors of deep
clustering publish.
"""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm.contrib.concurrent import thread_map

from data_prep.corpora import published
from data_prep.corpora.generated import generated_part, longest_cuts
from data_prep.scan import manifests
from data_prep.scan.scan import require_usable, scan
from sfsrnet_modules.common import decoding
from sfsrnet_modules.common.crops import read_audio
from sfsrnet_modules.common.folders import files_below

PARTS = {"train.csv": "tr", "valid.csv": "cv", "test.csv": "tt"}
PUBLISHED = {"train.csv": 20000, "valid.csv": 5000, "test.csv": 3000}
RATE = 16000  # Hz, of WSJ0
PEAK = 0.9  # of full scale, of each mixture or its loudest source
SOURCE = r"[0-9a-z]{8}_-?\d[\d.e+-]*"  # utterance and gain, of which a mixture's name is made
NAME = re.compile(f"{SOURCE}(_{SOURCE})*", re.I)
SUBSETS = ("si_tr_s", "si_dt_05", "si_et_05")  # folders of WSJ0 that the lists draw from
TESTED = SUBSETS[1:]  # of the list tt
SUFFIXES = (".wav", ".wv1", ".flac", ".sph")  # the first that is there is taken


def prepare(
    data_folder: str | os.PathLike,
    output_folder: str | os.PathLike,
    sample_rate: int,
    num_spks: int = 2,
    mode: str = "min",
    lists: str | os.PathLike | None = None,
    test_only: bool = False,
) -> None:
    """Make ``train.csv``, ``valid.csv``, ``test.csv``, and ``pool.csv`` for dynamic mixing.

    The pool holds the utterances of the training list: with WSJ0 itself at their published active
    levels; from generated folders the longest cut of each, at its RMS level.

    Arguments
    ---------
    data_folder : str or os.PathLike
        Generated folders, or WSJ0 itself.
    output_folder : str or os.PathLike
        Where the manifests go; made if missing.
    sample_rate : int
        8000 or 16000 Hz.
    num_spks : int
        Sources in a mixture.
    mode : str
        "min" or "max": a mixture is as long as its shortest or as its longest source.
    lists : str or os.PathLike, optional
        Folder of the published lists, for WSJ0 itself.
    test_only : bool
        ``test.csv`` alone, of the test's part of the corpus.

    Raises
    ------
    ValueError
        A folder is not what it should be, or files are missing or broken: all are named.
    """
    data_folder, output_folder = Path(data_folder), Path(output_folder)
    state = {"corpus": "wsj0mix", "sample_rate": sample_rate, "num_spks": num_spks, "mode": mode}
    parts = {"test.csv": PARTS["test.csv"]} if test_only else PARTS
    if lists is None:
        path = Path(f"{num_spks}speakers", f"wav{sample_rate // 1000}k", mode)
        folder = published.find_generated(
            data_folder, path, f"{next(iter(parts.values()))}/mix", "WSJ0-mix", "WSJ0"
        )
        make = partial(_from_generated, data_folder, folder, parts, sample_rate, num_spks, mode)
        names = [p for part in parts.values() for p in (folder / part).glob("mix/[!.]*.wav")]
        names = sorted(str(path.relative_to(data_folder)) for path in names)
    else:
        found = find_utterances(data_folder, TESTED if test_only else SUBSETS)
        corpus = Wsj0(data_folder, found, read_levels(Path(lists)))
        tables = {name: read_list(Path(lists), part, num_spks) for name, part in parts.items()}
        make = partial(_from_wsj0, corpus, tables, sample_rate, mode)
        names = [corpus.path(key) for key in published.wanted(tables.values(), "key_")]
        state["lists"] = published.fingerprint_lists(Path(lists))
    state["files"] = manifests.fingerprint(data_folder, names)
    published.make_manifests(make, output_folder, state, PUBLISHED, f"WSJ0-{num_spks}mix")


# --- Generated folders --------------------------------------------------------------------------


def _from_generated(
    data_folder: Path,
    folder: Path,
    parts: dict[str, str],
    sample_rate: int,
    num_spks: int,
    mode: str,
    output_folder: Path,
) -> dict[str, pd.DataFrame]:
    sources = [f"s{c + 1}" for c in range(num_spks)]
    tables, files = {}, {}
    for name, part in parts.items():
        tables[name], files[name] = generated_part(
            data_folder,
            folder / part,
            "mix",
            sources,
            speakers_of,
            sample_rate,
            output_folder,
            mode=mode,
        )
    if "train.csv" not in parts:
        return tables
    pool = longest_cuts(tables["train.csv"], files["train.csv"], utterances_of)
    return {"pool.csv": pool.assign(measure="active"), **tables}


def utterances_of(mixture: str) -> list[str]:
    """Utterances that the name of a mixture is made of, between their gains; none in other names.

    Example
    -------
    >>> utterances_of("01to030v_0.76421_20ga010m_-0.76421"), utterances_of("call_0001")
    (['01to030v', '20ga010m'], [])
    """
    return mixture.split("_")[::2] if NAME.fullmatch(mixture) else []


def speakers_of(mixture: str) -> list[str]:
    """Speakers of a mixture: an utterance's name begins with its speaker's.

    Example
    -------
    >>> speakers_of("01to030v_0.76421_20ga010m_-0.76421")
    ['01t', '20g']
    """
    return [utterance[:3] for utterance in utterances_of(mixture)]


# --- WSJ0 itself --------------------------------------------------------------------------------


class Mixed(NamedTuple):
    """A mixture made as the published scripts make it."""

    mixture: np.ndarray  # [T], float64
    sources: np.ndarray  # [C, T], float64
    gains: list[float]  # of each source's file
    lengths: list[int]  # of each source in samples, before it was cut or padded


class Wsj0(NamedTuple):
    """WSJ0 itself."""

    folder: Path
    paths: dict[str, str]  # of ``find_utterances``
    levels: dict[str, float]  # of ``read_levels``

    def path(self, key: str) -> str:
        """Path of an utterance relative to the folder; a made-up one where it is missing."""
        return self.paths.get(key, f"{key}.wav")

    def mix(self, item: dict, sample_rate: int, mode: str) -> Mixed:
        """Mix an item of a list, step by step as the published scripts do.

        Arguments
        ---------
        item : dict
            Row of ``read_list``.
        sample_rate : int
            Hz.
        mode : str
            "min" or "max".

        Returns
        -------
        Mixed
        """
        sources, gains = [], []
        for c in range(1, len(item) // 2 + 1):
            key, gain_db = item[f"key_{c}"], item[f"gain_db_{c}"]
            source = read_audio(self.folder / self.path(key), sample_rate).astype(np.float64)
            norm, gain = np.sqrt(self.levels[utterance_of(key)]), 10 ** (gain_db / 20)
            sources.append(source / norm * gain)  # [T_c]
            gains.append(gain / norm)
        lengths = [len(source) for source in sources]
        sources = np.stack(published.fit_lengths(sources, mode))  # [C, T]
        mixture = sources.sum(axis=0)  # [T]
        peak = max(1.0, np.abs(mixture).max(), np.abs(sources).max()) / PEAK
        return Mixed(mixture / peak, sources / peak, [gain / peak for gain in gains], lengths)


def find_utterances(data_folder: Path, subsets: Sequence[str] = SUBSETS) -> dict[str, str]:
    """Find WSJ0's utterances on its discs or in a copy, in upper or lower case.

    Arguments
    ---------
    data_folder : Path
        Any folder above ``si_tr_s``, ``si_dt_05`` and ``si_et_05``.
    subsets : sequence of str
        Those of them that are needed.

    Returns
    -------
    dict
        ``"si_tr_s/01t/01to030v"`` and so on, and the path of each relative to ``data_folder``.

    Raises
    ------
    ValueError
        It is not WSJ0, or an utterance is there twice.
    """
    found: dict[str, str] = {}
    for path in files_below(data_folder):
        *parts, name = (part.lower() for part in path.parts)
        subset = next((part for part in parts if part in SUBSETS), None)
        stem, suffix = os.path.splitext(name)
        if subset is not None and suffix in SUFFIXES:
            key = "/".join([subset, *parts[parts.index(subset) + 1 :], stem])
            found[key] = _preferred(found.get(key), str(path.relative_to(data_folder)))
    missing = [s for s in subsets if not any(key.startswith(s + "/") for key in found)]
    if missing:
        raise ValueError(
            f"{data_folder} is not WSJ0: no {', '.join(missing)} with {' or '.join(SUFFIXES)} "
            "files was found in it; set data_folder to the folder of its discs, or of a copy"
        )
    _check_decoder(data_folder, found)
    return found


def _preferred(first: str | None, second: str) -> str:
    """Of a recording and its converted copy, the copy."""
    if first is None:
        return second
    ranks = [SUFFIXES.index(os.path.splitext(path.lower())[1]) for path in (first, second)]
    if ranks[0] == ranks[1]:
        raise ValueError(
            f"{first} and {second} are two files of one utterance: remove one of them, or set "
            "data_folder to one copy of WSJ0"
        )
    return first if ranks[0] < ranks[1] else second


def _check_decoder(data_folder: Path, found: dict[str, str]) -> None:
    packed = next((p for p in found.values() if decoding.is_packed(data_folder / p)), None)
    if packed is not None and not decoding.is_installed():
        raise ValueError(f"{packed} is packed with Shorten: {decoding.UNPACK}")


def utterance_of(key: str) -> str:
    """Name of an utterance, ``01to030v``, of its key."""
    return key.split("/")[-1]


def read_list(lists: Path, part: str, num_spks: int) -> pd.DataFrame:
    """Read a published list, ``mix_2_spk_tr.txt`` for instance.

    Returns
    -------
    pd.DataFrame
        ID, the mixture's name in MATLAB's writing, and for each source i ``key_i`` (see
        ``find_utterances``) and ``gain_db_i``.

    Raises
    ------
    ValueError
        There is no such list, or it has a mixture twice.
    """
    path = published.find_list(lists, f"mix_{num_spks}_spk_{part}.txt", f"WSJ0-{num_spks}mix")
    columns = [f"{what}_{c + 1}" for c in range(num_spks) for what in ("path", "gain_db")]
    table = pd.read_csv(path, sep=r"\s+", names=columns, index_col=False, dtype=str)
    names = pd.Series("", index=table.index)
    for c in range(1, num_spks + 1):
        keys = table.pop(f"path_{c}").str.replace(r"^.*?(?=si_)|\.\w+$", "", regex=True)
        table[f"key_{c}"] = keys.str.lower()
        table[f"gain_db_{c}"] = table[f"gain_db_{c}"].astype(float)
        gains = table[f"gain_db_{c}"].map("{:12.8g}".format).str.strip()  # as MATLAB's num2str
        names += "_" + keys.str.split("/").str[-1] + "_" + gains
    table["ID"] = names.str[1:]
    manifests.check_ids(table["ID"], path.name)
    return table


def read_levels(lists: Path) -> dict[str, float]:
    """Read the published active levels, as power, of all utterances by name."""
    files = published.find_lists(lists, "activlev_*.txt")
    if not files:
        raise ValueError(f"No activlev_*.txt in {lists}: they are published with the lists")
    read = partial(pd.read_csv, sep=r"\s+", names=["name", "level"], index_col="name")
    return pd.concat([read(file) for file in files])["level"].to_dict()


def _from_wsj0(
    corpus: Wsj0,
    lists: dict[str, pd.DataFrame],
    sample_rate: int,
    mode: str,
    output_folder: Path,
) -> dict[str, pd.DataFrame]:
    files = check_files(corpus, lists.values(), sample_rate, output_folder)
    make = partial(_row, corpus, sample_rate, mode)
    tables = {
        name: pd.DataFrame(
            thread_map(make, table.to_dict("records"), desc=f"Mixing {name}", unit="mixture")
        )
        for name, table in lists.items()
    }
    if "train.csv" not in lists:
        return tables
    keys = published.wanted([lists["train.csv"]], "key_")
    names = [utterance_of(key) for key in keys]
    levels_db = [10 * np.log10(corpus.levels[name]) for name in names]
    speakers = [name[:3] for name in names]
    pool = files.loc[keys].assign(ID=names, level_db=levels_db, measure="active", speaker=speakers)
    return {"pool.csv": pool.drop(columns=["channels", "problem"]), **tables}


def check_files(
    corpus: Wsj0, lists: Iterable[pd.DataFrame], sample_rate: int, output_folder: Path
) -> pd.DataFrame:
    """Scan the utterances of lists; stops where some are missing, broken or without a level.

    Returns
    -------
    pd.DataFrame
        Of ``data_prep.scan.scan.scan``, by key.
    """
    keys = published.wanted(lists, "key_")
    names = [corpus.path(key) for key in keys]
    files = scan(corpus.folder, names, sample_rate, str, folder=output_folder)
    unmeasured = [utterance_of(key) not in corpus.levels for key in keys]
    files.loc[unmeasured, "problem"] = "not among the active levels"
    require_usable(files, RATE, output_folder, "complete the copy of WSJ0, or correct the lists")
    return files.set_axis(keys)


def _row(corpus: Wsj0, sample_rate: int, mode: str, item: dict) -> dict:
    """A row of a manifest: the mixture is made for the gains, which depend on its peak."""
    mixed = corpus.mix(item, sample_rate, mode)
    length = len(mixed.mixture)
    row = {"ID": item["ID"], "duration": length / sample_rate}
    for c, (gain, own) in enumerate(zip(mixed.gains, mixed.lengths, strict=True), start=1):
        key = item[f"key_{c}"]
        row |= {f"speaker_{c}": utterance_of(key)[:3], f"wav_{c}": f"$data_root/{corpus.path(key)}"}
        row |= {f"duration_{c}": min(own, length) / sample_rate, f"gain_{c}": gain}
    return row


# --- Writing ------------------------------------------------------------------------------------


def write(
    data_folder: str | os.PathLike,
    lists: str | os.PathLike,
    output_folder: str | os.PathLike,
    num_spks: int = 2,
    sample_rates: Iterable[int] = (8000,),
    modes: Iterable[str] = ("min",),
    parts: Iterable[str] = ("tr", "cv", "tt"),
) -> None:
    """Write the mixtures as the published scripts do; what is there already is left as it is.

    Arguments
    ---------
    data_folder : str or os.PathLike
        WSJ0 itself.
    lists : str or os.PathLike
        Folder of the published lists.
    output_folder : str or os.PathLike
        ``2speakers/wav8k/min/tr/mix`` and so on are made in it.
    num_spks : int
        Sources in a mixture.
    sample_rates : iterable of int
        Hz.
    modes : iterable of str
        "min", "max".
    parts : iterable of str
        "tr", "cv", "tt".

    Raises
    ------
    ValueError
        A folder is not what it should be, or files are missing or broken: all are named.
    OSError
        A file cannot be written.
    """
    corpus = Wsj0(Path(data_folder), find_utterances(Path(data_folder)), read_levels(Path(lists)))
    tables = {part: read_list(Path(lists), part, num_spks) for part in parts}
    check_files(corpus, tables.values(), max(sample_rates), Path(output_folder))
    names = ["mix", *(f"s{c + 1}" for c in range(num_spks))]

    def make(item: dict, sample_rate: int, mode: str) -> list[np.ndarray]:
        mixed = corpus.mix(item, sample_rate, mode)
        return [np.int16(np.round(2**15 * audio)) for audio in (mixed.mixture, *mixed.sources)]

    root = Path(output_folder, f"{num_spks}speakers")
    published.write_tree(root, tables, names, "ID", make, sample_rates, modes)


def main(arguments: list[str] | None = None) -> int:
    """Write the mixtures from the command line."""
    parts = list(PARTS.values())
    description = "Write WSJ0-2mix from WSJ0 and published lists."
    lists = "mix_*_spk_*.txt and activlev_*.txt, in it or below"
    return published.run_command(write, arguments, description, lists, parts, parts)


if __name__ == "__main__":
    sys.exit(main())
