"""Decoding every file of a corpus once: how long and how loud it is, and whether it is whole."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from speechbrain.utils.logger import get_logger
from tqdm.contrib.concurrent import thread_map

from data_prep.mixing.levels import loudness
from data_prep.scan.scanned import Scanned
from sfsrnet_modules.common.audio_io import AudioFile, open_audio

logger = get_logger(__name__)

MIN_FILE = 0.1  # s: less is a click, not speech
MIN_LEVEL_DB = -70.0  # dBFS RMS: below, a 16-bit file holds noise only
SHORT, SILENT = HARMLESS = f"shorter than {MIN_FILE} s", "silent"
NAMED = 20  # files named in a message; more are counted


def scan(
    root: Path,
    names: list[str],
    sample_rate: int,
    speaker_of: Callable[[str], str],
    measure: str = "rms",
    root_name: str = "data_root",
    folder: Path | None = None,
    padded: bool = False,
) -> pd.DataFrame:
    """Decode every file once, in parallel; a scan that was stopped goes on where it was.

    Arguments
    ---------
    root : Path
    names : list of str
        Paths relative to ``root``.
    sample_rate : int
        Files sampled below this rate in Hz are a problem.
    speaker_of : callable
        Of a name; the speaker's.
    measure : str
        Of the levels, see ``data_prep.mixing.levels``; "active" ones are not measured here.
    root_name : str
        What stands for ``root`` in the paths of the table, after a ``$``.
    folder : Path, optional
        Where the scan's findings are kept, see ``data_prep.scan.scanned``.
    padded : bool
        Leave the zeros at a file's end out of its duration and level.

    Returns
    -------
    pd.DataFrame
        A row a file: ID (the name), duration (s), sample_rate (Hz), level_db, measure, channels,
        speaker, wav and problem, which says why the file cannot be used and is empty if it can.
    """
    # Threads, as libsndfile decodes without Python's lock: nothing to fork or to pickle.
    with Scanned(folder) as scanned:
        scan_one = partial(scan_file, root, sample_rate, measure, scanned, padded=padded)
        files = thread_map(scan_one, names, desc="Scanning", unit="file")
    for row in files:
        row |= {"speaker": speaker_of(row["ID"]), "wav": f"${root_name}/{row['ID']}"}
    columns = ["ID", "duration", "sample_rate", "level_db", "measure", "channels"]
    return pd.DataFrame(files, columns=[*columns, "speaker", "wav", "problem"])


def scan_file(
    root: Path, sample_rate: int, measure: str, scanned: Scanned, name: str, padded: bool = False
) -> dict:
    """Measure one file, unless that was done: a row of ``scan``."""
    row = {"ID": name, "duration": 0.0, "sample_rate": 0, "level_db": -np.inf, "channels": 0}
    row |= {"measure": measure, "problem": _name_problem(name)}
    question = f"{measure} at {sample_rate} Hz" + " without padding" * padded
    if not row["problem"]:
        try:
            facts = scanned.get(root / name, question)
            if facts is None:
                facts = _measure(root / name, sample_rate, measure, padded)
        except FileNotFoundError:
            row["problem"] = "missing"
        except OSError:
            row["problem"] = "not readable as audio, or truncated"
        else:  # a full disk is no problem of the file
            scanned.add(root / name, question, facts)
            row |= facts
    return row


def describe(files: pd.DataFrame) -> str:
    """Name files, the first ``NAMED`` of them, such that every terminal can print the names."""
    shown = ", ".join(files["ID"][:NAMED]) + (", ..." if len(files) > NAMED else "")
    return shown.encode(errors="backslashreplace").decode()


def usable(files: pd.DataFrame) -> pd.DataFrame:
    """Keep the files without a problem, a pool; the others are named in warnings.

    Arguments
    ---------
    files : pd.DataFrame
        Of ``scan``.

    Returns
    -------
    pd.DataFrame
        Without the columns channels and problem.
    """
    for problem, group in files[files["problem"] != ""].groupby("problem"):
        message = "Skipped %d of %d files, %s: %s"
        logger.warning(message, len(group), len(files), problem, describe(group))
    num_multi = int((files["channels"] > 1).sum())
    if num_multi:
        logger.info("%d files have several channels: the first is taken", num_multi)
    pool = files[files["problem"] == ""].drop(columns=["channels", "problem"])
    return pool.reset_index(drop=True)


def require_usable(files: pd.DataFrame, rate: int, folder: Path, way_out: str) -> None:
    """Stop where a corpus lacks files of its published lists: all are told at once.

    Arguments
    ---------
    files : pd.DataFrame
        Of ``scan``. Files that are only silent or short are let pass: the lists want them.
    rate : int
        Sampling rate of the corpus in Hz.
    folder : Path
        Where ``problems.csv`` is written, if there are more than a message can hold.
    way_out : str
        End of the message.

    Raises
    ------
    ValueError
        Some file has a problem.
    """
    problem = files["problem"].where(~files["problem"].isin(HARMLESS), "")
    other = (problem == "") & (files["sample_rate"] != rate)
    problem[other] = files["sample_rate"].map(f"sampled at {{}} Hz instead of {rate} Hz".format)
    broken = files.assign(problem=problem)[problem != ""]
    if not len(broken):
        return
    groups = broken.groupby("problem")
    told = "; ".join(f"{len(group)} {name}: {describe(group)}" for name, group in groups)
    if len(broken) > NAMED:
        folder.mkdir(parents=True, exist_ok=True)
        broken[["ID", "problem"]].to_csv(folder / "problems.csv", index=False)
        told += f" (all of them in {folder / 'problems.csv'})"
    raise ValueError(
        f"{len(broken)} of the {len(files)} files wanted cannot be used, {told}: {way_out}"
    )


def _name_problem(name: str) -> str:
    if "$" in name:
        return "with a $ in their names, which manifests give a meaning"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "with names that are not UTF-8"
    return ""


def _measure(path: Path, sample_rate: int, measure: str, padded: bool) -> dict:
    if not path.exists():
        raise FileNotFoundError(path)
    with open_audio(path) as file:
        energy, blocks, num_frames, end = 0.0, [], 0, 0
        for block in file.read_blocks("float64"):  # [frames, channels]
            energy += float(np.square(block[:, 0]).sum())
            if measure == "lufs":
                blocks.append(block[:, 0])
            if padded and block[:, 0].any():
                end = num_frames + int(np.flatnonzero(block[:, 0])[-1]) + 1
            num_frames += len(block)
        num_frames = end if padded else num_frames
        with np.errstate(divide="ignore"):
            rms_db = float(10 * np.log10(energy / max(num_frames, 1)))
        level_db = rms_db
        if blocks:
            level_db = loudness(np.concatenate(blocks)[:num_frames], file.samplerate)
        problem = _problem(file, rms_db, level_db, sample_rate)
        duration = num_frames / file.samplerate
        facts = {"duration": duration, "sample_rate": file.samplerate, "channels": file.channels}
    return {**facts, "level_db": round(level_db, 4), "problem": problem}


def _problem(file: AudioFile, rms_db: float, level_db: float, sample_rate: int) -> str:
    if file.is_truncated:
        return "not readable as audio, or truncated"
    if file.frames_read == 0:
        return "empty"
    if file.frames_read < MIN_FILE * file.samplerate:
        return SHORT
    if not np.isfinite(rms_db) and rms_db != -np.inf:
        return "with NaN or Inf"
    if rms_db < MIN_LEVEL_DB or level_db == -np.inf:
        return SILENT
    if file.samplerate < sample_rate:
        return f"sampled below {sample_rate} Hz"
    return ""
