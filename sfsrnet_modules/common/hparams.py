"""Reads the command line and the yaml file; turns bad input into one line.

A yaml file is complete, or a variant of another: its first key `base` names that file, and its
other keys take the place of the base's.
"""

import difflib
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import StringIO
from pathlib import Path

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML, YAMLError
from speechbrain.utils.logger import get_logger
from speechbrain.utils.run_opts import RunOptions

from sfsrnet_modules.common.command_line import RUN_OPTIONS, as_the_defaults, parse_arguments

logger = get_logger(__name__)

QUOTED_OR_COMMENT = re.compile(r"""(?P<quoted>'[^'\n]*'|"(?:\\.|[^"\\\n])*")|\s+#.*""")
NO_DATA = (
    "no --data_folder given: name WSJ0-mix, LibriMix, or any folder with one sub-folder of "
    "recordings a speaker, for instance `python train.py {file} --data_folder "
    "LibriSpeech/dev-clean`; hparams/mini.yaml needs none, it fetches its own corpus"
)


def load_hparams(arguments: list[str]) -> tuple[str, RunOptions, str, dict]:
    """Parse the command line and build what the yaml file describes.

    Arguments
    ---------
    arguments : list of str
        The yaml file, then ``--key value`` pairs and SpeechBrain's run options.

    Returns
    -------
    hparams_file : str
        The yaml file.
    run_opts : RunOptions
        SpeechBrain's run options.
    overrides : str
        The other keys, and those of SpeechBrain's that the yaml file has too, as yaml.
    hparams : dict
        What was built.

    Raises
    ------
    ValueError
        In one sentence, where the file is missing, a key unknown or the data folder not given.
    """
    hparams_file, run_opts, given = parse_arguments(arguments)
    text = _read(hparams_file)
    given = as_the_defaults(given, text)
    _refuse_idle(given, text, hparams_file)
    shared = _shared_options(text, run_opts)
    try:
        if run_opts.debug and not run_opts.debug_persistently:
            given |= _aside(text, given)
        overrides = "\n".join([*_lines(given), *shared])
        hparams = build_hparams(text, overrides)
    except Exception as error:  # of any class that the file names
        raise ValueError(_explained(error, hparams_file, text)) from error
    return hparams_file, run_opts, overrides, hparams


def _aside(text: str, given: dict[str, str]) -> dict[str, str]:
    """Put what --debug leaves beside a training's results, not in their place."""
    overrides = "\n".join(_lines(given))
    paths = read_yaml(resolve_hparams(text, overrides, overrides_must_match=True))
    output = Path(paths["output_folder"], "debug")
    return {
        "output_folder": json.dumps(str(output)),
        "manifest_folder": json.dumps(str(paths["manifest_folder"])),
    }


def _lines(given: dict[str, str]) -> list[str]:
    """Options, whose values are yaml, as lines of it."""
    return [f"{key}: {value}" for key, value in given.items()]


def _explained(error: Exception, hparams_file: str, text: str) -> str:
    """Say in a sentence why nothing could be built."""
    reason = " ".join(" ".join(map(str, error.args)).split())[:300]
    unknown = re.search(r"Override '(.*?)' not found", reason)
    if unknown:
        hint = _closest(unknown[1], [*_keys(text), *sorted(RUN_OPTIONS)], "--")
        given = f"--{unknown[1]} is neither a key of {hparams_file} nor a run option of SpeechBrain"
        return f"{given}: {hint}"
    if isinstance(error, YAMLError):
        reason = " ".join(str(error).split())
        return f"{hparams_file} with these options is not yaml: {reason}"
    if isinstance(error, OSError):
        return f"{error.filename} can't be made: {error.strerror}: give another output_folder"
    if "'data_folder' is a !PLACEHOLDER" in reason:
        return NO_DATA.format(file=hparams_file)
    if isinstance(error, ValueError):
        return str(error)
    return f"what {hparams_file} describes can't be built with these options: {reason}"


def _read(hparams_file: str) -> str:
    """Read a yaml file, the home folder filled in where paths begin with it."""
    try:
        text = read_hparams(hparams_file)
    except FileNotFoundError as error:
        raise ValueError(
            f"there is no file {error.filename}: the first argument is a yaml file, for instance "
            "hparams/mini.yaml, and its base lies beside it"
        ) from error
    except YAMLError as error:
        raise ValueError(f"{hparams_file} is not yaml: {' '.join(str(error).split())}") from error
    home = os.path.expanduser("~")
    return re.sub(r"^(\w+: )~(?=/)", lambda key: key[1] + home, text, flags=re.MULTILINE)


def read_hparams(hparams_file: str | Path) -> str:
    """Return the text of a yaml file, complete: a variant's keys in the place of its base's.

    A key is replaced as a whole, objects too: HyperPyYAML's overrides would keep the base's class.

    Arguments
    ---------
    hparams_file : str or Path
        A complete file, or a variant with a key `base`: a file beside it, itself either.

    Returns
    -------
    str
        For ``load_hyperpyyaml``. A complete file as it is, a variant without its comments.

    Raises
    ------
    FileNotFoundError
        There is no such file, or no such base.
    ValueError
        A key of the variant is not one of the base, and nothing refers to it: it is misspelt.
    """
    hparams_file = Path(hparams_file)
    text = hparams_file.read_text(encoding="utf-8")
    base_file = _base_of(hparams_file, text)
    if base_file is None:
        return text
    return _merged(text, read_hparams(base_file), hparams_file, base_file)


def _base_of(hparams_file: Path, text: str) -> Path | None:
    base = re.search(r"^base: *[\"']?([^\s#\"']+)", text, re.MULTILINE)
    return None if base is None else hparams_file.parent / base[1]


def _refuse_idle(given: dict[str, str], text: str, hparams_file: str) -> None:
    """Stop at options that only parts of the base take that the variant has replaced."""
    base_file = _base_of(Path(hparams_file), Path(hparams_file).read_text(encoding="utf-8"))
    base_text = "" if base_file is None else read_hparams(base_file)
    for key in given:
        if f"<{key}>" in base_text and f"<{key}>" not in text:
            raise ValueError(
                f"--{key} would change nothing: what takes it in {base_file} is not in "
                f"{hparams_file}; leave it away"
            )


@cache  # a training reads its file several times, and yaml is slow
def _merged(text: str, base_text: str, hparams_file: Path, base_file: Path) -> str:
    """Put the keys of a variant in the place of its base's; the files are for the message."""
    variant, merged = read_yaml(text), read_yaml(base_text)
    del variant["base"]
    known = list(merged)
    merged.update(variant)
    text = _dump(merged)
    for key in variant:
        if key not in known and f"<{key}>" not in text:
            raise ValueError(
                f"{key} in {hparams_file} is no key of {base_file}, and nothing refers to it: "
                f"{_closest(key, known)}"
            )
    return text


def build_hparams(text: str, overrides: str | dict) -> dict:
    """Build what `text` describes with the overrides, each of which has to be a key of it."""
    text = _replace_mappings(text, overrides)
    return load_hyperpyyaml(text, overrides, overrides_must_match=True)


def resolve_hparams(text: str, overrides: str | dict, overrides_must_match: bool = False) -> str:
    """Return `text` with the overrides and the references filled in; nothing is built."""
    text = _replace_mappings(text, overrides)
    return resolve_references(text, overrides, overrides_must_match).getvalue()


def _replace_mappings(text: str, overrides: str | dict) -> str:
    """Put mappings and objects among the overrides in the place of the text's own, as a whole.

    HyperPyYAML would merge the two: weights of sources that are not named would stay, an object
    would keep its class, and a mapping in the place of null would be an error.

    Example
    -------
    >>> text = "weights: {a: 1, b: 2}\\ntimer: !new:datetime.timedelta\\n    days: 1"
    >>> print(_replace_mappings(text, "weights: {c: 3}\\ntimer: !new:collections.Counter {d: 4}"))
    weights: {c: 3}
    timer: !new:collections.Counter {d: 4}
    <BLANKLINE>
    """
    given = YAML().load(overrides) if isinstance(overrides, str) else overrides
    mappings = {key: value for key, value in (given or {}).items() if isinstance(value, dict)}
    if not mappings:
        return text
    tree = read_yaml(text)
    tree.update({key: value for key, value in mappings.items() if key in tree})
    return _dump(tree)


def save_hparams(folder: str | Path, hparams_file: str | Path, overrides: str) -> None:
    """Write ``hyperparams.yaml`` of a training: complete, its references resolved.

    Arguments
    ---------
    folder : str or Path
        The output folder.
    hparams_file : str or Path
        Where the configuration is from.
    overrides : str
        What the command line changed in it.
    """
    resolved = resolve_hparams(read_hparams(hparams_file), overrides)
    head = f"# Written by train.py from:\n# {Path(hparams_file).resolve()}\n"
    Path(folder, "hyperparams.yaml").write_text(head + resolved, encoding="utf-8")


def read_yaml(text: str) -> dict:
    """Read yaml with HyperPyYAML's tags; comments would lose their places when it is written.

    Example
    -------
    >>> dict(read_yaml("folder: 'a #1'  # a comment"))
    {'folder': 'a #1'}
    """
    return YAML().load(QUOTED_OR_COMMENT.sub(lambda found: found["quoted"] or "", text))


def _dump(tree: dict) -> str:
    text = StringIO()
    YAML().dump(tree, text)
    return text.getvalue()


def _shared_options(text: str, run_opts: RunOptions) -> list[str]:
    """The options given that are SpeechBrain's and keys of the file: the run's copy shows them."""
    return [
        f"{key}: {getattr(run_opts, key)}" for key in _keys(text) if key in run_opts.overridden_args
    ]


def _keys(text: str) -> list[str]:
    return re.findall(r"^(\w+):", text, flags=re.MULTILINE)


def _closest(unknown: str, known: list[str], dashes: str = "") -> str:
    """Name the keys that were probably meant."""
    close = difflib.get_close_matches(unknown.replace("-", "_").lower(), known, n=3)
    names = " or ".join(f"{dashes}{key}" for key in close)
    return f"did you mean {names}?" if close else "none is like it, the yaml file has them all"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with the sentence of a ValueError or OSError; the trace goes to the log."""
    try:
        yield
    except (ValueError, OSError) as error:
        logger.debug("The trace of the error", exc_info=True)
        sys.exit(f"error: {str(error).strip().splitlines()[-1]}")  # a worker's begins with a trace
