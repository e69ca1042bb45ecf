"""Prepares WHAM! and WHAMR!: WSJ0-2mix under the noise of real places, WHAMR! in rooms too.

Their scripts write ``wav8k/min/{tr,cv,tt}/{mix_both,mix_clean,mix_single,noise,s1,s2}/*.wav``, and
so on for ``wav16k`` and ``max``; WHAMR!'s mixtures and sources end in ``_anechoic`` or ``_reverb``.
The names of the files are WSJ0-2mix's.
"""

import os
import re
from functools import partial
from pathlib import Path

import pandas as pd
from speechbrain.utils.logger import get_logger

from data_prep.corpora import published
from data_prep.corpora.generated import generated_part, longest_cuts
from data_prep.corpora.wsj0mix import speakers_of, utterances_of
from data_prep.scan import manifests
from data_prep.scan.scan import scan, usable

logger = get_logger(__name__)

PARTS = {"train.csv": "tr", "valid.csv": "cv", "test.csv": "tt"}
PUBLISHED = {"train.csv": 20000, "valid.csv": 5000, "test.csv": 3000}
MIXTURE = re.compile(r"(clean|both|single)(_anechoic|_reverb)?")


def prepare(
    data_folder: str | os.PathLike,
    output_folder: str | os.PathLike,
    sample_rate: int,
    num_spks: int = 2,
    mode: str = "min",
    mixture: str = "both",
    target: str = "reverberant",
    in_rooms: bool = False,
) -> None:
    """Make ``pool.csv``, ``train.csv``, ``valid.csv`` and ``test.csv``; with noise ``noise.csv``.

    The pool, for dynamic mixing, holds the longest cut of each utterance of the training part:
    the dry one, where there is one, so that rooms may be drawn for it.

    Arguments
    ---------
    data_folder : str or os.PathLike
        Generated folders.
    output_folder : str or os.PathLike
        Where the manifests go; made if missing.
    sample_rate : int
        8000 or 16000 Hz.
    num_spks : int
        2; 1 for single.
    mode : str
        "min" or "max": a mixture is as long as its shortest or as its longest source.
    mixture : str
        "clean", "both" (with noise) or "single" (one voice and noise); of WHAMR! with
        "_anechoic" or "_reverb" behind it.
    target : str
        Sources of WHAMR!'s reverberant mixtures: "reverberant" or "dry".
    in_rooms : bool
        Whether dynamic mixing has rooms.

    Raises
    ------
    ValueError
        A folder is not what it should be, or files are missing or broken: all are named.
    """
    data_folder, output_folder = Path(data_folder), Path(output_folder)
    place = Path(f"wav{sample_rate // 1000}k", mode)
    folder = published.find_generated(data_folder, place, PARTS["train.csv"], "WHAM! or WHAMR!")
    room = _check_mixture(folder, mixture, num_spks, target)
    source = "_anechoic" if room and target == "dry" else room
    if room == "_reverb" and not in_rooms:
        logger.warning(
            "New mixtures of dynamic mixing are dry, those of the corpus are not: "
            "set rooms to a folder, or dynamic_mixing to False"
        )
    make = partial(_tables, data_folder, folder, sample_rate, num_spks, mode, mixture, source)
    names = sorted(folder.glob(f"*/mix_{mixture}/[!.]*.wav"))
    state = {"corpus": "wham", "sample_rate": sample_rate, "num_spks": num_spks, "mode": mode}
    state |= {"mixture": mixture, "source": source}
    state["files"] = manifests.fingerprint(
        data_folder, [str(path.relative_to(data_folder)) for path in names]
    )
    if manifests.is_prepared(output_folder, state):
        return
    tables = make(output_folder)
    manifests.expect(tables, PUBLISHED, "WHAMR!" if room else "WHAM!")
    manifests.write(output_folder, tables, state)


def _check_mixture(folder: Path, mixture: str, num_spks: int, target: str) -> str:
    """Stop where there are no such mixtures; return "", "_anechoic" or "_reverb"."""
    found = MIXTURE.fullmatch(mixture)
    there = sorted(path.name.removeprefix("mix_") for path in (folder / "tr").glob("mix_*"))
    if found is None or mixture not in there:
        raise ValueError(
            f"mixture is {mixture}, {folder / 'tr'} has {', '.join(there)}: set mixture to one of "
            "them"
        )
    wanted = 1 if found[1] == "single" else 2
    if num_spks != wanted:
        raise ValueError(
            f"num_spks is {num_spks}, {mixture} mixtures have {wanted}: set num_spks to that, or "
            "mixture to another one"
        )
    if found[2] == "_reverb" and target == "early":
        raise ValueError(
            "target is early, WHAMR!'s sources are reverberant or dry: set target to one of them"
        )
    return found[2] or ""


def _tables(
    data_folder: Path,
    folder: Path,
    sample_rate: int,
    num_spks: int,
    mode: str,
    mixture: str,
    source: str,
    output_folder: Path,
) -> dict[str, pd.DataFrame]:
    read = partial(
        generated_part,
        data_folder,
        speakers_of=speakers_of,
        sample_rate=sample_rate,
        output_folder=output_folder,
        mode=mode,
    )
    tables = {}
    for name, part in PARTS.items():
        tables[name], files = read(folder / part, f"mix_{mixture}", _sources(num_spks, source))
        if name == "train.csv":
            if source == "_reverb":
                _, files = read(folder / part, f"mix_{mixture}", _sources(num_spks, "_anechoic"))
            pool = longest_cuts(tables[name], files, utterances_of)
    pools = {"pool.csv": pool.assign(measure="active")}
    if not mixture.startswith("clean"):
        train = folder / PARTS["train.csv"] / "noise"
        names = sorted(str(path.relative_to(data_folder)) for path in train.glob("[!.]*.wav"))
        if not names:
            raise ValueError(f"No wav files in {train}: the generated corpus is incomplete")
        pools["noise.csv"] = usable(
            scan(data_folder, names, sample_rate, str, folder=output_folder)
        )
    return pools | tables


def _sources(num_spks: int, ending: str) -> list[str]:
    """Name of the folders of sources."""
    return [f"s{c}{ending}" for c in range(1, num_spks + 1)]
