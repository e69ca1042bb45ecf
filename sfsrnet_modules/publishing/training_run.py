"""What a training left in its output folder: configuration, checkpoints, figures, data."""

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from speechbrain.utils.checkpoints import Checkpoint, average_state_dicts
from torch import Tensor

from sfsrnet_modules.common.hparams import read_hparams, read_yaml, resolve_hparams
from sfsrnet_modules.evaluation.summary import read_results
from sfsrnet_modules.training.checkpoints import WholeCheckpointer, damage, preferred_weights
from sfsrnet_modules.training.epoch_counter import saved_epoch

RESULTS = "-results.csv"  # of a set of ``evaluate.py --conditions``
BEST = "si_snr_i"  # the validation figure by which checkpoints are kept
OWN_FOLDERS = ("output_folder", "save_folder", "export_folder", "manifest_folder", "cache_folder")


@dataclass(frozen=True)
class TrainingRun:
    """The output folder of ``train.py``.

    Arguments
    ---------
    folder : Path
        With ``hyperparams.yaml``.

    Raises
    ------
    ValueError
        Where it is no such folder.
    """

    folder: Path

    def __post_init__(self):
        if not self.hparams_file.is_file():
            raise ValueError(
                f"no {self.hparams_file}: give the output folder of a training, for instance "
                "results/mini/1234"
            )

    @property
    def hparams_file(self) -> Path:
        """The configuration, references resolved and options of the command line filled in."""
        return self.folder / "hyperparams.yaml"

    @cached_property
    def hparams(self) -> dict:
        """The configuration as it is written: objects are not built."""
        return read_yaml(self.hparams_file.read_text(encoding="utf-8"))

    # --- Checkpoints ----------------------------------------------------------------------------

    def best_checkpoints(self, number: int = 1) -> list[Checkpoint]:
        """Find the undamaged checkpoints with the best validation, the best first.

        Raises
        ------
        ValueError
            Where there are fewer than `number`.
        """
        if number < 1:
            raise ValueError(f"average 1 checkpoint at least, not {number}")
        save = self._save_folder
        found = WholeCheckpointer(save).find_checkpoints(max_key=BEST) if save.is_dir() else []
        found = [checkpoint for checkpoint in found if damage(checkpoint) is None][:number]
        if len(found) < number:
            raise ValueError(
                f"{len(found)} checkpoints with a validation in {save}, {number} wanted: let the "
                "training end an epoch, or average fewer (it keeps the best and the last)"
            )
        return found

    @property
    def _save_folder(self) -> Path:
        """Beside the configuration, unless another folder was named and is still there."""
        beside, named = self.folder / "save", Path(self.hparams.get("save_folder") or "")
        return beside if beside.is_dir() else named

    @staticmethod
    def average(checkpoints: list[Checkpoint]) -> dict[str, Tensor]:
        """Average over checkpoints the weights that validation preferred, of each one its own."""
        return average_state_dicts(preferred_weights(checkpoint) for checkpoint in checkpoints)

    @staticmethod
    def epoch(checkpoint: Checkpoint) -> int:
        """The epoch that ended with `checkpoint`."""
        return saved_epoch(checkpoint.paramfiles["counter"])

    # --- Figures --------------------------------------------------------------------------------

    @cached_property
    def scores(self) -> pd.DataFrame | None:
        """A row a test mixture as in ``test_results.csv``, and its source where that is known."""
        path = self.folder / "test_results.csv"
        if not path.is_file():
            return None
        scores = pd.read_csv(path, index_col="id", dtype={"id": str})
        mixtures = self.manifest("test.csv")
        if mixtures is not None and "source" in mixtures:
            scores = scores.join(mixtures.set_index("ID")["source"])
        return scores

    @cached_property
    def conditions(self) -> dict[str, pd.DataFrame]:
        """What ``evaluate.py --conditions`` left in ``conditions``: the scores of every set."""
        found = sorted(self.folder.glob(f"conditions/*{RESULTS}"))
        return {p.name.removesuffix(RESULTS).replace("-", " "): read_results(p) for p in found}

    @property
    def tested_epoch(self) -> int | None:
        """The epoch whose checkpoint was tested last."""
        return self._last_in(r"epoch loaded: (\d+)")

    @property
    def last_epoch(self) -> int | None:
        """The last epoch that ended."""
        return self._last_in(r"epoch: (\d+)")

    def _last_in(self, pattern: str) -> int | None:
        log = self.folder / "train_log.txt"
        found = re.findall(f"^{pattern}", log.read_text(), re.MULTILINE) if log.is_file() else []
        return int(found[-1]) if found else None

    # --- Origin ---------------------------------------------------------------------------------

    def manifest(self, name: str) -> pd.DataFrame | None:
        """Read one of the manifests that training and test were made of."""
        for folder in (self.folder / "manifests", Path(self.hparams.get("manifest_folder") or "")):
            if (folder / name).is_file():
                return pd.read_csv(folder / name, dtype={"ID": str}, keep_default_na=False)
        return None

    @property
    def commit(self) -> str | None:
        """The commit of the working tree that the training was started in."""
        env = self.folder / "env.log"
        text = env.read_text(encoding="utf-8") if env.is_file() else ""
        found = re.search(r"Git revision:\s+([0-9a-f]{7,})", text)
        return found.group(1) if found else None

    @property
    def data_name(self) -> str:
        """Name of the data folder, without the path, which is of one machine only."""
        return Path(str(self.hparams.get("data_folder") or "unknown")).name

    def command(self) -> str:
        """Repeat the command of the training, from what differs from its yaml file.

        Folders are shortened to their names; SpeechBrain's own options are known where they are
        keys of the file.
        """
        origin = Path(self.hparams_file.read_text(encoding="utf-8").split("\n")[1].strip("# "))
        words = ["python", "train.py", f"hparams/{origin.name}"]
        if not origin.is_file():
            return shlex.join(words) + " …"
        for key, value in self._changes(origin).items():
            if key not in OWN_FOLDERS:
                words += [f"--{key}", _as_option(key, value)]
        return shlex.join(words)

    def _changes(self, origin: Path) -> dict:
        """Top-level values that the yaml file `origin` alone would not give; required first."""
        text = read_hparams(origin)
        required = re.findall(r"^(\w+): !PLACEHOLDER", text, re.MULTILINE)
        changes = {key: self.hparams[key] for key in required if key in self.hparams}
        plain = {key: value for key, value in self.hparams.items() if _is_plain(value)}
        while True:
            resolved = read_yaml(resolve_hparams(text, changes))
            new = [key for key in resolved if key in plain and key not in changes]
            differing = [key for key in new if _differ(resolved[key], plain[key])]
            if not differing:
                return {key: changes[key] for key in (*required, *resolved) if key in changes}
            # what is derived from another is no change, unless it differs when those are made
            own = [key for key in differing if not _refers(text, key)]
            changes |= {key: plain[key] for key in own or differing[:1]}


def _is_plain(value) -> bool:
    """Whether it can be said on a command line: no object, of which mappings of other kinds are."""
    numbers = value.values() if isinstance(value, dict) else ()
    return all(isinstance(number, int | float) for number in numbers)


def _tag(value) -> str:
    """What makes an object of a value in yaml, `!name:torch.optim.Adam`; of another value: ""."""
    return getattr(getattr(value, "tag", None), "value", None) or ""


def _differ(one, other) -> bool:
    return (_tag(one), one) != (_tag(other), other)


def _refers(text: str, key: str) -> bool:
    """Whether the value of a key, lines that are indented below it included, refers to others."""
    return "<" in re.search(rf"^{key}:.*(\n\s.*)*", text, re.MULTILINE)[0]


def _as_option(key: str, value) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return f"{_tag(value)} {dict(value)}".strip()
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"  # yaml needs no quotes around its words
    is_path = key.endswith("_folder") or str(value).startswith(("/", ".."))
    return Path(value).name if is_path else str(value)
