import pytest
import torch
from torchaudio.transforms import Resample

from sfsrnet_modules.common.si_snr import pit_si_snr
from sfsrnet_modules.training.losses import MultiLoss, UpperBandLoss, _along_time


@pytest.mark.parametrize("low_rate", ["resample", "lowpass"])
def test_one_rate_equals_the_plain_loss(low_rate):
    sources, estimates = torch.randn(2, 4, 800, 2)
    loss, terms = MultiLoss([8000], 8000, low_rate)(estimates[None], sources)
    assert torch.isclose(loss, -pit_si_snr(estimates, sources).mean())
    assert torch.isclose(terms["block1_8000Hz"], -loss)


def test_sum_is_mean_over_blocks_plus_super_resolution():
    estimates, sources = torch.randn(3, 4, 800, 2), torch.randn(4, 800, 2)
    loss, terms = MultiLoss([8000, 8000], 8000)(estimates, sources, has_refined=True)
    scores = [pit_si_snr(estimate, sources).mean() for estimate in estimates]
    assert torch.isclose(loss, -(scores[0] + scores[1]) / 2 - scores[2])
    assert torch.allclose(torch.stack(list(terms.values())), torch.stack(scores))


def test_the_blocks_weight_falls_as_training_goes_on():
    estimates, sources = torch.randn(3, 4, 800, 2), torch.randn(4, 800, 2)
    loss = MultiLoss([8000, 8000], 8000, block_weight=0.5, last_block_weight=0.1)
    for progress, weight in ((0, 0.5), (0.25, 0.4), (1, 0.1)):
        loss.progress.fill_(progress)
        total, terms = loss(estimates, sources, has_refined=True)
        first, second, refined = terms.values()
        assert torch.isclose(total, -weight * (first + second) / 2 - refined)
    total, _ = loss.eval()(estimates, sources, has_refined=True)  # epochs can be compared
    assert torch.isclose(total, -0.5 * (first + second) / 2 - refined)


def test_an_answer_that_is_held_against_a_low_band_alone_is_refused():
    estimates, sources = torch.randn(2, 1, 800, 2), torch.randn(1, 800, 2)
    with pytest.raises(ValueError, match=r"the last of rates is 8000, .* 4000 Hz alone: set it"):
        MultiLoss([4000, 8000], 16000)(estimates, sources)
    MultiLoss([8000], 16000)(estimates, sources, has_refined=True)


def test_a_joint_order_is_the_answers():
    sources = torch.randn(4, 800, 2)
    near = sources + 0.1 * torch.randn(4, 800, 2)
    estimates = torch.stack([near.flip(2), near])  # a block that has the voices the other way round
    for joint, swapped in ((True, True), (False, False)):
        terms = MultiLoss([8000], 8000, joint_order=joint)(estimates, sources, has_refined=True)[1]
        assert (terms["block1_8000Hz"] < 5) == swapped and terms["sr"] > 15


@pytest.mark.parametrize("low_rate", ["resample", "lowpass"])
def test_a_low_rate_does_not_ask_for_the_high_band(low_rate):
    time = torch.arange(8000) / 8000
    low, high = torch.sin(2 * torch.pi * 200 * time), torch.sin(2 * torch.pi * 3000 * time)
    other = torch.sin(2 * torch.pi * 310 * time)
    sources = torch.stack([low + high, other + high], dim=1)[None]  # [1, T, 2]
    estimates = torch.stack([low, other], dim=1)[None]
    at_full_rate = MultiLoss([8000], 8000)(estimates[None], sources)[0]
    loss = MultiLoss([1000, 8000], 8000, low_rate)
    at_low_rate = loss(estimates.expand(2, -1, -1, -1), sources)[1]["block1_1000Hz"]
    assert at_full_rate > -1 and at_low_rate > 30


@pytest.mark.parametrize("rate", [500, 3000])
def test_padding_does_not_count_at_a_low_rate(rate):
    sources, estimates = torch.randn(1, 999, 2), torch.randn(1, 999, 2)
    longer = [torch.cat([x, 9 * torch.randn(1, 601, 2)], dim=1) for x in (estimates, sources)]
    loss = MultiLoss([rate, 8000], 8000)
    alone = loss(estimates.expand(2, -1, -1, -1), sources)[0]
    twice = longer[0].expand(2, -1, -1, -1)
    padded = loss(twice, longer[1], lengths=torch.tensor([999 / 1600]))[0]
    assert abs(padded - alone) < 0.01


def test_fewer_estimates_take_the_last_rates():
    _, terms = MultiLoss([500, 2000, 8000], 8000)(torch.randn(2, 1, 800, 2), torch.randn(1, 800, 2))
    assert list(terms) == ["block2_2000Hz", "block3_8000Hz"]


def test_items_better_than_the_limit_stop_pulling():
    sources = torch.randn(2, 800, 2)
    noise = torch.tensor([1e-3, 1.0]).view(2, 1, 1) * torch.randn(2, 800, 2)
    estimates = (sources + noise).requires_grad_()
    MultiLoss([8000], 8000, max_si_snr=30)(estimates[None], sources)[0].backward()
    assert estimates.grad[0].abs().max() == 0 and estimates.grad[1].abs().max() > 0


def test_items_of_weight_0_count_nowhere():
    sources, estimates = torch.randn(4, 800, 2), torch.randn(3, 4, 800, 2)
    sources[1, :, 0] = 0  # the scale, common to the batch, counts as well
    loss = MultiLoss([2000, 8000], 8000)
    few, terms = loss(estimates[:, :3], sources[:3], has_refined=True)
    padded = loss(estimates, sources, has_refined=True, weights=torch.tensor([1.0, 1, 1, 0]))
    assert torch.isclose(padded[0], few)
    assert torch.allclose(torch.stack([*padded[1].values()]), torch.stack([*terms.values()]))


@pytest.mark.parametrize(
    ("rates", "options", "message"),
    [
        ([], {}, "at least one"),
        ([16000], {}, "at most the sample"),
        ([8000], {"low_rate": "x"}, "low_rate"),
    ],
)
def test_bad_options_are_refused(rates, options, message):
    with pytest.raises(ValueError, match=message):
        MultiLoss(rates, 8000, **options)


def test_more_estimates_than_rates_are_refused():
    with pytest.raises(ValueError, match="3 estimates but 1 rates"):
        MultiLoss([8000], 8000)(torch.randn(3, 1, 800, 2), torch.randn(1, 800, 2))


@pytest.mark.parametrize(("old", "new"), [(8000, 500), (8000, 3000), (3000, 8000)])
@pytest.mark.parametrize("num_samples", [800, 1003])
def test_resampling_is_torchaudios(old, new, num_samples):
    resample = Resample(old, new, dtype=torch.float64)
    x = torch.randn(2, num_samples, 3, dtype=torch.float64)
    assert torch.allclose(_along_time(resample, x), resample(x.mT.contiguous()).mT, atol=1e-12)


def in_two_bands(loss: UpperBandLoss, sources: torch.Tensor) -> torch.Tensor:
    """Lower and full band of `sources` [B, T, C] as perfect estimates, [2, B, T, C]."""
    return torch.stack([sources - loss.crossover.upper(sources.mT).mT, sources])


def test_the_upper_band_is_held_to_the_order_of_the_lower_one():
    loss, sources = UpperBandLoss(16000, 8000), torch.randn(2, 1600, 2)
    lower, full = in_two_bands(loss, sources)
    perfect, terms = loss(torch.stack([lower, full]).flip(3), sources)
    assert perfect < -29.9 and terms["sr"] == -perfect
    swapped = lower + (full - lower).flip(2)  # better in another order: none of its own is taken
    assert loss(torch.stack([lower, swapped]), sources)[0] > 2


def test_errors_below_and_levels_below_are_not_the_upper_bands():
    loss, sources = UpperBandLoss(16000, 8000), torch.randn(2, 1600, 2)
    lower, full = in_two_bands(loss, sources)
    wrong = lower + 0.5 * lower.flip(2)
    assert loss(torch.stack([wrong, wrong + full - lower]), sources)[0] < -29.9
    louder = lower + 2 * (full - lower)
    assert loss(torch.stack([lower, louder]), sources)[0].abs() < 0.1  # dB: its level counts


@pytest.mark.parametrize("silent", [1, 2])
def test_silent_voices_give_a_finite_upper_loss(silent):
    sources = torch.randn(1, 1600, 2)
    sources[:, :, 2 - silent :] = 0
    loss = UpperBandLoss(16000, 8000)
    estimates = (in_two_bands(loss, sources) + 1e-3).requires_grad_()
    total, _ = loss(estimates, sources)
    total.backward()
    assert total.isfinite() and estimates.grad.isfinite().all()


def test_padding_does_not_count_in_the_upper_band():
    loss, sources = UpperBandLoss(16000, 8000), torch.randn(1, 1000, 2)
    estimates = in_two_bands(loss, sources)
    estimates[1] += 0.3 * torch.randn(1, 1000, 2)
    longer = torch.cat([estimates, torch.randn(2, 1, 600, 2)], dim=2)
    padded = torch.cat([sources, torch.zeros(1, 600, 2)], dim=1)
    mixture, share = padded.sum(2), torch.tensor([1000 / 1600])
    difference = loss(longer, padded, share, mixture=mixture)[0] - loss(estimates, sources)[0]
    assert difference.abs() < 0.2
