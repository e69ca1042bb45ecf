"""Writing manifests such that a run stopped in between leaves nothing to be trusted.

A manifest is a csv with a row an item. ``pool.csv`` lists utterances for dynamic mixing,
``noise.csv`` noise recordings; ``train.csv``, ``valid.csv`` and ``test.csv`` list mixtures, as
``data_prep.mixing.fixed`` reads them. ``prepared.json``, written last, says what they were made of.
"""

import hashlib
import json
from pathlib import Path

import pandas as pd
from speechbrain.utils.logger import get_logger

from sfsrnet_modules.common.writing import write_whole

logger = get_logger(__name__)

NAMES = ("pool.csv", "noise.csv", "train.csv", "valid.csv", "test.csv")
TRAINING, HELD_OUT = ("pool.csv", "train.csv"), ("valid.csv", "test.csv")
STATE = "prepared.json"
ACOUSTICS = "acoustics.json"  # what mixtures were given afterwards: rooms and noise
VERSION = 5  # of what is written; raise it when the same arguments give other manifests


def is_prepared(output_folder: Path, state: dict) -> bool:
    """Whether the manifests are there and were made of the same.

    Arguments
    ---------
    output_folder : Path
    state : dict
        Of ``write``.

    Returns
    -------
    bool
    """
    if not (output_folder / STATE).is_file():
        return False
    made_of = json.loads((output_folder / STATE).read_text())
    names = made_of.pop("manifests", NAMES)
    if not all((output_folder / name).is_file() for name in names):
        return False
    state = json.loads(json.dumps({**state, "version": VERSION}))  # as json has it
    changed = sorted(key for key in state | made_of if made_of.get(key) != state.get(key))
    if changed:
        message = "The manifests in %s were made with other %s: making them anew"
        logger.info(message, output_folder, ", ".join(changed))
        return False
    logger.info("%s is prepared already", output_folder)
    return True


def write(output_folder: Path, tables: dict[str, pd.DataFrame], state: dict) -> None:
    """Write manifests, each whole or not at all, and a line about each to the log.

    Arguments
    ---------
    output_folder : Path
        Made if missing.
    tables : dict
        Names of files, and what goes into each.
    state : dict
        What the tables were made of.

    Raises
    ------
    ValueError
        A table has an ID twice; or a speaker whom the manifests before had for training alone is
        in validation or test now.
    """
    for name, table in tables.items():
        check_ids(table["ID"], name)
    _refuse_to_test_the_trained(output_folder, tables)
    output_folder.mkdir(parents=True, exist_ok=True)
    for state_file in (STATE, ACOUSTICS):
        (output_folder / state_file).unlink(missing_ok=True)
    for name in set(NAMES) - set(tables):  # of another corpus
        (output_folder / name).unlink(missing_ok=True)
    for name, table in tables.items():
        write_whole(output_folder / name, table.to_csv(index=False).encode())
        hours = table["duration"].sum() / 3600
        message = "%s: %d items, %.2f h, %d speakers"
        num_speakers = len(speakers_in(table))
        logger.info(message, output_folder / name, len(table), hours, num_speakers)
    state = {**state, "version": VERSION, "manifests": list(tables)}
    write_whole(output_folder / STATE, json.dumps(state, indent=2).encode())


def read_speakers(manifest: Path) -> set[str]:
    """Speakers of a manifest; none where there is no such file."""
    if not manifest.is_file():
        return set()
    return speakers_in(pd.read_csv(manifest, dtype=str, keep_default_na=False))


def speakers_in(table: pd.DataFrame) -> set[str]:
    """Speakers of a table of utterances or of mixtures."""
    return set(table.filter(regex=r"^speaker(_\d+)?$").to_numpy().ravel())


def _refuse_to_test_the_trained(output_folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Stop where a corpus that has changed is split such that a training would test its own."""
    trained, held_out = (
        set().union(*(read_speakers(output_folder / name) for name in names))
        for names in (TRAINING, HELD_OUT)
    )
    now = set().union(*(speakers_in(tables[name]) for name in HELD_OUT if name in tables))
    moved = sorted((trained - held_out) & now)
    if moved:
        names = ", ".join(moved[:3]) + ", …" * (len(moved) > 3)
        raise ValueError(
            f"The corpus or its options changed since {output_folder} was made: {len(moved)} "
            f"speakers that it trains on would be validated and tested on now ({names}). Undo the "
            "change to go on, or begin anew with another output_folder"
        )


def check_ids(ids: pd.Series, name: str) -> None:
    """Stop where a list has an ID twice: a ``ValueError`` names the first."""
    twice = ids[ids.duplicated()]
    if len(twice):
        raise ValueError(
            f"{len(twice)} items of {name} have an ID that another one has, the first "
            f"{twice.iloc[0]}: an item may be listed once"
        )


def fingerprint(folder: Path, names: list[str]) -> str:
    """Digest of files' names, sizes and times of change (s), by which a corpus's is seen."""
    stats = [path.stat() if path.exists() else None for path in (folder / name for name in names)]
    facts = [(stat.st_size, int(stat.st_mtime)) if stat else None for stat in stats]
    return hashlib.sha256(json.dumps([names, facts]).encode()).hexdigest()


def expect(tables: dict[str, pd.DataFrame], published: dict[str, int], corpus: str) -> None:
    """Warn where a manifest has another number of mixtures than the corpus was published with."""
    for name, table in tables.items():
        if name in published and len(table) != published[name]:
            message = "%s has %d mixtures, %s was published with %d: figures cannot be compared"
            logger.warning(message, name, len(table), corpus, published[name])
