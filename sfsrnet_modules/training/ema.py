"""An exponential moving average (EMA) of the weights, which often separates better than they do."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """Make a copy of a model whose weights will be the moving average of the model's.

    Batch norm's statistics are averaged as well: the newest ones belong to other weights.

    Arguments
    ---------
    model : torch.nn.Module
        Copied as it is; the first ``update_parameters(model)`` copies its weights again.
    decay : float
        Share of the average that a step keeps, between 0 and 1: 0.999 averages over some 1000
        steps.

    Returns
    -------
    torch.optim.swa_utils.AveragedModel
        Called like the model.

    Raises
    ------
    ValueError
        The decay is none.

    Example
    -------
    >>> model = nn.Linear(1, 1, bias=False)
    >>> average = average_of(model, decay=0.75)
    >>> for weight in (0.0, 1.0):
    ...     _ = nn.init.constant_(model.weight, weight)
    ...     average.update_parameters(model)
    >>> average(torch.ones(1)).item()
    0.25
    """
    if not isinstance(decay, float) or not 0 < decay < 1:
        raise ValueError(f"ema is {decay}: give a number between 0 and 1, such as 0.999, or null")
    return MovingAverage(model, decay)


class MovingAverage(AveragedModel):
    """PyTorch's, updated without asking the device whether it is the first time."""

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move towards the weights and statistics of `model`, the first time all the way."""
        pairs = list(zip(_values(self.module), _values(model), strict=True))
        moving = [(own, new.detach()) for own, new in pairs if own.is_floating_point()]
        own, new = map(list, zip(*moving, strict=True))
        share = torch.where(self.n_averaged == 0, 1.0, 1.0 - self.decay)
        steps = torch._foreach_sub(new, own)
        torch._foreach_mul_(steps, share)
        torch._foreach_add_(own, steps)
        for own, new in pairs:
            if not own.is_floating_point():
                own.copy_(new)  # batch norm's counter
        self.n_averaged += 1


def _values(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def weights_of_average(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the model's weights out of the ``state_dict`` of its average.

    Example
    -------
    >>> model = nn.Linear(1, 1)
    >>> list(weights_of_average(average_of(model, decay=0.9).state_dict()))
    ['weight', 'bias']
    """
    prefix = "module."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
