"""Separates recordings: ``python -m sfsrnet_modules.separate FILE... --model FOLDER -o FOLDER``."""

import argparse
import os
import sys
from pathlib import Path

import soundfile
from torch import Tensor

from sfsrnet_modules.hparams import one_line_errors
from sfsrnet_modules.inference import SFSRNetSeparation

PEAK = 0.99  # of full scale: 16-bit wav clips above 1


def main(arguments: list[str] | None = None) -> int:
    """Separate every file of the command line; return 1 where any of them failed."""
    args = _parse(arguments)
    with one_line_errors():
        separator = SFSRNetSeparation.from_hparams(args.model, run_opts={"device": args.device})
    failed = 0
    for path in args.files:
        try:
            separate(separator, path, args.output)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    return int(failed > 0)


def separate(separator: SFSRNetSeparation, path: Path, folder: Path) -> list[Path]:
    """Write the voices of a recording as ``<folder>/<file>_voice1.wav`` and so on.

    All voices are turned down by the same gain where one of them would clip, and the gain is told.
    """
    voices = separator.separate_file(path)[0].cpu()  # [T, C]
    peak = voices.abs().max().item()
    if peak > PEAK:
        voices = voices * (PEAK / peak)
        print(f"{path}: voices turned down by the factor {PEAK / peak:.2f}, so as not to clip")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{path.stem}_voice{i}.wav" for i in range(1, voices.shape[1] + 1)]
    for voice, wav in zip(voices.mT, paths, strict=True):
        write_wav(wav, voice, separator.hparams.sample_rate)
        print(wav)
    return paths


def write_wav(path: Path, waveform: Tensor, sample_rate: int) -> None:
    """Write `waveform` [T] as 16-bit wav, whole or not at all."""
    partial = path.with_suffix(".partial")
    soundfile.write(partial, waveform.numpy(), sample_rate, subtype="PCM_16", format="WAV")
    os.replace(partial, path)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Separate the voices of recordings.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--model", required=True, help="exported model folder")
    parser.add_argument("-o", "--output", type=Path, default=Path("."), help="folder of the voices")
    parser.add_argument("--device", help="cpu, cuda:0, ...; default: what there is")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
