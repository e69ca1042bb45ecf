"""Writes a trained model as a folder that SpeechBrain's pretrained interface loads.

The folder stands alone and names no path of this machine: `hyperparams.yaml`, `model.safetensors`
and, from a training's output folder, `README.md` (model card) and on request `model.onnx`. It is
ready for ``huggingface_hub.upload_folder``.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML
from torch import nn

from sfsrnet_modules.common.command_line import at_home
from sfsrnet_modules.common.hparams import (
    one_line_errors,
    read_hparams,
    read_yaml,
    resolve_hparams,
)
from sfsrnet_modules.inference.pretrained import mix_in_start
from sfsrnet_modules.models.weights import HPARAMS, WEIGHTS, save_weights
from sfsrnet_modules.publishing.model_card import LICENSE, model_card, read_note
from sfsrnet_modules.publishing.onnx import export_onnx
from sfsrnet_modules.publishing.training_run import TrainingRun

ONNX = "model.onnx"
OLD_WEIGHTS = "model.ckpt"  # of folders written before; they load as ever

# what `pretrained_from_hparams` needs beside the model
INTERFACE = """
modules:
    model: !ref <model>
pretrainer: !new:sfsrnet_modules.models.weights.SafetensorsPretrainer
    loadables:
        model: !ref <model>
"""


def export_model(
    model: nn.Module,
    hparams_file: str | Path,
    overrides: str | dict,
    folder: str | Path,
    card: str | None = None,
    onnx: bool = False,
) -> Path:
    """Write configuration and weights of a model to a folder: all of it, or nothing.

    Of the training's configuration only what builds the model is kept.

    Arguments
    ---------
    model : torch.nn.Module
        The trained model.
    hparams_file : str or Path
        The yaml file of the training, with a ``model`` key.
    overrides : str or dict
        What the command line changed in it.
    folder : str or Path
        Where to; made if need be. Files of an earlier export are replaced, its ONNX
        goes unless there is a new one, others stay.
    card : str, optional
        Text of the model card.
    onnx : bool
        Whether to write ``model.onnx`` as well.

    Returns
    -------
    Path
        The folder, for ``SFSRNetSeparation.from_hparams(source=folder)``.

    Raises
    ------
    ValueError
        Where the folder can't be written, or holds files of these names that are of no export, or
        the model not be exported as ONNX.
    """
    folder = Path(folder)
    _refuse_foreign(folder)
    with _whole(folder) as partial:
        hparams = _model_hparams(hparams_file, overrides)
        (partial / HPARAMS).write_text(hparams, encoding="utf-8")
        save_weights(model, partial / WEIGHTS)
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")
        if onnx:
            export_onnx(model, partial / ONNX, read_yaml(hparams)["sample_rate"])
    (folder / OLD_WEIGHTS).unlink(missing_ok=True)
    if not onnx:  # of other weights
        (folder / ONNX).unlink(missing_ok=True)
    return folder


def _refuse_foreign(folder: Path) -> None:
    """Stop where files would be replaced that no export has written, such as a training's."""
    if (folder / WEIGHTS).exists() or (folder / OLD_WEIGHTS).exists():
        return
    for name in (HPARAMS, "README.md"):
        if (folder / name).exists():
            raise ValueError(
                f"{folder / name} is of no exported model and would be replaced: give another "
                "folder"
            )


def export_run(
    run: TrainingRun,
    folder: str | Path,
    model: nn.Module | None = None,
    average: int = 1,
    onnx: bool = False,
    **card_options,
) -> Path:
    """Export what a training reached, with a model card.

    Arguments
    ---------
    run : TrainingRun
        Its output folder.
    folder : str or Path
        Where to.
    model : torch.nn.Module, optional
        With the weights to export. Default: built anew, with those of the best checkpoint.
    average : int
        Average the weights of so many best checkpoints.
    onnx : bool
        Whether to write ``model.onnx`` as well.
    **card_options
        ``name``, ``license``, ``note`` of
        :func:`~sfsrnet_modules.publishing.model_card.model_card`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        Where the training has no such checkpoints, or as in :func:`export_model`.
    """
    if model is None:
        checkpoints = run.best_checkpoints(average)
        model = load_hyperpyyaml(_model_hparams(run.hparams_file, {}))["model"]
        model.load_state_dict(run.average(checkpoints))
        if share := run.hparams.get("start_share"):
            mix_in_start(model, run.hparams["start_from"], share)
        epochs = [run.epoch(checkpoint) for checkpoint in checkpoints]
    else:
        epochs = [run.tested_epoch] if run.tested_epoch else []
    model.eval()
    card = model_card(model, run, epochs, onnx=onnx, **card_options)
    return export_model(model, run.hparams_file, {}, folder, card, onnx)


def _model_hparams(hparams_file: str | Path, overrides: str | dict) -> str:
    """Cut out of a training's configuration what builds the model, as text."""
    text = read_hparams(hparams_file)
    training = read_yaml(resolve_hparams(text, overrides, overrides_must_match=True))
    kept = {key: training[key] for key in ("sample_rate", "num_spks", "model")}
    text = StringIO()
    text.write("# Separates speech: SFSRNetSeparation.from_hparams(source=<this folder>)\n")
    YAML().dump(kept, text)
    return text.getvalue() + INTERFACE


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write into, whose files move to `folder` when all went well."""
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as partial:
            yield Path(partial)
            for path in Path(partial).iterdir():
                path.replace(folder / path.name)
    except OSError as error:
        raise ValueError(f"{folder} can't be written: {error.strerror or error}") from error
    finally:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def main(arguments: list[str] | None = None) -> int:
    """Export the training of the command line."""
    args = _parse(arguments)
    with one_line_errors():
        folder = export_run(
            TrainingRun(args.run),
            args.output,
            average=args.average,
            onnx=args.onnx,
            name=args.output.resolve().name,
            license=args.license,
            note=read_note(args.note),
        )
    print(folder)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Export a training as a model folder.")
    parser.add_argument("run", type=Path, help="output folder of a training")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model folder to write")
    parser.add_argument(
        "--average", type=int, default=1, metavar="N", help="average the N best checkpoints"
    )
    parser.add_argument("--onnx", action="store_true", help="write model.onnx as well")
    parser.add_argument("--license", default=LICENSE, help="of the weights (default: %(default)s)")
    parser.add_argument(
        "--note", type=Path, metavar="FILE", help="Markdown to append to the card's training data"
    )
    return parser.parse_args(at_home(arguments))
