"""Prepares any folder of speech, ``<speaker>/**/*.{wav,flac,ogg}``.

The first level of sub-folders is the speaker: for LibriSpeech's ``dev-clean/<speaker>/<chapter>``
the data folder is ``dev-clean``.
"""

import glob
import hashlib
import json
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf
from speechbrain.utils.logger import get_logger
from tqdm.contrib.concurrent import thread_map

from data_prep.mixtures import MIN_MIXED, draw_mixtures

logger = get_logger(__name__)

SUFFIXES = (".wav", ".flac", ".ogg")
MIN_FILE = 0.1  # s: less is a click, not speech
MIN_LEVEL_DB = -70.0  # dBFS RMS: below, a 16-bit file holds noise only
BLOCK = 2**20  # frames decoded at a time, so that hour-long files need little memory
NAMED = 20  # skipped files named in a warning; more are counted
MANIFESTS = ("train.csv", "valid.csv", "test.csv")
STATE = "prepared.json"  # written last: what the manifests were made of
VERSION = 1  # of what is written; raise it when the same arguments give other manifests

# What libsndfile logs on a file that ends too early. A wav written to a pipe declares the greatest
# size there is, and is whole.
TRUNCATED = re.compile(r"^data : (?!4294967|21474)\d+ \(should be|lacks an end-of-stream", re.M)


def prepare(
    data_folder: str | os.PathLike,
    output_folder: str | os.PathLike,
    sample_rate: int,
    num_spks: int = 2,
    seed: int = 1234,
    valid_share: float = 0.1,
    test_share: float = 0.1,
    num_valid: int = 200,
    num_test: int = 300,
    max_duration: float = 10.0,
) -> None:
    """Makes ``train.csv``, ``valid.csv`` and ``test.csv``, of disjoint speakers.

    ``train.csv`` is a pool of utterances for ``data_prep.dynamic_mixing``; the others are fixed
    mixtures for ``data_prep.mixtures``. Files that are broken, silent or sampled below
    ``sample_rate`` are skipped with a warning. A second call with the same arguments on the same
    files does nothing. The same files and seed give the same manifests, wherever the folder lies.

    Arguments
    ---------
    data_folder : str or os.PathLike
        Has one sub-folder a speaker with wav, flac or ogg files at any depth.
    output_folder : str or os.PathLike
        Where the manifests go; made if missing.
    sample_rate : int
        Rate in Hz that the mixtures will be read at.
    num_spks : int
        Speakers in a mixture.
    seed : int
        Seed of the split and of the fixed mixtures.
    valid_share, test_share : float
        Share of the speakers kept for validation and test, at least ``num_spks`` speakers each.
    num_valid, num_test : int
        Number of fixed mixtures.
    max_duration : float
        Longest fixed mixture in seconds; a mixture is as long as its shortest utterance.

    Raises
    ------
    ValueError
        The folder, its speakers or an argument do not allow it.
    """
    arguments = dict(locals())
    # The manifests do not depend on where the folders are.
    del arguments["data_folder"], arguments["output_folder"]
    data_folder, output_folder = Path(data_folder), Path(output_folder)
    _check_arguments(arguments)
    names = find_audio(data_folder)
    state = {**arguments, "version": VERSION, "files": _fingerprint(data_folder, names)}
    if is_prepared(output_folder, state):
        logger.info("%s is prepared already", output_folder)
        return
    pool = scan(data_folder, names, sample_rate)
    train, *held_out = split_speakers(pool, num_spks, seed, valid_share, test_share)
    tables = [train]
    for number, part in zip((num_valid, num_test), held_out, strict=True):
        rng = np.random.default_rng([seed, len(tables)])
        tables.append(
            draw_mixtures(part, data_folder, number, num_spks, sample_rate, max_duration, rng)
        )
    _write(output_folder, tables, state)


def find_audio(data_folder: Path) -> list[str]:
    """Lists a folder's audio files by suffix; hidden files are left out.

    Arguments
    ---------
    data_folder : Path

    Returns
    -------
    list of str
        Sorted paths relative to ``data_folder``.

    Raises
    ------
    ValueError
        No folder, no audio, or no sub-folders.
    """
    if not data_folder.is_dir():
        raise ValueError(f"No folder at {data_folder}: set data_folder to where the speech is")
    names = glob.iglob("**/*", root_dir=data_folder, recursive=True)  # follows links to folders
    names = sorted(name for name in names if name.lower().endswith(SUFFIXES))
    if not names:
        raise ValueError(
            f"No {', '.join(SUFFIXES)} file in {data_folder}: set data_folder to a folder with "
            "one sub-folder of recordings a speaker"
        )
    if not any("/" in name for name in names):
        raise ValueError(
            f"The audio files lie directly in {data_folder}, so that their speakers are unknown: "
            "move them to one sub-folder a speaker"
        )
    return names


def scan(data_folder: Path, names: list[str], sample_rate: int) -> pd.DataFrame:
    """Decodes every file once, and keeps those that can be trained on.

    Arguments
    ---------
    data_folder : Path
    names : list of str
        Paths relative to ``data_folder``.
    sample_rate : int
        Files sampled below this rate in Hz are skipped.

    Returns
    -------
    pd.DataFrame
        The pool, with columns ID, duration (s), sample_rate (Hz), level_db, speaker, wav.

    Raises
    ------
    ValueError
        No file is left.
    """
    # Threads, as libsndfile decodes without Python's lock: nothing to fork or to pickle.
    scan_one = partial(scan_file, data_folder, sample_rate)
    files = pd.DataFrame(thread_map(scan_one, names, desc="Scanning", unit="file"))
    skipped = files[files["problem"] != ""]
    for problem, group in skipped.groupby("problem"):
        shown = ", ".join(group["ID"][:NAMED]) + (", ..." if len(group) > NAMED else "")
        shown = shown.encode(errors="backslashreplace").decode()
        logger.warning("Skipped %d of %d files, %s: %s", len(group), len(files), problem, shown)
    if len(skipped) == len(files):
        raise ValueError(
            f"None of the {len(files)} audio files in {data_folder} can be used, the first being "
            f"{files['problem'][0]}: see the warnings above"
        )
    num_multi = int((files["channels"] > 1).sum())
    if num_multi:
        logger.info("%d files have several channels: the first is taken", num_multi)
    pool = files[files["problem"] == ""].drop(columns=["channels", "problem"])
    hours, num_speakers = pool["duration"].sum() / 3600, pool["speaker"].nunique()
    message = "%d of %d files can be used: %.2f h, %d speakers"
    logger.info(message, len(pool), len(files), hours, num_speakers)
    return pool.reset_index(drop=True)


def scan_file(data_folder: Path, sample_rate: int, name: str) -> dict:
    """Measures one file.

    Arguments
    ---------
    data_folder : Path
    sample_rate : int
        Wanted sampling rate in Hz.
    name : str
        Path relative to ``data_folder``.

    Returns
    -------
    dict
        A row of the pool; ``problem`` says why the file cannot be used, and is empty if it can.
    """
    row = {"ID": name, "duration": 0.0, "sample_rate": 0, "level_db": -np.inf, "channels": 0}
    row |= {"speaker": name.split("/")[0], "wav": f"$data_root/{name}"}
    row["problem"] = _name_problem(name)
    if not row["problem"]:
        try:
            row |= _measure(data_folder / name, sample_rate)
        except (sf.LibsndfileError, OSError):
            row["problem"] = "not readable as audio, or truncated"
    return row


def split_speakers(
    pool: pd.DataFrame, num_spks: int, seed: int, valid_share: float, test_share: float
) -> list[pd.DataFrame]:
    """Splits the pool by speaker.

    Arguments
    ---------
    pool : pd.DataFrame
        See ``scan``.
    num_spks : int
        Least number of speakers of a part.
    seed : int
        Seed of the split.
    valid_share, test_share : float
        Share of the speakers.

    Returns
    -------
    list of pd.DataFrame
        Rows of train, valid and test. Speakers of valid and test have an utterance that is long
        enough for a fixed mixture.

    Raises
    ------
    ValueError
        Too few speakers.
    """
    longest = pool.groupby("speaker")["duration"].max()  # sorted by speaker
    order = longest.index[longest >= MIN_MIXED]
    order = order[np.random.default_rng(seed).permutation(len(order))]
    _check_speakers(len(longest), len(order), num_spks)
    room = min(len(longest) - num_spks, len(order))  # train keeps num_spks speakers at least
    num_valid = np.clip(round(valid_share * len(order)), num_spks, room - num_spks)
    num_test = np.clip(round(test_share * len(order)), num_spks, room - num_valid)
    part = pd.Series("train", index=longest.index)
    part[order[:num_valid]] = "valid"
    part[order[num_valid : num_valid + num_test]] = "test"
    part_of_row = pool["speaker"].map(part)
    return [pool[part_of_row == name] for name in ("train", "valid", "test")]


def is_prepared(output_folder: Path, state: dict) -> bool:
    """Whether the manifests in a folder were made of exactly this.

    Arguments
    ---------
    output_folder : Path
    state : dict
        Arguments and fingerprint of the files, as ``prepare`` writes them at its end.

    Returns
    -------
    bool
    """
    if not all((output_folder / name).is_file() for name in (*MANIFESTS, STATE)):
        return False
    made_of = json.loads((output_folder / STATE).read_text())
    changed = [key for key in state if made_of.get(key) != state[key]]
    if changed:
        message = "The manifests in %s were made with other %s: making them anew"
        logger.info(message, output_folder, ", ".join(changed))
    return not changed


def _check_arguments(arguments: dict) -> None:
    for name in ("sample_rate", "num_spks", "num_valid", "num_test"):
        if arguments[name] < 1:
            raise ValueError(f"{name} is {arguments[name]}: set it to 1 at least")
    shares = arguments["valid_share"], arguments["test_share"]
    if min(shares) <= 0 or sum(shares) >= 1:
        raise ValueError(
            f"valid_share and test_share are {shares[0]} and {shares[1]}: both must be above 0, "
            "and leave a share to train"
        )
    if arguments["max_duration"] < MIN_MIXED:
        raise ValueError(
            f"max_duration is {arguments['max_duration']} s: set it to {MIN_MIXED} s at least"
        )


def _check_speakers(num_speakers: int, num_eligible: int, num_spks: int) -> None:
    if num_speakers < 3 * num_spks:
        raise ValueError(
            f"Found {num_speakers} speakers (a sub-folder of data_folder is a speaker), but "
            f"disjoint train, valid and test parts for num_spks={num_spks} need "
            f"{3 * num_spks}: add speakers, or lower num_spks"
        )
    if num_eligible < 2 * num_spks:
        raise ValueError(
            f"Found {num_eligible} speakers with an utterance of {MIN_MIXED} s or more, but valid "
            f"and test for num_spks={num_spks} need {2 * num_spks}: add longer recordings"
        )


def _name_problem(name: str) -> str:
    if "/" not in name:
        return "not in a speaker's sub-folder"
    if "$" in name:
        return "with a $ in their names, which manifests give a meaning"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "with names that are not UTF-8"
    return ""


def _measure(path: Path, sample_rate: int) -> dict:
    with sf.SoundFile(path) as file:
        num_frames, energy = 0, 0.0
        for block in file.blocks(BLOCK, dtype="float64", always_2d=True):  # [frames, channels]
            num_frames += len(block)
            energy += float(np.square(block[:, 0]).sum())
        with np.errstate(divide="ignore"):
            level_db = float(10 * np.log10(energy / max(num_frames, 1)))
        problem = _problem(file, num_frames, level_db, sample_rate)
        rate, channels = file.samplerate, file.channels
    facts = {"duration": num_frames / rate, "sample_rate": rate, "channels": channels}
    return {**facts, "level_db": round(level_db, 4), "problem": problem}


def _problem(file: sf.SoundFile, num_frames: int, level_db: float, sample_rate: int) -> str:
    if num_frames < file.frames or TRUNCATED.search(file.extra_info):
        return "not readable as audio, or truncated"
    if num_frames < MIN_FILE * file.samplerate:
        return f"shorter than {MIN_FILE} s"
    if not np.isfinite(level_db) and level_db != -np.inf:
        return "with NaN or Inf"
    if level_db < MIN_LEVEL_DB:
        return "silent"
    if file.samplerate < sample_rate:
        return f"sampled below {sample_rate} Hz"
    return ""


def _fingerprint(data_folder: Path, names: list[str]) -> str:
    paths = [data_folder / name for name in names]
    sizes = [path.stat().st_size if path.exists() else -1 for path in paths]
    listing = json.dumps([names, sizes])
    return hashlib.sha256(listing.encode()).hexdigest()


def _write(output_folder: Path, tables: list[pd.DataFrame], state: dict) -> None:
    """Writes what was prepared such that a run stopped in between leaves nothing to be trusted."""
    output_folder.mkdir(parents=True, exist_ok=True)
    (output_folder / STATE).unlink(missing_ok=True)
    for name, table in zip(MANIFESTS, tables, strict=True):
        _write_whole(output_folder / name, table.to_csv(index=False))
        hours = table["duration"].sum() / 3600
        speakers = pd.unique(table.filter(like="speaker").to_numpy().ravel())
        message = "%s: %d items, %.2f h, %d speakers"
        logger.info(message, output_folder / name, len(table), hours, len(speakers))
    _write_whole(output_folder / STATE, json.dumps(state, indent=2))


def _write_whole(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
