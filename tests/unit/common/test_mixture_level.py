import pytest
import torch

from sfsrnet_modules.common.mixture_level import at_mixture_level, mixture_gains


def decibels(ratio: torch.Tensor) -> torch.Tensor:
    return 20 * ratio.abs().log10()


def test_levels_come_from_the_mixture():
    sources = torch.randn(2, 4000, 2) * torch.tensor([0.01, 0.3])
    scaled = sources * torch.tensor([40.0, -0.2])  # SI-SNR leaves scale and sign open
    restored = at_mixture_level(scaled, sources.sum(2))
    assert decibels(restored / sources).abs().max() < 0.1


def test_a_leak_is_not_turned_up_to_fill_what_the_other_voice_misses():
    talker = torch.randn(8000)
    distorted = talker + 0.3 * torch.randn(8000)
    leak = 0.03 * (talker - distorted) + 0.01 * torch.randn(8000)  # fits the error by chance
    estimates = torch.stack([distorted, leak], dim=1)[None]
    gains = torch.linalg.lstsq(estimates[0], talker).solution
    assert gains[1] > 8  # least squares alone
    assert at_mixture_level(estimates, talker[None])[0, :, 1].norm() < 1.2 * leak.norm()


@pytest.mark.parametrize("estimates", [torch.zeros(1, 800, 2), torch.ones(1, 800, 2)])
def test_silence_and_equal_voices_stay_finite(estimates):
    assert mixture_gains(estimates, estimates.sum(2)).isfinite().all()
    restored = at_mixture_level(estimates, estimates.sum(2))
    assert torch.allclose(restored.sum(2), estimates.sum(2), atol=1e-3)
