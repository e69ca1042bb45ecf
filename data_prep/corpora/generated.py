"""Mixtures that were generated as files: a folder for the mixtures, one for each source."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pandas as pd
from speechbrain.utils.logger import get_logger

from data_prep.scan.scan import HARMLESS, require_usable, scan

logger = get_logger(__name__)


def generated_part(
    data_folder: Path,
    part: Path,
    mixtures: str,
    sources: list[str],
    speakers_of: Callable[[str], list[str]],
    sample_rate: int,
    output_folder: Path,
    measure: str = "rms",
    mode: str = "min",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read one part of a corpus, such as ``tr/{mix,s1,s2}``.

    Arguments
    ---------
    data_folder : Path
        Folder that paths are relative to.
    part : Path
        Folder of the part, in it.
    mixtures : str
        Name of the folder of mixtures.
    sources : list of str
        Names of the folders of sources.
    speakers_of : callable
        Of a mixture's name; the speakers' names, fewer than there are sources where it tells none.
    sample_rate : int
        Hz, of every file.
    output_folder : Path
        Where the scan's findings and a long list of problems are written.
    measure : str
        Of the sources' levels, see ``data_prep.mixing.levels``.
    mode : str
        "max": zeros at a source's end are padding, which counts neither as its duration nor for its
        level.

    Returns
    -------
    table : pd.DataFrame
        The manifest of mixtures.
    files : pd.DataFrame
        What is known of the sources' files: see ``data_prep.scan.scan.scan``.

    Raises
    ------
    ValueError
        No mixtures, mixtures of more sources, or files that are missing or broken: all are named.
    """
    _check_sources(part, mixtures, len(sources))
    stems = sorted(path.stem for path in (part / mixtures).glob("[!.]*.wav"))
    if not stems:
        raise ValueError(f"No wav files in {part / mixtures}: the generated corpus is incomplete")
    place = part.relative_to(data_folder)
    names = {f: [str(place / f / f"{stem}.wav") for stem in stems] for f in (mixtures, *sources)}
    mixed = scan(data_folder, names[mixtures], sample_rate, str, folder=output_folder)
    listed = [name for folder in sources for name in names[folder]]
    files = scan(
        data_folder, listed, sample_rate, str, measure, folder=output_folder, padded=mode == "max"
    )
    together = pd.concat([mixed, files], ignore_index=True)
    require_usable(
        together, sample_rate, output_folder, "generate the corpus again, or complete the copy"
    )
    table = pd.DataFrame({"ID": stems, "duration": mixed["duration"], "wav_mix": mixed["wav"]})
    speakers = _by_name(speakers_of, [names[folder] for folder in sources])
    for c, folder in enumerate(sources):
        table[f"speaker_{c + 1}"] = speakers[c]
        table[f"wav_{c + 1}"] = [f"$data_root/{name}" for name in names[folder]]
    num_unknown = sum(len(speakers_of(stem)) < len(sources) for stem in stems)
    if num_unknown:
        message = (
            "The names of %d of %d mixtures in %s (the first %s) tell no speakers as the published "
            "ones do: each file of a source is taken for a speaker of its own"
        )
        logger.warning(message, num_unknown, len(stems), part, stems[0])
    return table, files


def _check_sources(part: Path, mixtures: str, num_spks: int) -> None:
    """Stop at mixtures of more sources; "single" ones leave the others of a pair out."""
    if "single" not in mixtures and (part / f"s{num_spks + 1}").is_dir():
        raise ValueError(
            f"{part} holds mixtures of more than {num_spks} sources: set num_spks to their number, "
            f"or data_folder to mixtures of {num_spks}"
        )


def _by_name(of: Callable[[str], list[str]], names: list[list[str]]) -> list[list[str]]:
    """What mixtures' names say of their sources, or the path of each where they say nothing.

    `names` are those of the sources' files, a list a source with one a mixture; so is the result.
    """
    columns = [[str(Path(name).with_suffix("")) for name in of_source] for of_source in names]
    for i, name in enumerate(names[0]):
        found = of(Path(name).stem)
        if len(found) >= len(columns):
            for column, known in zip(columns, found, strict=False):
                column[i] = known
    return columns


def longest_cuts(
    table: pd.DataFrame, files: pd.DataFrame, utterances_of: Callable[[str], list[str]]
) -> pd.DataFrame:
    """Make a pool of the sources of generated mixtures: of each utterance the longest cut.

    Arguments
    ---------
    table, files : pd.DataFrame
        Of ``generated_part``.
    utterances_of : callable
        Of a mixture's name; the utterances' names, fewer than sources where it tells none.

    Returns
    -------
    pd.DataFrame
        The pool, see ``data_prep.mixing.pool``.
    """
    num_spks = len(files) // len(table)
    speakers = [table[f"speaker_{c + 1}"] for c in range(num_spks)]
    utterances = _by_name(utterances_of, files["ID"].to_numpy().reshape(num_spks, -1).tolist())
    pool = files.assign(ID=list(chain(*utterances)), speaker=pd.concat(speakers, ignore_index=True))
    pool = pool[~pool["problem"].isin(HARMLESS)].sort_values("duration", kind="stable")
    pool = pool.drop_duplicates("ID", keep="last").sort_values("ID", ignore_index=True)
    return pool.drop(columns=["channels", "problem"])
