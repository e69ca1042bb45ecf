"""What restores the upper band brings, band by band, beside its heuristic and beside nothing.

``python -m benchmarks.wide MANIFEST SPEECH --model MODEL``: a model folder of ``hparams/wide.yaml``
and a ``valid.csv`` that a training of it left. Writes ``benchmarks/wide.md`` and ``wide.png``.
"""

import argparse
import sys
from copy import deepcopy
from pathlib import Path
from unittest.mock import patch

import sfsrnet_modules  # noqa: F401  first: lets speechbrain be imported on CPU-only torch

# isort: split
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.about import ROOT, provenance, table
from data_prep.mixing.fixed import FixedMixtures
from sfsrnet_modules.common.hparams import one_line_errors
from sfsrnet_modules.evaluation.complexity import count_parameters, macs_per_second
from sfsrnet_modules.evaluation.metrics import band_si_snr_i, si_snr_i
from sfsrnet_modules.evaluation.plots import draw_bands
from sfsrnet_modules.evaluation.summary import interval
from sfsrnet_modules.inference import SFSRNetSeparation
from sfsrnet_modules.models import upper_band
from sfsrnet_modules.models.full_band import FullBand
from sfsrnet_modules.training.losses import UpperBandLoss

WIDE = ROOT / "sfsrnet_modules/pretrained/sfsrnet-small-16k"
KINDS = {  # what ends the columns of each
    "voices of the 8 kHz model": "_low",
    "share of 0–4 kHz, as in the paper": "_whole",
    "share of 3–4 kHz": "_share",
    "trained": "",
}
REPORT = """# Separate low, restore high

{provenance}

{number} mixtures of validation speakers, {sources}. SI-SNRi in dB, mean with its 95 % interval over
the mixtures; "4–8 kHz, SNR" is the loss's measure, in which levels count. Shares are a heuristic:
nothing is trained there. The voices of the 8 kHz model hold nothing above but what its filter lets
through, and are left out of the picture.

{figures}

The trained network is better than the share of 3–4 kHz, item by item, by {gains}.

Multiply-accumulates for a second of audio: {low_macs:.2f} G of the 8 kHz model, {macs:.2f} G with
what restores the upper band, {more:.1%} more; {parameters:.2f} M of {all_parameters:.2f} M weights
are its.

![SI-SNRi by band](wide.png)
"""


def main(arguments: list[str] | None = None) -> int:
    """Score, write the report and the picture."""
    args = parse(arguments)
    with one_line_errors():
        model = SFSRNetSeparation.from_hparams(args.model).mods.model
        mixtures = FixedMixtures(args.manifest, model.sample_rate, model.num_spks, args.speech)
        scores = score(model, mixtures)
    drawn = {label: suffix for label, suffix in KINDS.items() if suffix != "_low"}
    draw_bands(scores, ROOT / "benchmarks/wide.png", drawn)
    (ROOT / "benchmarks/wide.md").write_text(report(model, mixtures, scores), encoding="utf-8")
    return 0


@torch.inference_mode()
def score(model: FullBand, mixtures: FixedMixtures) -> pd.DataFrame:
    """Score each mixture's voices of each kind: a row a mixture."""
    loss = UpperBandLoss(model.sample_rate, model.narrow.sample_rate)
    rows = []
    for item in tqdm(map(mixtures.__getitem__, range(len(mixtures))), total=len(mixtures)):
        mixture, sources, row = item["mixture"], item["sources"], {"id": item["id"]}
        lower, *answers = voices_of(model, mixture)
        for suffix, voices in zip(KINDS.values(), [lower, *answers], strict=True):
            found = {"all": si_snr_i(mixture, sources, voices)}
            found |= band_si_snr_i(mixture, sources, voices, model.sample_rate)
            pair = torch.stack([lower, voices])[:, None]  # [2, B, T, C]
            found["snr"] = loss(pair, sources[None], mixture=mixture[None])[1]["sr"].item()
            row |= {name + suffix: value for name, value in found.items()}
        rows.append(row)
    return pd.DataFrame(rows).set_index("id")


def voices_of(model: FullBand, mixture: Tensor) -> list[Tensor]:
    """Return the voices of each of ``KINDS``, [T, C] each, of a `mixture` [T]."""
    lower, trained = model(mixture[None])  # [1, T, C] each
    conditioned, gain = model.conditioning(mixture[None])  # [1, T], [1, 1]
    upper, level = model.crossover.upper(conditioned), gain.unsqueeze(2)
    untrained = deepcopy(model.super_resolution)
    nn.init.zeros_(untrained.layers[-1].weight)
    nn.init.zeros_(untrained.layers[-1].bias)
    share = lower + untrained(upper, lower * level) / level
    with patch.object(upper_band, "TOP", 0.0):
        whole = lower + untrained(upper, lower * level) / level
    return [voices[0] for voices in (lower, whole, share, trained)]


def report(model: FullBand, mixtures: FixedMixtures, scores: pd.DataFrame) -> str:
    """Tell what was found."""
    bands = [name for name in scores if name.startswith("band") and name.endswith("khz")]
    names = {"all": "0–8 kHz"} | {band: _kilohertz(band) for band in bands}
    names["snr"] = "4–8 kHz, SNR"
    rows = [
        [label, *(_mean(scores[name + suffix]) for suffix in KINDS.values())]
        for name, label in names.items()
    ]
    gains = {n: scores[n] - scores[n + "_share"] for n in ("snr", "all")}
    sources = mixtures.rows.get("source", pd.Series("one folder", mixtures.rows.index))
    by_source = sources.value_counts()
    macs = macs_per_second(model, model.sample_rate)
    low_macs = macs_per_second(model.narrow, model.narrow.sample_rate)
    return REPORT.format(
        provenance=provenance(),
        number=len(scores),
        sources=", ".join(f"{number} of {name}" for name, number in by_source.items()),
        figures=table(["band", *KINDS], rows),
        gains=f"{_mean(gains['snr'])} dB in SNR and {_mean(gains['all'])} dB in SI-SNRi of 0–8 kHz",
        low_macs=low_macs / 1e9,
        macs=macs / 1e9,
        more=macs / low_macs - 1,
        parameters=count_parameters(model.super_resolution) / 1e6,
        all_parameters=count_parameters(model) / 1e6,
    )


def _kilohertz(band: str) -> str:
    _, low, high = band.removesuffix("khz").split("_")
    return f"{low}–{high} kHz"


def _mean(values: pd.Series) -> str:
    low, high = interval(values.to_numpy())
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path, help="valid.csv of a training of hparams/wide.yaml")
    parser.add_argument("speech", type=Path, help="its data_folder")
    parser.add_argument("--model", type=Path, default=WIDE, help="default: %(default)s")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
