"""One test mixture to listen to and to look at: the paper's figure 4.

``python -m sfsrnet_modules.apps.example FOLDER --model FOLDER`` draws the spectrograms of an
example that a training left in its output folder.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sfsrnet_modules.common.command_line import at_home
from sfsrnet_modules.common.crops import read_audio
from sfsrnet_modules.common.hparams import one_line_errors
from sfsrnet_modules.common.writing import write_wav
from sfsrnet_modules.evaluation.metrics import in_order, si_snr_i
from sfsrnet_modules.evaluation.spectrograms import draw_grid, spectrogram
from sfsrnet_modules.inference import SFSRNetSeparation


def write_example(test_set: Dataset, results: Path, folder: Path, sample_rate: int) -> Path:
    """Write the mixture and the sources of a typical test item as wav files.

    Arguments
    ---------
    test_set : Dataset
        Items with ``mixture`` [T] and ``sources`` [T, C]; its table ``rows`` has their ``ID``.
    results : Path
        ``test_results.csv``; the item with the median SI-SNRi is taken, not the best.
    folder : Path
        Where to; made if need be.
    sample_rate : int
        Hz.

    Returns
    -------
    Path
        The folder, with ``mixture.wav``, ``source1.wav`` and so on.
    """
    scores = pd.read_csv(results, index_col="id", dtype={"id": str})["si_snr_i"].sort_values()
    typical = scores.index[len(scores) // 2]
    item = test_set[test_set.rows["ID"].tolist().index(typical)]
    folder.mkdir(parents=True, exist_ok=True)
    write_wav(folder / "mixture.wav", item["mixture"], sample_rate)
    for i, source in enumerate(item["sources"].mT, start=1):
        write_wav(folder / f"source{i}.wav", source, sample_rate)
    return folder


def draw(separator: SFSRNetSeparation, folder: Path) -> Path:
    """Draw mixture, estimates before and after SR, and sources of an example as spectrograms.

    Returns
    -------
    Path
        ``<folder>/spectrograms.png``: a column a source, linear frequency as in the paper.

    Raises
    ------
    ValueError, OSError
        The folder holds no such example, or one of another number of voices or a lower rate.
    """
    rate = separator.hparams.sample_rate
    mixture = separator.load_mixture(folder / "mixture.wav")  # [1, T]
    paths = sorted(folder.glob("source*.wav"))
    if len(paths) != separator.hparams.num_spks:
        raise ValueError(
            f"{folder} has {len(paths)} files source*.wav, the model separates "
            f"{separator.hparams.num_spks} voices: give an example of as many"
        )
    sources = torch.stack([torch.from_numpy(read_audio(p, rate)) for p in paths], dim=1)  # [T, C]
    estimates = separator.separate_estimates(mixture).float().cpu()  # [E, 1, T, C]
    mixture = mixture[0].cpu()  # [T]
    rows = {"mixture": mixture.unsqueeze(1).expand_as(sources)}
    names = ["estimate"] if len(estimates) == 1 else ["estimate before SR", "estimate after SR"]
    for name, estimate in zip(names, estimates[:, 0], strict=True):
        print(f"{name}: SI-SNRi {si_snr_i(mixture, sources, estimate):.2f} dB")
        rows[name] = _at_source_level(in_order(sources, estimate), sources)  # [T, C]
    rows["source"] = sources
    spectrograms = {name: [spectrogram(x, rate) for x in row.mT] for name, row in rows.items()}
    picture = folder / "spectrograms.png"
    draw_grid(spectrograms, len(mixture) / rate, rate, picture)
    return picture


def _at_source_level(estimate: Tensor, sources: Tensor) -> Tensor:
    return estimate * ((estimate * sources).sum(0) / estimate.square().sum(0).clamp_min(1e-12))


def main(arguments: list[str] | None = None) -> int:
    """Draw the example in the folder of the command line."""
    parser = argparse.ArgumentParser(description="Draw an example's spectrograms.")
    parser.add_argument("folder", type=Path, help="with mixture.wav, source1.wav, source2.wav")
    parser.add_argument("--model", required=True, help="exported model folder")
    args = parser.parse_args(at_home(arguments))
    with one_line_errors():
        print(draw(SFSRNetSeparation.from_hparams(args.model), args.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
