from torch import nn

from sfsrnet_modules.evaluation.complexity import count_parameters, macs_per_second


class Recurrent(nn.Module):
    """An LSTM over frames of 10 samples."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(10, 20, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, mixture):
        return self.lstm(mixture.unflatten(1, (-1, 10)))[0]


def test_recurrent_layers_count():
    per_frame = 2 * (4 * 20 * (10 + 20)) + 2 * (4 * 20 * (40 + 20))  # two directions, two layers
    assert macs_per_second(Recurrent(), 8000) == 800 * per_frame


def test_counting_leaves_the_model_in_training(tiny_model):
    assert macs_per_second(tiny_model, 8000) > 1e6
    assert tiny_model.training


def test_frozen_parameters_count(tiny_model):
    before = count_parameters(tiny_model)
    tiny_model.super_resolution.requires_grad_(False)
    assert count_parameters(tiny_model) == before > 0
