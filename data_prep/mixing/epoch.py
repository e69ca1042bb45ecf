"""What training sets share: items that depend on the epoch."""

import torch
from torch.utils.data import Dataset


class EpochDataset(Dataset):
    """A training set of ``num_items`` items, drawn anew in every epoch.

    Arguments
    ---------
    num_items : int
        Items an epoch.
    """

    def __init__(self, num_items: int):
        self.num_items = num_items
        # Shared, so that workers which outlive an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return self.num_items

    @property
    def epoch(self) -> int:
        """The epoch whose items are drawn."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose items are drawn; call it before iterating.

        Arguments
        ---------
        epoch : int
            At least 0.
        """
        self._epoch.fill_(epoch)

    def check_index(self, index: int) -> None:
        """Raises IndexError beyond the epoch's items, which ends an iteration."""
        if not 0 <= index < self.num_items:
            raise IndexError(f"item {index} of {self.num_items}")
