"""Separates recordings from the shell: ``sfsrnet-separate FILE... -o FOLDER``.

Exit codes: 0 all is separated, 1 some file is not (each named in a line), 2 wrong usage or no such
model, 130 interrupted. The paths of what was written go to standard output, all else to standard
error.
"""

import argparse
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from sfsrnet_modules.common import decoding
from sfsrnet_modules.common.audio_io import count_frames, open_audio, read_mono, readable_endings
from sfsrnet_modules.common.command_line import at_home, device_name
from sfsrnet_modules.common.folders import files_below, some_names
from sfsrnet_modules.common.writing import check_names, whole_or_not_at_all
from sfsrnet_modules.evaluation.spectrograms import draw_grid, spectrogram_of_blocks
from sfsrnet_modules.inference.interface import DEFAULT_MODEL, SEGMENT, SFSRNetSeparation

logger = logging.getLogger("sfsrnet_modules")

STANDARD_INPUT = Path("-")
VOICE = re.compile(r"_voice\d+$")  # what was written by this program is no recording to separate


def main(arguments: list[str] | None = None) -> int:
    """Separate every recording of the command line and return the exit code."""
    parser = _parser()
    args = parser.parse_args(at_home(arguments))
    names = ("rate", "segment", "block", "drop_empty", "force", "plot")
    options = {name: getattr(args, name) for name in names}
    sys.stdout.reconfigure(errors="surrogateescape")  # names that are not UTF-8, as they are
    with _log_to_stderr():
        try:
            with _standard_input(args.files) as files:
                recordings = find_recordings(files)
                run_opts = {"device": args.device}
                separator = SFSRNetSeparation.from_hparams(args.model, run_opts=run_opts)
                separator.twice = args.twice
                done = [
                    _separated(
                        separator, path, args.output / name.parent, name=name.name, **options
                    )
                    for path, name in recordings.items()
                ]
        except ValueError as error:
            logger.error(f"error: {error}")
            return 2
        except KeyboardInterrupt:
            logger.error("interrupted: what is told above is done, the file in work is not")
            return 130
    return 0 if all(done) else 1


def find_recordings(given: list[Path]) -> dict[Path, Path]:
    """Find the recordings in files and folders, each with a name of its own.

    Arguments
    ---------
    given : list of Path
        Files, taken as they are, and folders, of which all audio files are taken.

    Returns
    -------
    dict
        Path of each recording: its name, without ending, below the folder that was given.

    Raises
    ------
    ValueError
        Where a folder holds no recordings, or two would be written to one name.
    """
    found = {}
    for path in given:
        is_folder = os.path.isdir(path)  # False for what may not be looked at, which is told later
        inside = _audio_files(path) if is_folder else [path]
        base = path if is_folder else path.parent
        found |= {os.path.realpath(p): (p, p.relative_to(base).with_suffix("")) for p in inside}
    return _distinct(dict(found.values()))


def _audio_files(folder: Path) -> list[Path]:
    known = readable_endings()
    recordings, others = [], []
    for path in files_below(folder):
        is_recording = path.suffix.lower() in known and not VOICE.search(path.stem)
        (recordings if is_recording else others).append(path)
    _tell_passed_over(folder, others)
    if not recordings:
        raise ValueError(f"{folder} holds no recordings: give files, or a folder of audio files")
    return recordings


def _tell_passed_over(folder: Path, files: list[Path]) -> None:
    unread = [path for path in files if path.suffix.lower() in decoding.ENDINGS]
    others = [path for path in files if path.suffix.lower() not in decoding.ENDINGS]
    if unread:
        logger.warning(
            f"{folder}: {len(unread)} recordings are passed over, {some_names(unread, folder)}: "
            f"{decoding.INSTALL}"
        )
    if others:
        logger.info(
            f"{folder}: {len(others)} files are passed over that are no recordings, or voices of "
            f"an earlier separation: {some_names(others, folder)}"
        )


def _distinct(names: dict[Path, Path]) -> dict[Path, Path]:
    """Where names are alike prepend the folders, and where that is not enough the endings."""
    real = {path: Path(os.path.realpath(path)) for path in names}
    common = os.path.commonpath([path.parent for path in real.values()])
    longer = (
        lambda path: real[path].relative_to(common).with_suffix(""),
        lambda path: real[path].relative_to(common).with_name(path.name.replace(".", "_")),
    )
    for longer_name in longer:
        met = Counter(names.values())
        names = {p: longer_name(p) if met[name] > 1 else name for p, name in names.items()}
    (name, number), *_ = Counter(names.values()).most_common(1)
    if number > 1:
        raise ValueError(f"{number} recordings would be written as {name}: separate them in turns")
    return names


def _separated(separator: SFSRNetSeparation, path: Path, folder: Path, **options) -> bool:
    """Separate one recording; an error is told in one line, so that the next can follow."""
    try:
        for written in separate(separator, path, folder, **options):
            print(written, flush=True)
    except (ValueError, OSError) as error:
        logger.error(f"error: {error}")
    except (MemoryError, RuntimeError) as error:  # PyTorch's are RuntimeError
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        logger.error(f"error: {path} takes more memory than there is: try a shorter --segment")
    else:
        return True
    return False


def separate(
    separator: SFSRNetSeparation,
    path: Path,
    folder: Path,
    name: str | None = None,
    force: bool = False,
    plot: bool = False,
    **options,
) -> list[Path]:
    """Write the voices of a recording, with a progress bar.

    Arguments
    ---------
    separator : SFSRNetSeparation
    path : Path
        The recording.
    folder : Path
        Where to; made if need be.
    name : str, optional
        Files are ``<name>_voice1.wav`` and so on; default: the recording's.
    force : bool
        Overwrite what is there.
    plot : bool
        Draw spectrograms, too: ``<name>_voices.png``.
    **options
        Of :meth:`SFSRNetSeparation.separate_long`.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ValueError, OSError
        Where the recording can't be separated or the voices can't be written.
    """
    name = name or path.stem
    picture = folder / f"{name}_voices.png"
    wanted = [*separator.voice_paths(folder, name), *[picture][:plot]]
    check_names(wanted)
    _refuse_to_overwrite([] if force else wanted)
    started = time.monotonic()
    with open_audio(path) as file, _progress_bar(path.name, file.seconds) as progress:
        voices = separator.separate_long(path, folder, name, progress=progress, **options)
        seconds = count_frames(path) / file.samplerate
    took = time.monotonic() - started
    factor = took / max(seconds, 1e-3)
    logger.info(f"{path}: {seconds:.1f} s took {took:.1f} s, real-time factor {factor:.3f}")
    if plot:
        numbered = enumerate(separator.voice_paths(folder, name), start=1)
        rows = {f"voice {i}": voice for i, voice in numbered if voice in voices}
        draw(path, rows, separator.hparams.sample_rate, picture)
    return [*voices, *[picture][:plot]]


def _refuse_to_overwrite(paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} is there already: --force overwrites it")


def draw(path: Path, voices: Mapping[str, Path], model_rate: int, picture: Path) -> None:
    """Draw a recording and its voices as spectrograms up to half the model's rate, or their own.

    The voices are named by what stands beside their rows.
    """
    with open_audio(path) as file:
        seconds, rate = count_frames(path) / file.samplerate, min(model_rate, file.samplerate)
    rows = {"mixture": [_spectrogram(path, rate)]}
    rows |= {name: [_spectrogram(voice, rate)] for name, voice in voices.items()}
    with whole_or_not_at_all([picture]) as (partial,):
        draw_grid(rows, seconds, rate, partial)


def _spectrogram(path: Path, shown_rate: int) -> Tensor:
    with open_audio(path) as file:
        mono = read_mono(file, warn=False)
        decibels = spectrogram_of_blocks(mono, count_frames(path), file.samplerate)
        top = round(len(decibels) * shown_rate / file.samplerate)  # above it voices are empty
    return decibels[:top]


@contextmanager
def _progress_bar(name: str, seconds: float | None) -> Iterator[Callable[[float], None]]:
    """Show how much is done and the real-time factor, where a terminal is there to show it."""
    form = "{desc}: {n:.0f} s [{elapsed}{postfix}]"
    if seconds is not None:
        done = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s"
        form = "{desc}: " + done + " [{elapsed}<{remaining}{postfix}]"
    with (
        logging_redirect_tqdm([logger]),
        tqdm(total=seconds, desc=name, bar_format=form, disable=None, leave=False) as bar,
    ):

        def advance(more: float) -> None:
            bar.update(more)
            factor = bar.format_dict["elapsed"] / max(bar.n, 1e-3)
            bar.set_postfix_str(f"real-time factor {factor:.3f}")

        yield advance


@contextmanager
def _standard_input(files: list[Path]) -> Iterator[list[Path]]:
    """Put what comes through standard input into a passing file, where it is asked for."""
    if STANDARD_INPUT not in files:
        yield files
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield [path if file == STANDARD_INPUT else file for file in files]


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sfsrnet-separate",
        description="Separate the voices of recordings of any length, rate and number of channels.",
        epilog="Exit codes: 0 all is separated, 1 some file is not, 2 wrong usage or no such "
        "model, 130 interrupted.",
    )
    add = parser.add_argument
    add(
        "files", nargs="+", type=Path, metavar="FILE", help="recordings, folders; -: standard input"
    )
    add("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder of the voices")
    add("--model", default=DEFAULT_MODEL, metavar="FOLDER", help="exported, or SpeechBrain's")
    add("--device", type=device_name, help="cpu, cuda:0, ...; default: what there is")
    add(
        "--segment",
        type=float,
        default=SEGMENT,
        metavar="SECONDS",
        help="separated at a time, memory grows with it; default: %(default)s",
    )
    add(
        "--rate",
        choices=("input", "model"),
        default="input",
        help="voices at the rate and length of the recording, or at the model's rate; default: "
        "%(default)s",
    )
    add("--block", type=int, metavar="K", help="leave off after this block: quicker, rougher")
    add("--twice", action="store_true", help="separate twice and average: better, twice the time")
    add("--drop-empty", action="store_true", help="leave away files in which no voice is heard")
    add("--plot", action="store_true", help="draw spectrograms: <file>_voices.png")
    add("--force", action="store_true", help="overwrite what is there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
