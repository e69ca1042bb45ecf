import pytest
import torch

from sfsrnet_modules.models.full_band import Crossover
from sfsrnet_modules.models.upper_band import UpperBand, share_of_top

RATE = 16000


def tone(frequency: float, seconds: float = 0.5) -> torch.Tensor:
    return torch.sin(2 * torch.pi * frequency * torch.arange(seconds * RATE) / RATE)


def restore(upper_band: UpperBand, mixture: torch.Tensor, voices: torch.Tensor) -> torch.Tensor:
    return upper_band(Crossover(RATE, 8000).upper(mixture)[None], voices[None])[0]  # [T, C]


def test_untrained_a_voice_has_its_share_of_the_top_of_the_lower_band():
    high = tone(6000)
    voices = torch.stack([3 * tone(3500) + tone(500), tone(3600) + 100 * tone(700)], dim=1)
    restored = restore(UpperBand(channels=8), high + voices.sum(1), voices)[2000:6000]
    shares = high[2000:6000] @ restored / high[2000:6000].square().sum()
    assert shares.tolist() == pytest.approx([0.75, 0.25], abs=0.01)


def test_shares_change_frame_by_frame():
    """Each voice has the top of the lower band in one half, and so the upper band."""
    voices = torch.stack([tone(3500), tone(3500)], dim=1)
    voices[4000:, 0], voices[:4000, 1] = 0, 0
    restored = restore(UpperBand(channels=8), tone(6000) + voices.sum(1), voices)
    power = restored.square().unflatten(0, (2, -1))[:, 500:3500].mean(1)  # [half, C]
    assert power[0, 0] > 1e4 * power[0, 1] and power[1, 1] > 1e4 * power[1, 0]


def test_equal_shares_in_silence():
    assert torch.equal(share_of_top(torch.zeros(1, 4, 128, 2)), torch.full((1, 4, 1, 2), 0.25))


def test_the_order_of_the_voices_makes_no_difference():
    upper_band = UpperBand(channels=8)
    torch.nn.init.normal_(upper_band.layers[-1].weight)
    mixture, voices = torch.randn(8000), torch.randn(8000, 3)
    restored = restore(upper_band, mixture, voices)
    assert torch.allclose(restore(upper_band, mixture, voices.flip(1)), restored.flip(1), atol=1e-5)


def test_nothing_is_restored_below():
    upper_band = UpperBand(channels=8)
    torch.nn.init.normal_(upper_band.layers[-1].weight)
    spectrum = torch.fft.rfft(restore(upper_band, torch.randn(RATE), torch.randn(RATE, 2)), dim=0)
    energy = spectrum.abs().square().sum(1)  # of bins of 1 Hz
    assert energy[:3200].sum() < 1e-4 * energy.sum()


def test_phase_is_learnt_where_a_voice_is_turned_against_the_mixture():
    """The voices are the mixture's upper band turned by a quarter either way: no share is that."""
    mixture, quarter = tone(6000), tone(6000).roll(-RATE // 6000 // 4)
    upper_band = UpperBand(channels=8)
    voices = torch.stack([tone(3500), 0.2 * tone(3500)], dim=1)
    target = torch.stack([mixture + quarter, mixture - quarter], dim=1) / 2
    optimizer = torch.optim.Adam(upper_band.parameters(), lr=0.02)
    for _ in range(80):
        loss = (restore(upper_band, mixture, voices) - target)[500:-500].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * target.square().mean()
