import pytest
import torch
from torch import Tensor

from sfsrnet_modules.common.mixture_level import at_mixture_level
from sfsrnet_modules.inference import SFSRNetSeparation
from sfsrnet_modules.inference.averaging import SHIFT, separate_twice
from sfsrnet_modules.models.conditioning import Conditioning

RATE = 8000  # Hz


@pytest.mark.parametrize(("scales", "tolerance"), [((1.0, 1.0), 0.05), ((50.0, 2.0), 0.1)])
def test_errors_that_hang_on_sign_or_place_are_halved(scales, tolerance):
    sources = torch.randn(2, 4000, 2)
    mixture = sources.sum(2)
    errors = 0.3 * torch.randn(2, 2, 4000 + round(SHIFT * RATE), 2)
    calls = []

    def separate(given: Tensor) -> Tensor:
        """The voices with an error of this time, the second time in the other order."""
        late = given.shape[1] - mixture.shape[1]
        sign = torch.sign((given[:, late:] * mixture).sum())
        voices = torch.nn.functional.pad(sources, (0, 0, late, 0)) * sign
        calls.append((late, sign.item()))
        voices = voices + errors[len(calls) - 1][:, : given.shape[1]]
        return (voices if len(calls) == 1 else voices.flip(2)) * torch.tensor(scales)

    error = separate_twice(separate, mixture, RATE) - sources
    assert calls == [(0, 1.0), (200, -1.0)]
    assert (error.square().mean() / (0.3**2 / 2) - 1).abs() < tolerance


def test_the_interface_separates_twice_where_it_is_told(model_folder):
    separator = SFSRNetSeparation.from_hparams(model_folder)
    mixture = 0.1 * torch.randn(1, 8000)
    level = Conditioning(RATE).audible(mixture)
    once = at_mixture_level(separator.separate_batch(mixture), level)
    mirrored = -separator.separate_batch(-torch.nn.functional.pad(mixture, (200, 0)))[:, 200:]
    mirrored = at_mixture_level(mirrored, level)
    separator.twice = True
    both = separator.separate_batch(mixture)
    orders = [(once + mirrored) / 2, (once + mirrored.flip(2)) / 2]
    assert any(torch.allclose(both, average, atol=1e-6) for average in orders)
    assert not torch.allclose(both, once, atol=1e-3 * once.abs().max())
    streamed = torch.cat(list(separator.stream([mixture[0]])))  # [T, C]
    separator.twice = False
    assert not torch.allclose(streamed, torch.cat(list(separator.stream([mixture[0]]))), atol=1e-6)


def test_silence_stays_silence(model_folder):
    separator = SFSRNetSeparation.from_hparams(model_folder)
    separator.twice = True
    assert torch.equal(separator.separate_batch(torch.zeros(1, 4000)), torch.zeros(1, 4000, 2))
