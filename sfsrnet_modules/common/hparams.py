"""Reads the command line and the yaml file; turns bad input into one line."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAMLError
from speechbrain.utils.run_opts import RunOptions

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
    hparams_file, run_opts, overrides = sb.parse_arguments(arguments)
    try:
        overrides = "\n".join([overrides, *_shared_options(hparams_file, run_opts)]).strip()
        with open(hparams_file, encoding="utf-8") as file:
            hparams = load_hyperpyyaml(file, overrides, overrides_must_match=True)
    except FileNotFoundError as error:
        raise ValueError(
            f"there is no file {hparams_file}: the first argument is a yaml file, for instance "
            "hparams/mini.yaml"
        ) from error
    except YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{hparams_file} with these options is not yaml, perhaps an option is given twice: "
            f"{reason}"
        ) from error
    except KeyError as error:
        raise ValueError(_unknown_key(str(error), hparams_file)) from error
    except ValueError as error:
        if "'data_folder' is a !PLACEHOLDER" in str(error):
            raise ValueError(NO_DATA.format(file=hparams_file)) from error
        raise
    return hparams_file, run_opts, overrides, hparams


def _shared_options(hparams_file: str, run_opts: RunOptions) -> list[str]:
    """The options given that are SpeechBrain's and keys of the file: the run's copy shows them."""
    return [
        f"{key}: {getattr(run_opts, key)}"
        for key in _keys(hparams_file)
        if key in run_opts.overridden_args
    ]


def _keys(hparams_file: str) -> list[str]:
    with open(hparams_file, encoding="utf-8") as file:
        return re.findall(r"^(\w+):", file.read(), flags=re.MULTILINE)


def _unknown_key(message: str, hparams_file: str) -> str:
    """Name the key, and the one that was probably meant. `message` is HyperPyYAML's."""
    unknown = re.search(r"Override '(.*?)' not found", message).group(1)
    known = _keys(hparams_file)
    close = difflib.get_close_matches(unknown, known, n=1)
    hint = f"did you mean --{close[0]}?" if close else f"its keys are {', '.join(known)}"
    return f"--{unknown} is neither a key of {hparams_file} nor a run option of SpeechBrain: {hint}"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with the sentence of a ValueError or OSError, without a trace."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def device_name(name: str) -> str:
    """Check the name of a device that a command line gives."""
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{name} is no device: cpu, or cuda:0") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"{name}: PyTorch finds no CUDA device here")
    return name
