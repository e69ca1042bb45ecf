"""Counts the epochs, and remembers over a restart how long validation has stood still."""

from pathlib import Path

import yaml
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.epoch_loop import EpochCounterWithStopper


@register_checkpoint_hooks
class PatientEpochCounter(EpochCounterWithStopper):
    """SpeechBrain's, with its patience in the checkpoint.

    SpeechBrain's class saves the epoch alone, as its hooks are not registered: every restart would
    begin the patience anew, and a run that had stopped early would go on.

    Example
    -------
    >>> counter = PatientEpochCounter(9, limit_to_stop=1, limit_warmup=0, direction="max")
    >>> for score in (2.0, 1.0):
    ...     _ = next(counter)
    ...     counter.update_metric(score)
    >>> counter._save(getfixture("tmp_path") / "counter")
    >>> restarted = PatientEpochCounter(9, limit_to_stop=1, limit_warmup=0, direction="max")
    >>> restarted._recover(getfixture("tmp_path") / "counter")
    >>> list(restarted)
    []
    >>> more = PatientEpochCounter(4, limit_to_stop=2, limit_warmup=0, direction="max")
    >>> more._recover(getfixture("tmp_path") / "counter")  # with more patience
    >>> list(more)
    [3, 4]
    """

    @mark_as_saver
    def _save(self, path: Path) -> None:
        super()._save(path)

    @mark_as_loader
    def _recover(self, path: Path, end_of_epoch: bool = True) -> None:
        super()._recover(path, end_of_epoch)
        # by the patience of this command, which may be another one than it was stopped by
        self.should_stop = self.current - self.best_limit >= self.limit_to_stop


def saved_epoch(path: Path) -> int:
    """Read the epoch that a counter saved, SpeechBrain's plain one or this one."""
    saved = yaml.safe_load(path.read_text(encoding="utf-8"))
    return saved["current_epoch"] if isinstance(saved, dict) else saved
