"""Reads lists of mixtures: manifests of ``data_prep.mixing.fixed``, and those of other toolkits."""

import os
import re

import pandas as pd
from tqdm.contrib.concurrent import thread_map

from data_prep.scan.manifests import check_ids
from sfsrnet_modules.common.audio_io import open_audio

# SpeechBrain's (ID, duration, mix_wav, s1_wav, …) and Asteroid's (mixture_ID, mixture_path,
# source_1_path, …, length), with the names here. Durations are measured: SpeechBrain's recipes
# write 1.0 for all.
COLUMNS = (
    (re.compile(r"ID|mixture_ID"), "ID"),
    (re.compile(r"mix_wav|mixture_path"), "wav_mix"),
    (re.compile(r"s(\d+)_wav|source_(\d+)_path"), "wav_{}"),
)


def read_mixtures(manifest: str | os.PathLike) -> pd.DataFrame:
    """Read a list of mixtures.

    Arguments
    ---------
    manifest : str or os.PathLike
        A csv file: a manifest, SpeechBrain's or Asteroid's. Relative paths in the others are below
        ``$data_root``.

    Returns
    -------
    pd.DataFrame
        As a manifest has it; without ``duration`` where the list has none that can be used.

    Raises
    ------
    ValueError
        It is no such list, is empty, or has a mixture twice.
    """
    try:
        table = pd.read_csv(manifest, dtype={"ID": str, "mixture_ID": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{manifest} can't be read as a list of mixtures: {reason}") from error
    if {"mix_wav", "mixture_path"} & set(table):
        table = _translated(table)
    if "wav_1" not in table or not len(table):
        columns = ", ".join(table.columns[:6])
        raise ValueError(
            f"{manifest} lists no mixtures ({len(table)} rows with {columns}): give a csv with ID, "
            "duration, wav_1, wav_2 and so on, SpeechBrain's with mix_wav and s1_wav, or "
            "Asteroid's with mixture_path and source_1_path"
        )
    if "ID" not in table:
        table.insert(0, "ID", [str(i) for i in range(1, len(table) + 1)])
    check_ids(table["ID"], os.fspath(manifest))
    return table


def _translated(table: pd.DataFrame) -> pd.DataFrame:
    """Give another toolkit's columns their names here; leave out the others."""
    known = {}
    for column in table:
        for pattern, name in COLUMNS:
            if found := pattern.fullmatch(column):
                number = next((group for group in found.groups() if group), "")
                known[name.format(number)] = table[column]
    table = pd.DataFrame(known)
    for column in table.filter(regex="^wav"):
        is_full = table[column].str.match(r"[/$]")
        table[column] = table[column].where(is_full, "$data_root/" + table[column])
    return table


def with_durations(table: pd.DataFrame, manifest: str) -> pd.DataFrame:
    """Measure the mixtures where a list does not tell how long they are.

    Arguments
    ---------
    table : pd.DataFrame
        Of :func:`read_mixtures`, its paths located.
    manifest : str
        Its name, for messages.

    Raises
    ------
    ValueError
        A duration is no number of seconds, or neither it nor a file of the mixture is listed.
    OSError
        A mixture cannot be read.
    """
    if "duration" not in table:
        if "wav_mix" not in table:
            raise ValueError(f"{manifest} has no duration: add that column, in seconds, or wav_mix")
        return table.assign(duration=thread_map(_duration, table["wav_mix"], desc="Measuring"))
    seconds = pd.to_numeric(table["duration"], errors="coerce")
    wrong = table["ID"][~(seconds > 0)]
    if len(wrong):
        value = table["duration"][wrong.index[0]]
        raise ValueError(
            f"{manifest} says that {wrong.iloc[0]} lasts {value!r}: give seconds, more than 0, or "
            "leave the column away"
        )
    return table.assign(duration=seconds)


def _duration(path: str) -> float:
    with open_audio(path) as file:
        if file.seconds is None:
            raise ValueError(f"{path} does not state its length: save it as wav first")
        return file.seconds
