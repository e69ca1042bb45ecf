"""Prepares any folder of speech, ``<speaker>/**/*``, in all formats that are read.

The first level of sub-folders is the speaker: for LibriSpeech's ``dev-clean/<speaker>/<chapter>``
the data folder is ``dev-clean``.
"""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from speechbrain.utils.logger import get_logger

from data_prep.corpora.layouts import NOISE
from data_prep.mixing.drawing import MIN_MIXED, draw_mixtures
from data_prep.scan import manifests
from data_prep.scan.scan import scan, usable
from sfsrnet_modules.common import decoding
from sfsrnet_modules.common.audio_io import readable_endings
from sfsrnet_modules.common.folders import files_below, some_names

logger = get_logger(__name__)


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
    test_only: bool = False,
) -> None:
    """Make ``pool.csv``, ``valid.csv`` and ``test.csv``, of disjoint speakers.

    ``pool.csv`` is for ``data_prep.mixing.dynamic``; the others are fixed mixtures for
    ``data_prep.mixing.fixed``. Files that are broken, silent or sampled below ``sample_rate`` are
    skipped with a warning. A second call with the same arguments on the same files does nothing.
    The same files and seed give the same manifests, wherever the folder lies.

    Arguments
    ---------
    data_folder : str or os.PathLike
        Has one sub-folder a speaker with recordings at any depth.
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
    test_only : bool
        Make ``test.csv`` alone.

    Raises
    ------
    ValueError
        The folder, its speakers or an argument do not allow it.
    """
    arguments = dict(locals())
    # The manifests do not depend on where the folders are.
    del arguments["data_folder"], arguments["output_folder"]
    if not test_only:
        del arguments["test_only"]  # as manifests were that are there
    data_folder, output_folder = Path(data_folder), Path(output_folder)
    _check_arguments(arguments)
    names = _find_speech(data_folder)
    state = {**arguments, "files": manifests.fingerprint(data_folder, names)}
    if manifests.is_prepared(output_folder, state):
        return
    pool = _scan_speech(data_folder, names, sample_rate, output_folder)
    draw = partial(
        draw_mixtures,
        data_root=data_folder,
        num_spks=num_spks,
        sample_rate=sample_rate,
        max_duration=max_duration,
    )
    train, valid, test = split_speakers(pool, num_spks, seed, valid_share, test_share)
    rng = np.random.default_rng
    tables = {"test.csv": draw(test, number=num_test, rng=rng([seed, 2]))}
    if not test_only:
        tables["valid.csv"] = draw(valid, number=num_valid, rng=rng([seed, 1]))
        tables["pool.csv"] = train
    manifests.write(output_folder, tables, state)


def find_audio(folder: Path, key: str) -> list[str]:
    """List a folder's audio files by suffix, each once; the log names those that can't be read.

    Arguments
    ---------
    folder : Path
    key : str
        The option that named the folder, for messages.

    Returns
    -------
    list of str
        Sorted paths relative to ``folder``.

    Raises
    ------
    ValueError
        No folder, or no audio in it.
    """
    if not folder.is_dir():
        raise ValueError(f"No folder at {folder}: set {key} to where the recordings are")
    files, known = files_below(folder), readable_endings()
    unread = [path for path in files if path.suffix.lower() in decoding.ENDINGS - known]
    if unread:
        named = some_names(unread, folder)
        message = "%s: %d recordings are passed over, %s: %s"
        logger.warning(message, folder, len(unread), named, decoding.INSTALL)
    names = sorted(str(p.relative_to(folder)) for p in files if p.suffix.lower() in known)
    if not names:
        raise ValueError(f"No recording in {folder}: set {key} to a folder of audio files")
    return names


def split_speakers(
    pool: pd.DataFrame, num_spks: int, seed: int, valid_share: float, test_share: float
) -> list[pd.DataFrame]:
    """Split the pool by speaker.

    Arguments
    ---------
    pool : pd.DataFrame
        See ``data_prep.scan.scan.usable``.
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


def _find_speech(data_folder: Path) -> list[str]:
    names = find_audio(data_folder, "data_folder")
    noise = {top for name in names if NOISE.fullmatch(top := _speaker(name))}
    if noise:
        message = "%s in %s is noise and no speaker, it is left out: noise_folder mixes it in"
        logger.warning(message, ", ".join(sorted(noise)), data_folder)
        names = [name for name in names if _speaker(name) not in noise]
    if not any("/" in name for name in names):
        raise ValueError(
            f"The audio files lie directly in {data_folder}, so that their speakers are unknown: "
            "move them to one sub-folder a speaker"
        )
    return names


def _scan_speech(
    data_folder: Path, names: list[str], sample_rate: int, output_folder: Path
) -> pd.DataFrame:
    files = scan(data_folder, names, sample_rate, _speaker, folder=output_folder)
    files.loc[~files["ID"].str.contains("/"), "problem"] = "not in a speaker's sub-folder"
    pool = _usable(files)
    hours, num_speakers = pool["duration"].sum() / 3600, pool["speaker"].nunique()
    message = "%d of %d files can be used: %.2f h, %d speakers"
    logger.info(message, len(pool), len(files), hours, num_speakers)
    return pool


def _speaker(name: str) -> str:
    return name.split("/")[0]


def _usable(files: pd.DataFrame) -> pd.DataFrame:
    pool = usable(files)
    if not len(pool):
        raise ValueError(
            f"None of the {len(files)} audio files can be used, the first being "
            f"{files['problem'].iloc[0]}: see the warnings above"
        )
    return pool


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
