"""Muon for the matrices, Adam for all else, as one optimizer: a row of the search."""

from collections.abc import Iterable

import torch
from torch import nn


class MuonAndAdam(torch.optim.Optimizer):
    """Steps PyTorch's Muon on weights that are matrices, its Adam on the others, at one rate.

    Arguments
    ---------
    parameters : iterable of torch.nn.Parameter
        All that is trained.
    lr : float
        Of both: Muon's steps are brought to the size of Adam's (``match_rms_adamw``).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float):
        super().__init__(list(parameters), {"lr": lr})
        all_parameters = self.param_groups[0]["params"]
        matrices = [p for p in all_parameters if p.dim() == 2]
        others = [p for p in all_parameters if p.dim() != 2]
        options = {"lr": lr, "weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw"}
        self.parts = [torch.optim.Muon(matrices, **options), torch.optim.Adam(others, lr=lr)]

    def step(self, closure=None) -> None:
        """Step both, at the rate that is set."""
        for part in self.parts:
            part.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            part.step()

    def state_dict(self) -> dict:
        """Of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict) -> None:
        """Take up both."""
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
