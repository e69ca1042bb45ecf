"""A page for the browser: ``sfsrnet-demo --model FOLDER``.

Drop or record a mixture, hear its voices; or mix two recordings and have the separation scored.
Everything stays on this machine: no telemetry, nothing fetched from elsewhere.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "0"  # read when gradio is imported

import gradio as gr
import numpy as np
import torch

from sfsrnet_modules.apps.mixing import Scores, mix, score_voices
from sfsrnet_modules.apps.separate import draw
from sfsrnet_modules.common.audio_io import open_audio
from sfsrnet_modules.common.command_line import device_name
from sfsrnet_modules.common.hparams import one_line_errors
from sfsrnet_modules.common.writing import write_voices, write_wav
from sfsrnet_modules.inference.interface import DEFAULT_MODEL, SFSRNetSeparation

KEPT = 3600  # s, that files of the page are kept for download
ONE_AT_A_TIME = {"concurrency_id": "separator", "concurrency_limit": 1}  # it takes all cores
INTRO = """
# Separate voices
**When {num_spks} people speak at once in a recording, each gets a track of their own here.**

Model `{name}`, {rate:g} kHz. The recordings stay on the machine that serves this page.
"""
HOW_TO_SEPARATE = """
Drop a recording, or record one, and press the button. Any length, any rate, any number of channels
(they are averaged), as wav, flac, ogg or mp3. Each voice keeps its level in the recording; which
voice comes first means nothing.
"""
HOW_TO_MIX = """
Give two recordings of one speaker each. They are mixed at the levels that you choose and the
mixture is separated. As its sources are known, each voice gets a score: SI-SNR, by how many dB the
voice outweighs what does not belong to it, in the mixture and after the separation.
"""


def build(separator: SFSRNetSeparation, name: str) -> gr.Blocks:
    """Lay out the page.

    Arguments
    ---------
    separator : SFSRNetSeparation
        What separates.
    name : str
        Of the model, to be shown.
    """
    num_spks, rate = separator.hparams.num_spks, separator.hparams.sample_rate
    with gr.Blocks(
        title="Separate voices", analytics_enabled=False, delete_cache=(KEPT,) * 2
    ) as page:
        gr.Markdown(INTRO.format(num_spks=num_spks, name=name, rate=rate / 1000))
        with gr.Tab("Separate a recording"):
            _separate_tab(separator)
        if num_spks == 2:
            with gr.Tab("Mix two and score"):
                _mix_tab(separator)
    return page


def _separate_tab(separator: SFSRNetSeparation) -> None:
    def run(recording: str | None, progress=gr.Progress()):  # noqa: B008  gradio's way
        with _folder_and_messages(recording) as (folder, notes):
            path = Path(_given(recording, "Give a recording first: drop a file or record one."))
            advance = _seconds_done(path, progress)
            voices = separator.separate_long(path, folder, progress=advance)
            progress(1.0, desc="Drawing")
            picture = folder / f"{path.stem}_voices.png"
            rows = {f"voice {i}": voice for i, voice in enumerate(voices, start=1)}
            draw(path, rows, separator.hparams.sample_rate, picture)
            yield [*map(str, voices), str(picture), "\n\n".join(notes)]

    gr.Markdown(HOW_TO_SEPARATE)
    with gr.Row():
        with gr.Column():
            recording = _input("Recording of people who speak at once")
            button = gr.Button("Separate", variant="primary")
            notes = gr.Markdown()
        with gr.Column():
            voices = [_player(f"Voice {i}") for i in range(1, separator.hparams.num_spks + 1)]
    picture = _picture()
    button.click(run, recording, [*voices, picture, notes], **ONE_AT_A_TIME)


def _mix_tab(separator: SFSRNetSeparation) -> None:
    def run(first: str | None, second: str | None, difference: float, progress=gr.Progress()):  # noqa: B008
        with _folder_and_messages(first, second) as (folder, notes):
            given = [_given(path, "Give two recordings first.") for path in (first, second)]
            progress(0.0, desc="Separating")
            paths, scores = _mix_and_separate(separator, given, difference, folder)
            mixture, first_voice, second_voice = paths
            picture = folder / "mixture_voices.png"
            rows = {"voice 1": first_voice, "voice 2": second_voice}
            draw(mixture, rows, separator.hparams.sample_rate, picture)
            told = "\n\n".join([_scores_table(scores), *notes])
            yield [*map(str, paths), str(picture), told]

    gr.Markdown(HOW_TO_MIX)
    with gr.Row():
        inputs = [_input("First speaker"), _input("Second speaker")]
    label = "Level of the first speaker over the second (dB)"
    difference = gr.Slider(-10, 10, value=0, step=0.5, label=label)
    button = gr.Button("Mix, separate and score", variant="primary")
    table = gr.Markdown()
    with gr.Row():
        players = [_player(label) for label in ("Mixture", "First voice", "Second voice")]
    picture = _picture()
    button.click(run, [*inputs, difference], [*players, picture, table], **ONE_AT_A_TIME)


def _input(label: str) -> gr.Audio:
    return gr.Audio(
        sources=["upload", "microphone"], type="filepath", label=label, buttons=["download"]
    )


def _player(label: str) -> gr.Audio:
    return gr.Audio(label=label, interactive=False, buttons=["download"])


def _picture() -> gr.Image:
    return gr.Image(
        label="Spectrograms",
        alt_text="Spectrograms of the mixture and of the voices",
        interactive=False,
        buttons=["download", "fullscreen"],
    )


def _mix_and_separate(
    separator: SFSRNetSeparation, given: list[str], difference_db: float, folder: Path
) -> tuple[list[Path], Scores]:
    """Write mixture and voices, in the order of the recordings given; score the voices."""
    rate = separator.hparams.sample_rate
    recordings = [separator.load_mixture(path)[0].cpu() for path in given]  # [T1], [T2]
    sources = mix(*recordings, difference_db, rate)  # [T, 2]
    mixture, *voices = paths = [
        folder / name for name in ("mixture.wav", "first_voice.wav", "second_voice.wav")
    ]
    write_wav(mixture, sources.sum(1), rate)
    both = np.concatenate(list(separator.stream_file(mixture)))  # [T, 2], however soft one is
    scores = score_voices(sources, torch.from_numpy(both))
    write_voices([scores.voices.numpy()], voices, rate)
    return paths, scores


def _scores_table(scores: Scores) -> str:
    rows = ["| | SI-SNR in the mixture | of the voice | improvement |", "|---|---|---|---|"]
    gains = [after - before for before, after in zip(scores.before, scores.after, strict=True)]
    for name, *values in zip(("First", "Second"), scores.before, scores.after, gains, strict=True):
        before, after, gain = map(_decibels, values)
        rows.append(f"| {name} voice | {before} | {after} | **{gain}** |")
    mean = sum(gains) / len(gains)
    return "\n".join([*rows, "", f"SI-SNR improvement, mean of both: **{_decibels(mean)}**"])


def _decibels(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f} dB"  # + 0.0: no "-0.0"


def _given(recording: str | None, message: str) -> str:
    if recording is None:
        raise ValueError(message)
    return recording


def _seconds_done(path: Path, progress: gr.Progress):
    """Make what shows on the page how much of a recording is separated."""
    with open_audio(path) as file:
        total = file.seconds
    done = 0.0

    def advance(seconds: float) -> None:
        nonlocal done
        done += seconds
        if total is not None:
            progress(min(done / max(total, 1e-3), 1), desc=f"{done:.0f} of {total:.0f} s")

    return advance


@contextmanager
def _folder_and_messages(*recordings: str | None) -> Iterator[tuple[Path, list[str]]]:
    """Give a passing folder, and a list that collects what the log says meanwhile.

    Errors that the user can mend become a message of the page, of one sentence and without the
    server's paths. The page copies files out of the folder before it goes.
    """
    handler, notes = logging.Handler(), []
    handler.emit = lambda record: notes.append(_without_paths(record.getMessage(), recordings))
    log = logging.getLogger("sfsrnet_modules")
    log.addHandler(handler)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder), notes
    except (ValueError, OSError) as error:
        sentence = str(error)[:1].upper() + str(error)[1:]
        raise gr.Error(_without_paths(sentence, recordings), print_exception=False) from error
    finally:
        log.removeHandler(handler)


def _without_paths(message: str, recordings: tuple[str | None, ...]) -> str:
    for path in filter(None, recordings):
        message = message.replace(path, Path(path).name)
    return message


def main(arguments: list[str] | None = None) -> int:
    """Serve the page until it is interrupted."""
    parser = argparse.ArgumentParser(prog="sfsrnet-demo", description="Separate voices on a page.")
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, metavar="FOLDER", help="exported, or SpeechBrain's")
    add("--host", default="127.0.0.1", help="0.0.0.0: reached from other machines as well")
    add("--port", type=int, default=7860)
    add("--device", type=device_name, help="cpu, cuda:0, ...; default: what there is")
    args = parser.parse_args(arguments)
    with one_line_errors():
        separator = SFSRNetSeparation.from_hparams(args.model, run_opts={"device": args.device})
    logging.getLogger("sfsrnet_modules").setLevel(logging.INFO)
    try:
        build(separator, Path(args.model).resolve().name).launch(
            server_name=args.host,
            server_port=args.port,
            theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            footer_links=[],
            share=False,
        )
    except (OSError, OverflowError) as error:  # the latter of a port above 65535
        place = f"port {args.port} of {args.host}"
        sys.exit(f"error: {place} can't be opened ({error}): give another --port or --host")
    return 0


if __name__ == "__main__":
    sys.exit(main())
