"""Batch norm's running statistics over a step that is skipped."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class RunningStatistics:
    """Those of all batch norms of a model, put back where a batch was not finite.

    A forward changes them before it is known whether the step will be taken: one NaN would stay in
    them for ever, while the weights are kept from it.

    Arguments
    ---------
    model : torch.nn.Module

    Example
    -------
    >>> model = nn.BatchNorm1d(1)
    >>> statistics = RunningStatistics(model)
    >>> statistics.keep()
    >>> _ = model(torch.full((2, 1), torch.nan))
    >>> statistics.put_back_unless(torch.tensor(False))
    >>> model.running_mean.item()
    0.0
    """

    def __init__(self, model: nn.Module):
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        values = [x for norm in norms for x in (norm.running_mean, norm.running_var)]
        self.values = [value for value in values if value is not None]  # some have none
        self.kept: list[Tensor] = []

    def keep(self) -> None:
        """Remember them, before the first batch of a step."""
        self.kept = [value.clone() for value in self.values]

    def put_back_unless(self, finite: Tensor) -> None:
        """Put back what was kept, on the device, unless a step is `finite` []."""
        for value, kept in zip(self.values, self.kept, strict=True):
            value.copy_(torch.where(finite, value, kept))
