"""What a folder is, told by the names in it: speakers, generated mixtures, or a part of either.

Generated mixtures lie in parts, ``tr`` or ``train-360``: a folder that holds one folder of mixtures
and one of each source. What looks like that is never taken for speakers. A corpus is added as a
:class:`Layout`.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

DEPTH = 6  # folders down from the one that is given: the parent of a corpus, and what is in it
MIXTURES = re.compile(r"mix(tures?)?(_\w+)?", re.I)  # mix, mix_both, mix_clean_anechoic
SOURCES = re.compile(r"(s|spk|source|speaker)_?\d+(_\w+)?", re.I)  # s1, s1_reverb, source1
LIBRISPEECH = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")  # its subsets
NOISE = re.compile(r"(\w+_)?noises?", re.I)  # noise, wham_noise


class Layout(NamedTuple):
    """How the folders of a corpus of generated mixtures are named, each a regular expression."""

    corpus: str  # what `recognise` calls it
    title: str
    mixtures: str  # folders of mixtures, in a part
    part: str
    above: tuple[str, ...]  # the part, from the next one up; some or all may be missing


LAYOUTS = (
    Layout("wsj0mix", "WSJ0-mix", "mix", "tr|cv|tt", ("min|max", r"wav\d+k", r"\d+speakers")),
    Layout(
        "librimix",
        "LibriMix",
        "mix_(clean|both|single)",
        "train-360|train-100|dev|test",
        ("min|max", r"wav\d+k", r"Libri\d+Mix"),
    ),
    Layout("wham", "WHAM!", "mix_(clean|both|single)", "tr|cv|tt", ("min|max", r"wav\d+k")),
    Layout(
        "whamr",
        "WHAMR!",
        "mix_(clean|both|single)_(anechoic|reverb)",
        "tr|cv|tt",
        ("min|max", r"wav\d+k"),
    ),
)


def generated_corpus(data_folder: Path) -> str | None:
    """Tell the corpus of generated mixtures that a folder holds.

    Arguments
    ---------
    data_folder : Path
        The corpus, or a folder in it that is above its parts.

    Returns
    -------
    str or None
        Its layout's ``corpus``; None where the folder has nothing to do with mixtures.

    Raises
    ------
    ValueError
        It is above or below such a corpus, which is named; or its mixtures lie otherwise.
    """
    data_folder = data_folder.absolute()
    parts = find_parts(data_folder)
    if _role(data_folder.name) and is_part(_folders(data_folder.parent)):
        parts = [data_folder.parent]  # it is a folder of mixtures, or of a source, itself
    meant = {}
    for part in parts:
        layout, root = _corpus_of(part)
        if layout is None:
            continue
        if data_folder in part.parents and data_folder.is_relative_to(root):
            return layout.corpus
        meant[root] = layout.title
    if meant:
        places = " or ".join(f"{root} ({title})" for root, title in list(meant.items())[:3])
        raise ValueError(
            f"{data_folder} is not a folder of speakers, it belongs to generated mixtures or holds "
            f"some: set data_folder to {places}"
        )
    if parts:
        raise ValueError(
            f"{parts[0]} holds mixtures and their sources and no speakers, but lies as no corpus "
            "does: arrange them as 2speakers/wav8k/min/{tr,cv,tt}/{mix,s1,s2}/*.wav and set "
            "data_folder to the folder above 2speakers, or to one with a sub-folder a speaker"
        )
    return None


def find_parts(data_folder: Path) -> list[Path]:
    """Find the parts of generated mixtures at and below a folder, each once."""
    parts, seen = [], set()
    for folder, names, _ in os.walk(data_folder, followlinks=True):
        depth = len(Path(folder).relative_to(data_folder).parts)
        real = os.path.realpath(folder)  # a link to a folder above would lead round and round
        if real not in seen and is_part(names):
            parts.append(Path(folder))
        if real in seen or is_part(names) or depth == DEPTH:
            names.clear()
        seen.add(real)
        names.sort()
    return parts


def is_part(names: list[str]) -> bool:
    """Tell by the names of the folders in a folder whether they are mixtures and their sources.

    Example
    -------
    >>> is_part(["mix_both", "noise", "s1", "s2"]), is_part(["mix", "anna", "bob"])
    (True, False)
    """
    roles = [role for name in names if (role := _role(name))]
    return {MIXTURES, SOURCES} <= set(roles) and 2 * len(roles) > len(names)


def _role(name: str) -> re.Pattern | None:
    """What a folder of this name is in a part, if it belongs into one."""
    return next((role for role in (MIXTURES, SOURCES, NOISE) if role.fullmatch(name)), None)


def _folders(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:  # above what may be read
        return []


def _corpus_of(part: Path) -> tuple[Layout | None, Path]:
    """The layout of a part, and the folder that holds the whole corpus."""
    names = _folders(part)
    for layout in LAYOUTS:
        if not re.fullmatch(layout.part, part.name):
            continue
        if any(re.fullmatch(layout.mixtures, name) for name in names):
            root = part.parent
            for pattern in layout.above:
                if re.fullmatch(pattern, root.name):
                    root = root.parent
            return layout, root
    return None, part
