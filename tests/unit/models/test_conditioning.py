import pytest
import torch

from sfsrnet_modules.models.conditioning import LEVEL, Conditioning


def sine(frequency: float, rate: int, seconds: float = 2.0) -> torch.Tensor:
    return torch.sin(2 * torch.pi * frequency * torch.arange(round(seconds * rate)) / rate)


def decibels(x: torch.Tensor) -> torch.Tensor:
    middle = x[..., x.shape[-1] // 4 : 3 * x.shape[-1] // 4]  # the filter's edges aside
    return 20 * middle.square().mean(-1).sqrt().log10()


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize(
    ("frequency", "lowest", "highest"),
    [(5, -200, -45), (20, -200, -45), (40, -200, -35), (50, -200, -8), (80, -0.5, 0.1)]
    + [(f, -0.1, 0.1) for f in (90, 150, 161, 320, 1000, 3900)],
)
def test_hum_goes_and_voices_stay(rate, frequency, lowest, highest):
    before = sine(frequency, rate)[None]
    after, gain = Conditioning(rate)(before)
    assert lowest < (decibels(after / gain) - decibels(before)).item() < highest


@pytest.mark.parametrize("level", [1.0, 1e-2, 1e-5])
@pytest.mark.parametrize("length", [16, 49, 50, 51, 8000])
def test_every_item_comes_to_one_level(level, length):
    mixture = level * torch.randn(3, length)
    conditioned, gain = Conditioning(8000)(mixture)
    assert conditioned.shape == mixture.shape and gain.shape == (3, 1)
    assert torch.allclose(conditioned.square().mean(1).sqrt(), torch.tensor(LEVEL))


def test_what_stays_keeps_its_phase():
    mixture = sine(440, 8000)[None]
    conditioned, gain = Conditioning(8000)(mixture)
    assert ((conditioned / gain - mixture)[:, 1000:-1000]).abs().max() < 2e-3
