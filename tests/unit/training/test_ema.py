import pytest
import torch
from torch import nn

from sfsrnet_modules.training.ema import average_of, weights_of_average


def test_average_is_that_of_the_formula_and_can_be_taken_over():
    model = nn.Linear(3, 2)
    average, expected = average_of(model, 0.9), None
    for _ in range(5):
        nn.init.normal_(model.weight)
        average.update_parameters(model)
        weight = model.weight.detach().clone()
        expected = weight if expected is None else 0.9 * expected + 0.1 * weight
    model.load_state_dict(weights_of_average(average.state_dict()))
    assert model.weight.detach().numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    assert torch.equal(average(torch.ones(3)), model(torch.ones(3)))


@pytest.mark.parametrize("decay", [0, 1, 1.5, -0.1])
def test_decays_out_of_range_are_named(decay):
    with pytest.raises(ValueError, match=f"ema is {decay}"):
        average_of(nn.Linear(1, 1), decay)


def test_statistics_of_batch_norm_are_averaged_as_the_weights_are():
    model = nn.BatchNorm1d(3, affine=False)
    average = average_of(model, 0.9)
    for _ in range(50):  # one half of the time of other weights than the newest ones'
        model(torch.randn(100, 3) + 1)
        average.update_parameters(model)
    model(torch.randn(100, 3) + 100)
    average.update_parameters(model)
    newest, own = model.running_mean.mean(), average.module.running_mean.mean()
    assert own == pytest.approx(0.9 + 0.1 * newest.item(), abs=0.1)
