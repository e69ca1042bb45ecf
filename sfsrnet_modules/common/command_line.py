"""Reads a training's command line: a yaml file, then ``--key value`` pairs.

Keys are SpeechBrain's run options or keys of the yaml file. SpeechBrain's own parser joins stray
words to the value before them, takes prefixes for options and splits values at every "=".
"""

import argparse
import json
import os
import re
import sys
from contextlib import redirect_stderr
from dataclasses import fields, replace
from io import StringIO

import torch
from ruamel.yaml import YAML, YAMLError
from speechbrain.utils.run_opts import HELP_TEXTS, RunOptions

RUN_OPTIONS = set(HELP_TEXTS)
FLAGS = {field.name for field in fields(RunOptions) if field.default is False} & RUN_OPTIONS
SWITCHES = {"true": True, "false": False}
LAUNCHED = (
    "--{} is an old way of starting processes: leave it away, torchrun and srun tell each process "
    "by its environment who it is"
)
OLD_LAUNCHERS = ("distributed_launch", "local_rank", "local-rank")
UNUSED = (
    "--{} would change nothing: --compile makes one graph of the whole step, of fixed shapes, and "
    "several GPUs are for torchrun or srun; leave it away"
)
OF_OTHERS = (
    "jit",
    "jit_module_keys",
    "compile_module_keys",
    "compile_using_fullgraph",
    "compile_using_dynamic_shape_tracing",
    "data_parallel_backend",
)
REFUSED = dict.fromkeys(OLD_LAUNCHERS, LAUNCHED) | dict.fromkeys(OF_OTHERS, UNUSED)
POSITIVE = ("batch_size", "blocks", "segment", "items_per_epoch", "grad_accumulation_factor")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?\.inf", re.I)


def parse_arguments(arguments: list[str]) -> tuple[str, RunOptions, dict[str, str]]:
    """Parse a command line.

    Arguments
    ---------
    arguments : list of str
        The yaml file, then ``--key value`` or ``--key=value`` pairs; a flag may stand alone.

    Returns
    -------
    hparams_file : str
        The yaml file.
    run_opts : RunOptions
        SpeechBrain's run options.
    overrides : dict
        The other keys, and the yaml text of each value.

    Raises
    ------
    ValueError
        In one sentence, where words do not pair, or a run option is none of its values.

    Example
    -------
    >>> parse_arguments(["a.yaml", "--debug", "--lr=0.1", "--data_folder", "a=b #1"])[2]
    {'lr': '0.1', 'data_folder': '"a=b #1"'}
    """
    arguments = at_home(arguments)
    if any(word in ("-h", "--help") for word in arguments):
        RunOptions.from_command_line_args(["--help"])  # ends the program
    if not arguments or arguments[0].startswith("-"):
        given = arguments[0] if arguments else "nothing"
        raise ValueError(
            f"the first argument is {given}: give a yaml file first, for instance hparams/mini.yaml"
        )
    hparams_file, *words = arguments
    options = pairs(words)
    for key in options:
        if key in REFUSED:
            raise ValueError(REFUSED[key].format(key))
    run_options = {key: options.pop(key) for key in list(options) if key in RUN_OPTIONS}
    overrides = {key: _as_yaml(_one_value(key, values)) for key, values in options.items()}
    for key in POSITIVE:
        value = overrides.get(key) or " ".join(run_options.get(key, ["1"]))
        if NUMBER.fullmatch(value) and float(value) <= 0:
            raise ValueError(f"--{key} is {value}: give a number above 0")
    return hparams_file, _run_opts(hparams_file, run_options), overrides


def at_home(arguments: list[str] | None) -> list[str]:
    """Fill in the home folder where a shell does not: ``--key=~/folder``; default: ``sys.argv``.

    Example
    -------
    >>> "~" in "".join(at_home(["--model=~/models/a", "~/b.wav"]))
    False
    """
    words, home = sys.argv[1:] if arguments is None else arguments, os.path.expanduser("~")
    return [re.sub(r"^(--[\w-]+=)?~(?=/|$)", rf"\g<1>{home}", word) for word in words]


def pairs(words: list[str]) -> dict[str, list[str]]:
    """Pair keys with the words that follow them.

    Raises
    ------
    ValueError
        A word follows no key, or a key is given twice.

    Example
    -------
    >>> pairs(["--lr", "0.1", "--debug", "--t60=[0.1, 0.7]"])
    {'lr': ['0.1'], 'debug': [], 't60': ['[0.1, 0.7]']}
    """
    options: dict[str, list[str]] = {}
    key = None
    for word in words:
        if word.startswith("--"):
            key, equals, value = word.removeprefix("--").partition("=")
            if key in options:
                raise ValueError(f"--{key} is given twice: leave one of them away")
            options[key] = [value] if equals else []
        elif key is None:
            raise ValueError(f"{word} follows the yaml file: give options as --key value")
        else:
            options[key].append(word)
    return options


def _one_value(key: str, values: list[str]) -> str:
    if len(values) > 1:
        raise ValueError(
            f"--{key} is followed by {' '.join(values)}: give one value, in quotes where it has "
            "spaces"
        )
    if not "".join(values).strip():
        raise ValueError(f"--{key} has no value: give one, null for none")
    return values[0]


def _as_yaml(value: str) -> str:
    """Write a value such that yaml reads it as it was given."""
    try:
        read = YAML(typ="safe").load(value)
    except YAMLError:  # HyperPyYAML's tags, or not yaml: told later
        return value
    is_cut = isinstance(read, str) and read != value and value[0] not in "\"'"
    return json.dumps(value, ensure_ascii=False) if is_cut else value


def _run_opts(hparams_file: str, options: dict[str, list[str]]) -> RunOptions:
    """Let SpeechBrain parse its own options; flags are switched off here, as it cannot."""
    words, off = [hparams_file], {}
    for key, values in options.items():
        if key in FLAGS:
            if not _switch(key, values):
                off[key] = False
                continue
            values = []
        else:
            values = [_one_value(key, values)]
        words += [f"--{key}", *values]
    said = StringIO()
    try:
        with redirect_stderr(said):
            _, run_opts, _ = RunOptions.from_command_line_args(words)
        if run_opts.device is not None:
            device_name(run_opts.device)
        if run_opts.optimizer_step_limit is not None:  # SpeechBrain leaves it a string
            run_opts = replace(run_opts, optimizer_step_limit=int(run_opts.optimizer_step_limit))
    except SystemExit as error:
        raise ValueError(said.getvalue().strip().rpartition("error: ")[2]) from error
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"--device {error}") from error
    except ValueError as error:
        limit = options["optimizer_step_limit"][0]
        raise ValueError(f"--optimizer_step_limit is {limit}: give a whole number") from error
    return replace(run_opts, **off, overridden_args=run_opts.overridden_args | set(off))


def _switch(key: str, values: list[str]) -> bool:
    if not values:
        return True
    value = " ".join(values)
    if value.lower() not in SWITCHES:
        raise ValueError(f"--{key} is {value}: it is a flag, give it alone, or True or False")
    return SWITCHES[value.lower()]


def as_the_defaults(overrides: dict[str, str], text: str) -> dict[str, str]:
    """Stop where a yaml file has a number or a switch and the command line something else.

    Arguments
    ---------
    overrides : dict
        Of :func:`parse_arguments`.
    text : str
        Of the yaml file.

    Returns
    -------
    dict
        The overrides, a whole number written as one where the file has such: 1e4 is 10000.

    Raises
    ------
    ValueError
        It names the key, both values, and what is expected.

    Example
    -------
    >>> as_the_defaults({"items": "1e4", "lr": "1e-4"}, "items: 500\\nlr: 1")
    {'items': '10000', 'lr': '1e-4'}
    """
    written = dict(overrides)
    for key, value in overrides.items():
        default = re.search(rf"^{re.escape(key)}: (\S+)", text, re.MULTILINE)
        if default is None or value == "null":  # what a variant sets, its base may leave away
            continue
        expected = None
        if default[1].lower() in SWITCHES and value.lower() not in SWITCHES:
            expected = "True or False"
        elif NUMBER.fullmatch(default[1]) and not NUMBER.fullmatch(value):
            expected = "a number"
        elif NUMBER.fullmatch(default[1]) and float(value) < 0 <= float(default[1]):
            expected = "a number of 0 or more"
        if expected is not None:
            raise ValueError(f"--{key} is {value}: give {expected}, it is {default[1]} by default")
        if default[1].isdecimal() and float(value).is_integer():
            written[key] = str(int(float(value)))
    return written


def device_name(name: str) -> str:
    """Check the name of a device that a command line gives."""
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{name} is no device: cpu, or cuda:0") from error
    number = torch.cuda.device_count()
    if kind == "cuda" and (torch.device(name).index or 0) >= number:
        raise argparse.ArgumentTypeError(
            f"{name} is not here, PyTorch finds {number} CUDA devices: give another, or cpu"
        )
    return name
