"""Test sets out of a manifest of mixtures: its voices alone, and in conversation."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from sfsrnet_modules.common.writing import write_whole

DURATION = 45.0  # s, of a conversation
OVERLAP = 0.25  # of a turn, when the next one begins
MIXTURES = 20  # that a conversation is made of in a set


def write_sets(manifest: Path, folder: Path) -> dict[str, Path]:
    """Write the manifests of "one voice" and "conversation" out of one of mixtures.

    A conversation comes out of twenty mixtures, so that the set is about as long as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(manifest, dtype={"ID": str}, keep_default_na=False)
    tables = {
        "one voice": one_voice(table),
        "conversation": conversations(table, -(-len(table) // MIXTURES)),
    }
    paths = {name: folder / f"{name.replace(' ', '-')}.csv" for name in tables}
    for name, path in paths.items():
        write_whole(path, tables[name].to_csv(index=False).encode())
    return paths


def one_voice(table: pd.DataFrame) -> pd.DataFrame:
    """Leave of each mixture the first voice; the other sources are silent.

    Example
    -------
    >>> table = pd.DataFrame({"ID": ["a"], "wav_1": ["1.wav"], "wav_2": ["2.wav"]})
    >>> one_voice(table).to_dict("records")
    [{'ID': 'a', 'wav_1': '1.wav', 'wav_2': ''}]
    """
    others = [name for name in table if re.fullmatch(r"wav_([2-9]|\d\d+)", name)]
    return table.drop(columns="wav_mix", errors="ignore").assign(**dict.fromkeys(others, ""))


def conversations(table: pd.DataFrame, number: int, seed: int = 0) -> pd.DataFrame:
    """Let the speakers of mixtures take turns, each of which begins in the last quarter of another.

    Arguments
    ---------
    table : pd.DataFrame
        A manifest of mixtures, of which each speaker's utterances are taken.
    number : int
        Conversations.
    seed : int

    Returns
    -------
    pd.DataFrame
        A manifest of mixtures of 45 s.
    """
    rng = np.random.default_rng(seed)
    num_spks = int(table.columns.str.fullmatch(r"wav_\d+").sum())
    rows = []
    for i in range(number):
        row = table.iloc[rng.integers(len(table))]
        speakers = [row[f"speaker_{c}"] for c in range(1, num_spks + 1)]
        said = {speaker: _utterances(table, speaker, num_spks) for speaker in speakers}
        rows.append({"ID": f"conversation{i:03d}", **_turns(rng, said)})
    return pd.DataFrame(rows)


def _utterances(table: pd.DataFrame, speaker: str, num_spks: int) -> pd.DataFrame:
    """What a speaker says in the mixtures: wav, start, duration and gain of each utterance."""
    parts = []
    for c in range(1, num_spks + 1):
        mine = table[table[f"speaker_{c}"] == speaker]
        columns = {name: mine.get(f"{name}_{c}") for name in ("wav", "start", "gain")}
        columns["duration"] = mine.get(f"duration_{c}", mine["duration"])
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts).fillna({"start": 0.0, "gain": 1.0})


def _turns(rng: np.random.Generator, said: dict[str, pd.DataFrame]) -> dict:
    """Draw turns until the conversation is over: the columns of a row."""
    turns = {speaker: [] for speaker in said}
    begin = 0.0
    while begin < DURATION:
        speaker = list(said)[sum(map(len, turns.values())) % len(said)]
        turn = said[speaker].iloc[rng.integers(len(said[speaker]))]
        turns[speaker].append({"at": round(begin, 3), **turn})
        begin += (1 - OVERLAP) * turn["duration"]
    row = {"duration": DURATION}
    for c, (speaker, said_by) in enumerate(turns.items(), 1):
        row[f"speaker_{c}"] = speaker
        for name in ("wav", "at", "start", "duration", "gain"):
            row[f"{name}_{c}"] = "|".join(str(turn[name]) for turn in said_by)
    return row
