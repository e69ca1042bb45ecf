"""Clipping and batch norm's statistics, where a step is skipped or taken."""

from types import SimpleNamespace

import torch
from torch import nn

from sfsrnet_modules.training.brain import Separation
from sfsrnet_modules.training.meters import Figures
from sfsrnet_modules.training.statistics import RunningStatistics


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor) -> None:
    """One step of the training loop, without its loop."""
    brain = SimpleNamespace(optimizer=optimizer, max_grad_norm=5.0, optimizer_step=0)
    brain.scaler = torch.amp.GradScaler(enabled=False)
    brain.skip_nonfinite_grads, brain.figures = True, Figures()
    brain.statistics = RunningStatistics(model)
    brain._step_if = lambda finite: Separation._step_if(brain, finite)
    brain.statistics.keep()
    model(batch).square().sum().backward()
    Separation.optimizers_step(brain)


def test_statistics_move_with_the_steps_that_are_taken():
    model = nn.BatchNorm1d(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step(model, optimizer, torch.tensor([[1.0], [3.0]]))
    before = [value.clone() for value in model.state_dict().values()]
    assert model.running_mean.item() > 0
    step(model, optimizer, torch.tensor([[1.0], [torch.nan]]))
    after = list(model.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(after[:4], before[:4], strict=True))


def test_all_groups_of_parameters_are_clipped_together():
    model = nn.Linear(2, 1)
    groups = [{"params": [model.weight]}, {"params": [model.bias]}]
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    step(model, torch.optim.SGD(groups, lr=1.0), torch.tensor([[1e3, 1e3]]))
    change = nn.utils.parameters_to_vector(model.parameters()) - before
    assert torch.isclose(change.norm(), torch.tensor(5.0), rtol=1e-3)
