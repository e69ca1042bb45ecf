"""Libri2Mix and Libri3Mix: from generated folders, or from LibriSpeech, WHAM and published lists.

Generated folders are those of the LibriMix scripts,
``Libri2Mix/wav8k/min/{train-360,dev,test}/{mix_clean,mix_both,s1,s2,noise}``. From LibriSpeech
mixtures are mixed when they are read, or written as such folders::

    python -m data_prep.corpora.librimix LibriSpeech --lists LISTS --output_folder out

``LISTS`` holds ``libri2mix_{train-clean-360,dev-clean,test-clean}.csv``, which the authors of
LibriMix publish as metadata.
"""

import os
import re
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.signal import resample_poly

from data_prep.corpora import published
from data_prep.corpora.generated import generated_part, longest_cuts
from data_prep.mixing.noise import extend_noise
from data_prep.scan import manifests
from data_prep.scan.scan import require_usable, scan, usable
from sfsrnet_modules.common.crops import num_resampled, rate_ratio, read_audio

RATE = 16000  # Hz, of LibriSpeech and of WHAM's noise here
NAME = re.compile(r"\d+-\d+-\d+(_\d+-\d+-\d+)*")  # speaker-chapter-utterance of each source
TYPES = ("clean", "both", "single")  # of mixtures: voices; voices and noise; one voice and noise
TRAIN_PARTS = ("train-360", "train-100")
SUBSETS = {
    "train-360": "train-clean-360",
    "train-100": "train-clean-100",
    "dev": "dev-clean",
    "test": "test-clean",
}
PUBLISHED = {
    2: {"train-360": 50800, "train-100": 13900, "dev": 3000, "test": 3000},
    3: {"train-360": 33900, "train-100": 9300, "dev": 3000, "test": 3000},
}


def prepare(
    data_folder: str | os.PathLike,
    output_folder: str | os.PathLike,
    sample_rate: int,
    num_spks: int = 2,
    mode: str = "min",
    mixture: str = "clean",
    train_part: str = "train-360",
    lists: str | os.PathLike | None = None,
    noise_folder: str | os.PathLike | None = None,
    test_only: bool = False,
) -> None:
    """Make ``train.csv``, ``valid.csv``, ``test.csv``, and ``pool.csv`` for dynamic mixing.

    With noise also ``noise.csv``. The pools hold what the training list names, at its loudness;
    from generated folders the longest cut of each utterance.

    Arguments
    ---------
    data_folder : str or os.PathLike
        Generated folders, or LibriSpeech itself.
    output_folder : str or os.PathLike
        Where the manifests go; made if missing.
    sample_rate : int
        8000 or 16000 Hz.
    num_spks : int
        Sources in a mixture; 1 for single.
    mode : str
        "min" or "max": a mixture is as long as its shortest or as its longest source.
    mixture : str
        "clean", "both" (with noise), or "single" (one voice with noise).
    train_part : str
        "train-360" or "train-100".
    lists : str or os.PathLike, optional
        Folder of the published lists, for LibriSpeech itself.
    noise_folder : str or os.PathLike, optional
        WHAM's noise, for LibriSpeech itself and mixtures with noise.
    test_only : bool
        ``test.csv`` alone, of the test's part of the corpus.

    Raises
    ------
    ValueError
        A folder is not what it should be, or files are missing or broken: all are named.
    """
    data_folder, output_folder = Path(data_folder), Path(output_folder)
    _check_arguments(mixture, num_spks, train_part)
    state = {"corpus": "librimix", "sample_rate": sample_rate, "num_spks": num_spks}
    state |= {"mode": mode, "mixture": mixture, "train_part": train_part}
    parts = {"train.csv": train_part, "valid.csv": "dev", "test.csv": "test"}
    if test_only:
        parts = {"test.csv": "test"}
    if lists is None:
        path = Path(f"Libri{max(num_spks, 2)}Mix", f"wav{sample_rate // 1000}k", mode)
        folder = published.find_generated(
            data_folder, path, next(iter(parts.values())), "LibriMix", "LibriSpeech"
        )
        make = partial(
            _from_generated, data_folder, folder, parts, sample_rate, mode, mixture, num_spks
        )
        visible = f"mix_{mixture}/[!.]*.wav"
        names = [p for part in parts.values() for p in (folder / part).glob(visible)]
        names = sorted(str(path.relative_to(data_folder)) for path in names)
    else:
        corpus = LibriSpeech(data_folder, _noise(noise_folder, mixture))
        tables = {
            name: read_list(Path(lists), part, max(num_spks, 2)) for name, part in parts.items()
        }
        make = partial(_from_librispeech, corpus, tables, sample_rate, mode, mixture)
        names = published.wanted(tables.values(), "^source_.*path$")
        state["lists"] = published.fingerprint_lists(Path(lists))
        if corpus.noise_folder is not None:
            sounds = published.wanted(tables.values(), "^noise_path$")
            state["noise"] = manifests.fingerprint(corpus.noise_folder, sounds)
    state["files"] = manifests.fingerprint(data_folder, names)
    num_listed = PUBLISHED.get(max(num_spks, 2), {})
    num_listed = {name: num_listed[part] for name, part in parts.items() if part in num_listed}
    corpus_name = f"Libri{max(num_spks, 2)}Mix"
    published.make_manifests(make, output_folder, state, num_listed, corpus_name)


def _check_arguments(mixture: str, num_spks: int, train_part: str) -> None:
    if mixture not in TYPES:
        raise ValueError(f"mixture is {mixture}: set it to one of {', '.join(TYPES)}")
    if train_part not in TRAIN_PARTS:
        raise ValueError(f"train_part is {train_part}: set it to {' or '.join(TRAIN_PARTS)}")
    if (mixture == "single") != (num_spks == 1):
        raise ValueError(
            f"mixture is {mixture} and num_spks {num_spks}: single mixtures have one voice and "
            "noise, so set num_spks to 1 for them, and for them only"
        )


def _noise(noise_folder: str | os.PathLike | None, mixture: str) -> Path | None:
    if mixture == "clean":
        return None
    if noise_folder is None or not Path(noise_folder).is_dir():
        raise ValueError(
            f"No noise_folder at {noise_folder}: {mixture} mixtures need WHAM's noise, a folder "
            "with tr, cv and tt"
        )
    return Path(noise_folder)


# --- Generated folders --------------------------------------------------------------------------


def _from_generated(
    data_folder: Path,
    folder: Path,
    parts: dict[str, str],
    sample_rate: int,
    mode: str,
    mixture: str,
    num_spks: int,
    output_folder: Path,
) -> dict[str, pd.DataFrame]:
    sources = [f"s{c + 1}" for c in range(num_spks)]
    tables, files = {}, {}
    for name, part in parts.items():
        tables[name], files[name] = generated_part(
            data_folder,
            folder / part,
            f"mix_{mixture}",
            sources,
            speakers_of,
            sample_rate,
            output_folder,
            "lufs" if name == "train.csv" else "rms",
            mode,
        )
    if "train.csv" not in parts:
        return tables
    pools = {"pool.csv": longest_cuts(tables["train.csv"], files["train.csv"], utterances_of)}
    if mixture != "clean":
        train = folder / parts["train.csv"] / "noise"
        names = sorted(str(path.relative_to(data_folder)) for path in train.glob("[!.]*.wav"))
        if not names:
            raise ValueError(f"No wav files in {train}: the generated corpus is incomplete")
        pools["noise.csv"] = usable(
            scan(data_folder, names, sample_rate, str, "lufs", folder=output_folder)
        )
    return pools | tables


def utterances_of(mixture: str) -> list[str]:
    """Utterances that the name of a mixture is made of; none in names of other kinds.

    Example
    -------
    >>> utterances_of("4077-13754-0001_5142-33396-0065"), utterances_of("call_0001")
    (['4077-13754-0001', '5142-33396-0065'], [])
    """
    return mixture.split("_") if NAME.fullmatch(mixture) else []


def speakers_of(mixture: str) -> list[str]:
    """Speakers of a mixture: an utterance's name begins with its speaker's.

    Example
    -------
    >>> speakers_of("4077-13754-0001_5142-33396-0065")
    ['4077', '5142']
    """
    return [utterance.split("-")[0] for utterance in utterances_of(mixture)]


# --- LibriSpeech itself -------------------------------------------------------------------------


class Mixed(NamedTuple):
    """The parts of a mixture, made as the published scripts make them."""

    sources: list[np.ndarray]  # [T] each, float32
    noise: np.ndarray | None  # [T]

    def mixture(self, kind: str) -> np.ndarray:
        """Mix "clean", "both" or "single", [T], float32."""
        mixture = np.zeros_like(self.sources[0])  # [T]
        for source in self.sources[: 1 if kind == "single" else None]:
            mixture += source
        if kind != "clean":
            mixture += self.noise
        return mixture


class LibriSpeech(NamedTuple):
    """LibriSpeech itself, and WHAM's noise if it is wanted."""

    folder: Path
    noise_folder: Path | None

    def mix(self, item: dict, sample_rate: int, mode: str) -> Mixed:
        """Make the parts of an item of a list, step by step as the published scripts do.

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
        names = [key.removesuffix("_path") for key in item if key.startswith("source_")]
        names = names[::2]  # path and gain of each
        parts = [read_audio(self.folder / item[f"{n}_path"], RATE) for n in names]  # [frames] each
        if self.noise_folder is not None:
            num_frames = max(map(len, parts))
            noise = read_audio(self.noise_folder / item["noise_path"], RATE)[:num_frames]
            parts.append(extend_noise(noise, num_frames, RATE))
            names.append("noise")
        parts = [part * item[f"{n}_gain"] for part, n in zip(parts, names, strict=True)]
        parts = [resample_poly(part, sample_rate, RATE) for part in parts]  # [T_i] each
        parts = published.fit_lengths(parts, mode)  # [T] each
        return Mixed(parts, None) if self.noise_folder is None else Mixed(parts[:-1], parts[-1])


def read_list(lists: Path, part: str, num_spks: int) -> pd.DataFrame:
    """Read a published list, ``libri2mix_test-clean.csv`` for instance.

    Returns
    -------
    pd.DataFrame
        As published.

    Raises
    ------
    ValueError
        There is no such list, or it has a mixture twice.
    """
    name = f"libri{num_spks}mix_{SUBSETS[part]}.csv"
    path = published.find_list(lists, name, f"Libri{num_spks}Mix")
    table = pd.read_csv(path, float_precision="round_trip")
    manifests.check_ids(table["mixture_ID"], path.name)
    return table


def _from_librispeech(
    corpus: LibriSpeech,
    lists: dict[str, pd.DataFrame],
    sample_rate: int,
    mode: str,
    mixture: str,
    output_folder: Path,
) -> dict[str, pd.DataFrame]:
    trained = [table for name, table in lists.items() if name == "train.csv"]
    files = check_files(corpus, lists.values(), trained, sample_rate, output_folder)
    make = partial(_row, files, sample_rate, mode, mixture)
    tables = {
        name: pd.DataFrame([make(item) for item in table.to_dict("records")])
        for name, table in lists.items()
    }
    if not trained:
        return tables
    sources = "^source_1_path$" if mixture == "single" else "^source_.*path$"
    speech = files.loc[published.wanted(trained, sources)]
    pools = {"pool.csv": usable(speech)}
    if mixture != "clean":
        pools["noise.csv"] = usable(files.loc[published.wanted(trained, "^noise_path$")])
    return pools | tables


def check_files(
    corpus: LibriSpeech,
    lists: Iterable[pd.DataFrame],
    trained: Iterable[pd.DataFrame],
    sample_rate: int,
    output_folder: Path,
) -> pd.DataFrame:
    """Scan speech and noise of lists; stops where some are missing or broken.

    Arguments
    ---------
    corpus : LibriSpeech
    lists : iterable of pd.DataFrame
        Of ``read_list``.
    trained : iterable of pd.DataFrame
        Those whose files' loudness is measured.
    sample_rate : int
        Hz.
    output_folder : Path
        Where a long list of problems is written.

    Returns
    -------
    pd.DataFrame
        Of ``data_prep.scan.scan.scan``, by the paths of the lists.
    """
    lists, trained, found = list(lists), list(trained), []
    roots = {"source_": (corpus.folder, "data_root"), "noise_": (corpus.noise_folder, "noise_root")}
    for prefix, (root, root_name) in roots.items():
        if root is None:
            continue
        measured = set(published.wanted(trained, f"^{prefix}.*path$")) if trained else set()
        names = published.wanted(lists, f"^{prefix}.*path$")
        split = {"lufs": sorted(measured), "rms": [n for n in names if n not in measured]}
        for measure, part in split.items():
            if part:
                found.append(
                    scan(root, part, sample_rate, _speaker, measure, root_name, output_folder)
                )
    files = pd.concat(found, ignore_index=True)
    require_usable(files, RATE, output_folder, "complete data_folder and noise_folder")
    return files.set_index("ID", drop=False)


def _speaker(path: str) -> str:
    """Of an utterance's path; noise knows no speakers, each recording is its own."""
    stem = Path(path).stem
    return path if path.split("/")[0] in ("tr", "cv", "tt") else stem.split("-")[0]


def _row(files: pd.DataFrame, sample_rate: int, mode: str, mixture: str, item: dict) -> dict:
    paths = [item[key] for key in item if key.startswith("source_") and key.endswith("_path")]
    frames = [round(files.at[p, "duration"] * RATE) for p in paths]
    lengths = [num_resampled(n, rate_ratio(RATE, sample_rate)) for n in frames]
    length = min(lengths) if mode == "min" else max(lengths)
    row = {"ID": item["mixture_ID"], "duration": length / sample_rate}
    for c, (path, own) in enumerate(zip(paths, lengths, strict=True), start=1):
        row |= {f"speaker_{c}": files.at[path, "speaker"], f"wav_{c}": files.at[path, "wav"]}
        row |= {f"duration_{c}": min(own, length) / sample_rate}
        row |= {f"gain_{c}": item[f"source_{c}_gain"]}
        if mixture == "single":
            break
    if mixture != "clean":
        row |= {"wav_noise": files.at[item["noise_path"], "wav"], "end_noise": max(frames)}
        row |= {"gain_noise": item["noise_gain"]}
    return row


# --- Writing ------------------------------------------------------------------------------------


def write(
    data_folder: str | os.PathLike,
    lists: str | os.PathLike,
    output_folder: str | os.PathLike,
    noise_folder: str | os.PathLike | None = None,
    num_spks: int = 2,
    sample_rates: Iterable[int] = (8000,),
    modes: Iterable[str] = ("min",),
    types: Iterable[str] = ("clean",),
    parts: Iterable[str] = ("train-360", "dev", "test"),
) -> None:
    """Write the mixtures as the published scripts do; what is there already is left as it is.

    Arguments
    ---------
    data_folder : str or os.PathLike
        LibriSpeech itself.
    lists : str or os.PathLike
        Folder of the published lists.
    output_folder : str or os.PathLike
        ``Libri2Mix/wav8k/min/test/mix_clean`` and so on are made in it.
    noise_folder : str or os.PathLike, optional
        WHAM's noise, for types with noise.
    num_spks : int
        Sources in a mixture.
    sample_rates : iterable of int
        Hz.
    modes : iterable of str
        "min", "max".
    types : iterable of str
        "clean", "both", "single".
    parts : iterable of str
        "train-360", "train-100", "dev", "test".

    Raises
    ------
    ValueError
        A folder is not what it should be, or files are missing or broken: all are named.
    OSError
        A file cannot be written.
    """
    kinds = list(types)
    noise = _noise(noise_folder, next((kind for kind in kinds if kind != "clean"), "clean"))
    corpus = LibriSpeech(Path(data_folder), noise)
    tables = {part: read_list(Path(lists), part, num_spks) for part in parts}
    check_files(corpus, tables.values(), [], max(sample_rates), Path(output_folder))
    root = Path(output_folder, f"Libri{num_spks}Mix")
    names = [f"s{c + 1}" for c in range(num_spks)] + [f"mix_{kind}" for kind in kinds]
    names += ["noise"] if noise is not None else []

    def make(item: dict, sample_rate: int, mode: str) -> list[np.ndarray]:
        mixed = corpus.mix(item, sample_rate, mode)
        mixtures = [mixed.mixture(kind) for kind in kinds]
        return [*mixed.sources, *mixtures, *([] if mixed.noise is None else [mixed.noise])]

    published.write_tree(root, tables, names, "mixture_ID", make, sample_rates, modes)


def main(arguments: list[str] | None = None) -> int:
    """Write the mixtures from the command line."""
    description = "Write LibriMix from LibriSpeech and its lists."
    options = {
        "noise_folder": {"help": "WHAM's noise, with tr, cv and tt"},
        "types": {"nargs": "+", "default": ["clean"], "choices": TYPES},
    }
    parts = ["train-360", "dev", "test"]
    return published.run_command(
        write, arguments, description, "libri*mix_*.csv, in it or below", parts, SUBSETS, **options
    )


if __name__ == "__main__":
    sys.exit(main())
