import pytest
import torch

from sfsrnet_modules.common.si_snr import pairwise_si_snr
from sfsrnet_modules.training.losses import MultiLoss
from sfsrnet_modules.training.silence import pairwise_scores, scale_of


def with_voices(number: int, batch: int = 1) -> torch.Tensor:
    """Sources of which only some speak, [B, T, 3]."""
    return 0.1 * torch.randn(batch, 800, 3) * (torch.arange(3) < number)


def power_of(mixture: torch.Tensor) -> torch.Tensor:
    return mixture.square().mean(1)


def test_where_all_speak_it_is_si_snr():
    sources, estimates = with_voices(3, batch=2), torch.randn(2, 800, 3)
    scores = pairwise_scores(estimates, sources, power_of(sources.sum(2)))
    assert torch.equal(scores, pairwise_si_snr(estimates, sources))


@pytest.mark.parametrize("leak_db", [-10.0, -20.0])
def test_a_leak_scores_by_its_level_under_the_mixture(leak_db):
    sources = with_voices(1)
    estimates = 10 ** (leak_db / 20) * sources[:, :, :1].expand_as(sources)
    scores = pairwise_scores(estimates, sources, power_of(sources.sum(2)))
    assert torch.allclose(scores[0, :, 1:], torch.tensor(-leak_db), atol=0.5)


def test_beside_a_silent_source_the_level_of_a_voice_counts():
    sources = with_voices(1)
    soft, right = (
        pairwise_scores(gain * sources, sources, power_of(sources.sum(2)))[0, 0, 0]
        for gain in (0.1, 1.0)
    )
    assert abs(soft - 0.9) < 0.1 and abs(right - 30) < 0.1


@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("gain", [0.0, 1e-4, 1.0])
def test_loss_and_gradient_are_finite(number, gain):
    sources = with_voices(number, batch=2)
    noise = 0.01 * torch.randn(2, 800)
    for mixture in (sources.sum(2), sources.sum(2) + noise):
        estimates = (gain * torch.randn(3, 2, 800, 3)).requires_grad_()
        loss, _ = MultiLoss([1000, 8000], 8000)(estimates, sources, None, True, mixture)
        loss.backward()
        assert loss.isfinite() and estimates.grad.isfinite().all()
        assert gain == 0 or number == 0 or estimates.grad.abs().max() > 0


def test_where_nobody_speaks_a_softer_estimate_is_better():
    noise = 0.1 * torch.randn(1, 800)
    loud, soft = (
        pairwise_scores((gain * noise)[..., None], torch.zeros(1, 800, 1), power_of(noise)).item()
        for gain in (1.0, 0.1)
    )
    assert abs(loud) < 0.1 and abs(soft - 19.6) < 0.1


@pytest.mark.parametrize("number", [1, 2])
def test_the_scale_common_to_all_estimates_does_not_count(number):
    sources = with_voices(number, batch=3)
    estimates = (sources + 0.01 * torch.randn_like(sources))[None]
    near, far = (MultiLoss([8000], 8000)(scale * estimates, sources)[0] for scale in (1.0, 9.0))
    assert torch.isclose(near, far, atol=1e-3)


def test_an_item_without_voices_is_held_against_those_with():
    sources = torch.cat([with_voices(2, batch=3), torch.zeros(1, 800, 3)])
    mixture = sources.sum(2)
    mixture[3] = 0.1 * torch.randn(800)
    leak = torch.zeros_like(sources)
    leak[3] = 0.1 * mixture[3].unsqueeze(1)
    losses = [
        MultiLoss([8000], 8000)(9 * (sources + share * leak)[None], sources, mixture=mixture)[0]
        for share in (0.0, 1.0)
    ]
    assert abs((losses[1] - losses[0]) - (30 - 19.6) / 4) < 0.6  # the scale moves, too


def test_padding_does_not_change_the_scale():
    sources = with_voices(2)
    longer = [torch.cat([x, torch.randn(1, 200, 3)], dim=1) for x in (9 * sources, sources)]
    assert abs(scale_of(*longer, torch.tensor([0.8])) - 1 / 9) < 1e-5


def test_padding_does_not_count():
    sources, estimates = with_voices(1), 0.1 * torch.randn(1, 800, 3)
    longer = [torch.cat([x, torch.randn(1, 200, 3)], dim=1) for x in (estimates, sources)]
    power, lengths = power_of(sources.sum(2)), torch.tensor([0.8])
    alone = pairwise_scores(estimates, sources, power)
    assert torch.allclose(pairwise_scores(*longer, power, lengths), alone, atol=1e-3)


def test_the_order_is_that_of_the_voices():
    sources = with_voices(2, batch=4)
    loss, _ = MultiLoss([8000], 8000)(sources.flip(2)[None], sources)
    assert loss < -29.9
