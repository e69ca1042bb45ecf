"""Weights & Biases beside the text log and TensorBoard, for those who use it."""

import os
from pathlib import Path
from uuid import uuid4

from speechbrain.utils.distributed import run_on_main

RUN = "wandb.id"  # file in the output folder: a run that goes on is the same run there


def wandb_logger(project: str, output_folder: str | os.PathLike) -> "WandBLogger":  # noqa: F821  imported late
    """Log to a project at Weights & Biases, or to the output folder with ``WANDB_MODE=offline``.

    Arguments
    ---------
    project : str
        Its name there.
    output_folder : str or os.PathLike
        Of the training; its path is the run's name.

    Returns
    -------
    speechbrain.utils.train_logger.WandBLogger

    Raises
    ------
    ValueError
        The package is not installed, or cannot log.
    """
    try:
        import wandb
    except ImportError as error:
        raise ValueError(
            f"wandb is {project!r} but the package is not installed: `pip install wandb`, or leave "
            "the key null; TensorBoard's log is written anyway"
        ) from error
    from speechbrain.utils.train_logger import WandBLogger  # says at once what it lacks

    run = run_on_main(_run_id, args=[Path(output_folder, RUN)])
    try:
        return WandBLogger(
            wandb.init,
            project=project,
            name=str(output_folder),
            id=run,
            resume="allow",
            dir=str(output_folder),
        )
    except TypeError as error:  # SpeechBrain calls what Weights & Biases raises
        raise ValueError(
            f"wandb is {project!r} but {error.__context__}: `wandb login`, set WANDB_MODE=offline, "
            "or leave the key null; TensorBoard's log is written anyway"
        ) from error


def _run_id(path: Path) -> str:
    if not path.exists():
        path.write_text(uuid4().hex)
    return path.read_text()
