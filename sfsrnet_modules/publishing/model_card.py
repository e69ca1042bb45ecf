"""Writes the model card, `README.md` of a model folder, from what a training left behind."""

from pathlib import Path

import pandas as pd
from huggingface_hub import EvalResult, ModelCardData
from torch import nn

from sfsrnet_modules.evaluation.complexity import count_parameters, macs_per_second
from sfsrnet_modules.evaluation.summary import compare_conditions
from sfsrnet_modules.publishing.training_run import TrainingRun

LICENSE = "apache-2.0"  # of the weights, unless said otherwise
CARD = """\
---
{front_matter}
---

# {name}

Separates {num_spks} voices that speak at once in one channel of {kilohertz:g} kHz audio: SFSRNet
(Rixen & Renz, *SFSRNet: Super-Resolution for Single-Channel Audio Source Separation*, AAAI 2022) on
[SpeechBrain](https://speechbrain.github.io).

| | |
|---|---|
| parameters | {parameters} |
| multiply-accumulates for a second of audio | {macs} |
| sample rate | {sample_rate} Hz; recordings of another rate are resampled |
| voices | {num_spks} |

## Use

With `sfsrnet-speechbrain` installed, `MODEL` being this folder or its name on the Hugging Face Hub:

```python
from sfsrnet_modules.inference import SFSRNetSeparation

separator = SFSRNetSeparation.from_hparams(source="MODEL")
voices = separator.separate_file("meeting.wav")  # [1, samples, voices]
```

or `sfsrnet-separate meeting.wav --model MODEL -o voices/`.
{onnx}
## Figures

{figures}
{conditions}
## Training data

{data}

## Training

{training}

## Limits

{limits}

## Licence

Weights: {license}. The recordings that they were trained on keep their own licences, see above.
"""
MEASURES = {
    "voice_si_snr": "alone, SI-SNR",
    "si_snr_i": "SI-SNRi",
    "leak": "alone, the other output over it",
}
ABOUT_CONDITIONS = """\
The same voices in every condition, `evaluate.py --conditions`: with noise 5 to 15 dB below them, in
simulated rooms, one of them alone, in conversations of 45 s with pauses:"""
ONNX = """
`model.onnx` holds the same network for any runtime of ONNX: input `mixture` [batch, samples] at
{sample_rate} Hz, output `voices` [batch, samples, voices], any batch and any length. The scale of
each voice is open there; `SFSRNetSeparation` brings the voices to their level in the mixture.
onnxruntime's memory grows with the length, so run long recordings in segments
(`sfsrnet_modules.inference.segments.separate_segments`).
"""


def model_card(
    model: nn.Module,
    run: TrainingRun,
    epochs: list[int],
    name: str | None = None,
    license: str = LICENSE,
    note: str | None = None,
    onnx: bool = False,
) -> str:
    """Describe a model: size, use, figures, data, training, limits.

    Arguments
    ---------
    model : torch.nn.Module
        As exported.
    run : TrainingRun
        Where it comes from.
    epochs : list of int
        Those that its weights were taken from; several where they were averaged, none where that
        is not known.
    name : str, optional
        Heading. Default: of the experiment.
    license : str
        Of the weights, as Hugging Face names it.
    note : str, optional
        Text to be appended to the training data.
    onnx : bool
        Whether the network lies beside as ``model.onnx``.

    Returns
    -------
    str
        Markdown with the front matter of Hugging Face.
    """
    name = name or f"sfsrnet-{run.hparams.get('experiment', 'model')}"
    sample_rate = run.hparams["sample_rate"]
    return CARD.format(
        front_matter=_front_matter(run, epochs, name, license),
        name=name,
        num_spks=run.hparams["num_spks"],
        kilohertz=sample_rate / 1000,
        sample_rate=sample_rate,
        parameters=f"{count_parameters(model) / 1e6:.2f} M",
        macs=f"{macs_per_second(model, sample_rate) / 1e9:.2f} G",
        onnx=ONNX.format(sample_rate=sample_rate) if onnx else "",
        figures=_figures(run, epochs),
        conditions=_conditions(run),
        data="\n\n".join([_data(run), *([note.strip()] if note else [])]),
        training=_training(run, epochs),
        limits=_limits(run),
        license=license,
    )


def _front_matter(run: TrainingRun, epochs: list[int], name: str, license: str) -> str:
    pool = run.manifest("pool.csv")
    known = pool is not None and "source" in pool
    return ModelCardData(
        license=license,
        library_name="speechbrain",
        pipeline_tag="audio-to-audio",
        tags=["speech-separation", "audio-source-separation", "SFSRNet", "SpeechBrain", "PyTorch"],
        datasets=sorted(pool["source"].unique().tolist()) if known else None,
        model_name=name,
        eval_results=_eval_results(run) if _is_of_test(run, epochs) else None,
    ).to_yaml()


def _eval_results(run: TrainingRun) -> list[EvalResult]:
    labels = {"si_snr_i": "SI-SNRi (dB)", "sdr_i": "SDRi (dB)"}
    return [
        EvalResult(
            task_type="audio-to-audio",
            dataset_type=run.data_name,
            dataset_name=f"{run.data_name}, test part",
            metric_type=column,
            metric_name=label,
            metric_value=round(float(run.scores[column].mean()), 2),
        )
        for column, label in labels.items()
    ]


# --- Figures ------------------------------------------------------------------------------------


def _is_of_test(run: TrainingRun, epochs: list[int]) -> bool:
    """Whether the test's figures are those of the exported weights."""
    return run.scores is not None and epochs == [run.tested_epoch]


def _figures(run: TrainingRun, epochs: list[int]) -> str:
    scores = run.scores
    if scores is None:
        return "Not tested."
    mixtures = run.manifest("test.csv")
    speakers = "" if mixtures is None else _speakers_of(mixtures, run.manifest("pool.csv"))
    text = (
        f"Mean improvement over the mixture on {len(scores)} mixtures{speakers} kept for the test:"
    )
    if not _is_of_test(run, epochs):
        weights = f"epoch {run.tested_epoch}" if run.tested_epoch else "another checkpoint"
        text = f"These weights were not tested; those of {weights} were. {text}"
    groups = {"all": scores}
    if "source" in scores:
        groups = dict(list(scores.groupby("source"))) | groups
    return f"{text}\n\n{_scores_table(groups)}"


def _scores_table(groups: dict[str, pd.DataFrame]) -> str:
    columns = {"si_snr_i": "SI-SNRi", "sdr_i": "SDRi", "si_snr_i_before_sr": "SI-SNRi before SR"}
    columns = {key: label for key, label in columns.items() if key in groups["all"]}
    rows = [["test on", "mixtures", "hours", *columns.values()]]
    for name, scores in groups.items():
        means = [f"{scores[column].mean():.2f} dB" for column in columns]
        rows.append([name, str(len(scores)), _hours(scores["duration"]), *means])
    return _table(rows)


def _conditions(run: TrainingRun) -> str:
    """Means and intervals of every condition, where they were scored."""
    if not run.conditions:
        return ""
    rows = [["in", "mean", "95 % interval", "items"]]
    for name, row in compare_conditions(run.conditions).iterrows():
        for column, label in MEASURES.items():
            name = name.replace(column, label)
        spread = f"{row['low']:.2f} to {row['high']:.2f}"
        rows.append([name, f"{row['mean']:.2f} dB", spread, f"{row['items']:.0f}"])
    return f"\n{ABOUT_CONDITIONS}\n\n{_table(rows)}\n"


# --- Data and training --------------------------------------------------------------------------


def _data(run: TrainingRun) -> str:
    pool = run.manifest("pool.csv")
    if pool is None:
        return f"The folder `{run.data_name}`; its manifests are not at hand, so more is not known."
    total = f"{len(_speakers(pool))} speakers, {_hours(pool['duration'])} h of speech to train on"
    valid = run.manifest("valid.csv")
    if valid is not None:
        total += f", {len(valid)} mixtures{_speakers_of(valid, pool)} for validation"
    if "source" not in pool:
        return (
            f"The folder `{run.data_name}`: {total}. Its manifests name no sources and no licences."
        )
    return f"The folder `{run.data_name}`: {total}.\n\n{_sources_table(pool)}"


def _sources_table(pool: pd.DataFrame) -> str:
    rows = [["source", "speakers", "hours", "licence"]]
    for source, group in pool.groupby("source"):
        licences = set(group["licence"]) - {""} if "licence" in group else ()
        licence = ", ".join(sorted(licences)) or "unknown"
        rows.append([source, str(len(_speakers(group))), _hours(group["duration"]), licence])
    return _table(rows)


def _training(run: TrainingRun, epochs: list[int]) -> str:
    commit = f"at commit `{run.commit}`" if run.commit else "at a commit that is not known"
    lines = [
        f"```sh\n{run.command()}\n```\n",
        f"{commit[0].upper()}{commit[1:]}, seed {run.hparams.get('seed')}.",
    ]
    if run.hparams.get("start_from") is not None:
        start = Path(run.hparams["start_from"]).name
        lines.append(f"It began with the weights of `{start}`, whose card names their data.")
        if run.hparams.get("start_share"):
            lines.append(f"They have a share of {run.hparams['start_share']} in its own.")
    if epochs:
        which = f"those of epoch {epochs[0]}"
        if len(epochs) > 1:
            which = f"the average of those of epochs {', '.join(map(str, sorted(epochs)))}"
        lines.append(f"The weights are {which}, best in validation of {run.last_epoch} epochs.")
    return "\n".join(lines)


def _limits(run: TrainingRun) -> str:
    num_spks, nyquist = run.hparams["num_spks"], run.hparams["sample_rate"] / 2000
    lines = [
        f"It gives {num_spks} voices, however many people speak; their order means nothing.",
        f"It works up to {nyquist:g} kHz: what a recording holds above is lost.",
        "Voices, languages and rooms unlike those of the training data come out worse.",
    ]
    missing = [what for what, is_there in _added(run.hparams).items() if not is_there]
    if missing:
        lines.append(
            f"No {' and no '.join(missing)} was added to its mixtures, so that recordings with it "
            "are strange to it."
        )
    return "\n".join(f"- {line}" for line in lines)


def _added(hparams: dict) -> dict[str, bool]:
    """Whether the mixtures of a training had noise, and whether they had rooms."""
    mixture = hparams.get("mixture", "clean")
    made = {"babble", "coloured"} & set(hparams.get("noise_kinds") or [])
    noise = hparams.get("noise_folder") is not None or made
    return {
        "noise": bool(noise and hparams.get("noise_share", 1)) or not mixture.startswith("clean"),
        "echo": hparams.get("rooms") is not None or mixture.endswith("_reverb"),
    }


def _speakers_of(mixtures: pd.DataFrame, pool: pd.DataFrame | None) -> str:
    """Say how many speakers they are of, and whether training has heard them."""
    speakers = _speakers(mixtures)
    if pool is None:
        return f" of {len(speakers)} speakers"
    trained = len(speakers & _speakers(pool))
    if trained == 0:
        return f" of {len(speakers)} other speakers"
    return f" of {len(speakers)} speakers ({trained} of them trained on)"


def _speakers(table: pd.DataFrame) -> set[str]:
    return set(table.filter(like="speaker").astype(str).to_numpy().ravel())


def _hours(durations: pd.Series) -> str:
    return f"{durations.sum() / 3600:.2f}"


def _table(rows: list[list[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def read_note(path: Path | None) -> str | None:
    """Read the text to be appended to the training data.

    Raises
    ------
    ValueError
        Where there is no such text file.
    """
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the note {path} can't be read: {error}") from error
