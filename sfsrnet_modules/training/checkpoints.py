"""Checkpoints that are whole or not at all, and random states that belong into them.

SpeechBrain writes a checkpoint where it will be looked for: one that is interrupted is the newest
from then on. Here it is written under another name, forced to the disk, and renamed; with it goes a
checksum of each file, by which a damaged one is told when it is to be loaded.
"""

import json
import os
import random
import shutil
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from speechbrain.utils.checkpoints import (
    METAFNAME,
    Checkpoint,
    Checkpointer,
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.logger import get_logger
from torch import Tensor

from sfsrnet_modules.training.distributed import gather_objects, rank
from sfsrnet_modules.training.ema import weights_of_average

logger = get_logger(__name__)

CHECKSUMS = "checksums.json"  # CRC-32 of each file of a checkpoint
UNFINISHED = "unfinished+"  # before the name of one that is being written
DAMAGED = "damaged+"  # before the name of one that cannot be loaded
PIECE = 1 << 24  # bytes read at a time


class WholeCheckpointer(Checkpointer):
    """SpeechBrain's checkpointer, safe against whatever happens while it writes.

    A checkpoint that cannot be written (the disk is full) is a warning: training goes on, and the
    ones before stay. One that is damaged is named, renamed and passed over for the one before.

    Arguments
    ---------
    *args, **kwargs
        Of ``speechbrain.utils.checkpoints.Checkpointer``.
    keep : int
        Recent and best checkpoints that stay of each kind: two, as one may be damaged.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> model = torch.nn.Linear(1, 1)
    >>> checkpointer = WholeCheckpointer(folder, {"model": model})
    >>> older = checkpointer.save_checkpoint(name="older")
    >>> newer = checkpointer.save_checkpoint(name="newer")
    >>> _ = newer.paramfiles["model"].write_bytes(b"")
    >>> checkpointer.recover_if_possible().path.name
    'CKPT+older'
    """

    def __init__(self, *args, keep: int = 2, **kwargs):
        super().__init__(*args, **kwargs)
        self.keep = keep

    def save_checkpoint(self, meta: dict | None = None, **kwargs) -> Checkpoint | None:
        """Write a checkpoint, whole or not at all; arguments of SpeechBrain's.

        Returns
        -------
        Checkpoint or None
            None where it could not be written.
        """
        for recoverable in self.recoverables.values():
            if hasattr(recoverable, "gather"):
                recoverable.gather()  # what the other processes hold; the main one alone writes
        return self._write({**(meta or {}), "checksums": CHECKSUMS}, **kwargs)

    @main_process_only
    def _write(self, meta: dict, **kwargs) -> Checkpoint | None:
        self._clear()
        try:
            return self._finish(super().save_checkpoint(meta, **kwargs))
        except (OSError, RuntimeError) as error:  # torch.save has both
            logger.warning(
                f"No checkpoint could be written to {self.checkpoints_dir}: {error}. Training goes "
                "on, and the checkpoints before are whole: make room before it is stopped."
            )
            self._clear()
            return None

    def _finish(self, checkpoint: Checkpoint) -> Checkpoint:
        """Add the checksums, force all to the disk, and give the folder its name."""
        written = checkpoint.path
        sums = {path.name: checksum(path) for path in sorted(written.iterdir())}
        (written / CHECKSUMS).write_text(json.dumps(sums, indent=1))
        for path in (*written.iterdir(), written):
            _to_disk(path)
        path = written.with_name(written.name.removeprefix(UNFINISHED))
        written.rename(path)
        _to_disk(self.checkpoints_dir)
        files = {name: path / file.name for name, file in checkpoint.paramfiles.items()}
        return Checkpoint(path, checkpoint.meta, files)

    def _new_checkpoint_dirpath(self) -> Path:
        path = super()._new_checkpoint_dirpath()
        return path.with_name(UNFINISHED + path.name)

    def _custom_checkpoint_dirpath(self, name: str) -> Path:
        path = super()._custom_checkpoint_dirpath(name)
        return path.with_name(UNFINISHED + path.name)

    def _clear(self) -> None:
        """Remove what an interrupted writing left."""
        for path in self.checkpoints_dir.glob(UNFINISHED + "*"):
            shutil.rmtree(path, ignore_errors=True)

    def save_and_keep_only(self, *args, num_to_keep: int = 1, **kwargs) -> None:
        """Save, then delete all but the newest and the best; arguments of SpeechBrain's."""
        # a list of its own: SpeechBrain's default one would grow with every call
        kwargs["importance_keys"] = list(kwargs.get("importance_keys", ()))
        super().save_and_keep_only(*args, num_to_keep=max(num_to_keep, self.keep), **kwargs)

    @main_process_only
    def find_checkpoint(self, *args, **kwargs) -> Checkpoint | None:
        """Find the first that is whole, on behalf of all processes; arguments of SpeechBrain's."""
        for path in self._list_checkpoint_dirs():
            if self._read(path) is None:
                self._set_aside(path, f"{METAFNAME} is not as it was written")
        for checkpoint in self.find_checkpoints(*args, **kwargs):
            reason = damage(checkpoint)
            if reason is None:
                return checkpoint
            self._set_aside(checkpoint.path, reason)
        return None

    def check_fit(self) -> None:
        """Stop where the newest checkpoint is of another model than the one that would go on.

        All processes call it, the main one compares.

        Raises
        ------
        ValueError
            Names or sizes of its weights differ.
        """
        newest = self.find_checkpoint()
        if newest is None or rank() != 0:
            return
        for name, recoverable in self.recoverables.items():
            if name not in newest.paramfiles or not isinstance(recoverable, torch.nn.Module):
                continue
            weights = torch.load(newest.paramfiles[name], map_location="cpu", mmap=True)
            saved, wanted = (
                {(key, tuple(value.shape)) for key, value in state.items()}
                for state in (weights, recoverable.state_dict())
            )
            if saved != wanted:
                key, shape = min(saved ^ wanted)
                raise ValueError(
                    f"{newest.path} is a checkpoint of another model than the options describe "
                    f"({key} of {list(shape)} is in one of them only): give another output_folder, "
                    "or the options that this one was begun with, which its hyperparams.yaml has"
                )

    def list_checkpoints(self) -> list[Checkpoint]:
        """List those of which it can be read what they are, whole or not."""
        return [c for path in self._list_checkpoint_dirs() if (c := self._read(path)) is not None]

    def _read(self, path: Path) -> Checkpoint | None:
        """Read what a checkpoint says of itself; None where it says nothing sensible."""
        try:
            (checkpoint,) = self._construct_checkpoint_objects([path])
        except (OSError, ValueError, yaml.YAMLError):
            return None
        meta = checkpoint.meta
        is_sensible = isinstance(meta, dict) and {"unixtime", "end-of-epoch"} <= set(meta)
        return checkpoint if is_sensible else None

    @staticmethod
    def _set_aside(path: Path, reason: str) -> None:
        logger.warning(
            f"The checkpoint {path} is damaged, it is taken for none and the one before it is "
            f"looked for: {reason}"
        )
        path.rename(path.with_name(DAMAGED + path.name))


def damage(checkpoint: Checkpoint) -> str | None:
    """Say what is wrong with a checkpoint; None if nothing is, or it has no checksums."""
    if "checksums" not in checkpoint.meta:  # SpeechBrain's own
        return None
    try:
        sums = json.loads((checkpoint.path / checkpoint.meta["checksums"]).read_text())
        changed = [name for name in sums if checksum(checkpoint.path / name) != sums[name]]
    except (OSError, ValueError) as error:
        return str(error)
    return f"{', '.join(changed)} is not as it was written" if changed else None


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            value = zlib.crc32(piece, value)
    return value


def _to_disk(path: Path) -> None:
    """Force a file, or the names in a folder, from memory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@partial(register_checkpoint_hooks, save_on_main_only=False)
class RandomStates:
    """The states of all random generators of all processes, to go on as if nothing had happened.

    A process that was not there before keeps the state that it starts with.
    """

    def gather(self) -> None:
        """Collect the states of all processes; all of them must call it."""
        state = {
            "python": random.getstate(),
            "numpy": np.random.get_state(),  # noqa: NPY002  the generator of libraries
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        self.states = gather_objects(state)

    @mark_as_saver
    def save(self, path: Path) -> None:
        """Write what was gathered."""
        torch.save(self.states, path)

    @mark_as_loader
    def load(self, path: Path, end_of_epoch: bool) -> None:
        """Put this process's generators back into their states."""
        states = torch.load(path, weights_only=False)  # tuples of Python's and NumPy's
        if rank() >= len(states):
            return
        own = states[rank()]
        random.setstate(own["python"])
        np.random.set_state(own["numpy"])  # noqa: NPY002
        torch.set_rng_state(own["torch"])
        if own["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])


def preferred_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The model's weights, or their moving average where validation found it better."""
    name = checkpoint.meta.get("weights", "model")
    weights = torch.load(checkpoint.paramfiles[name], map_location="cpu")
    return weights_of_average(weights) if name == "ema" else weights
