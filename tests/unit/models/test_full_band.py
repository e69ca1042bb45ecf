import numpy as np
import pytest
import torch

from conftest import tiny_sfsrnet
from sfsrnet_modules.common.resampling import resample
from sfsrnet_modules.models.full_band import Crossover, FullBand, _at_level
from sfsrnet_modules.models.upper_band import UpperBand


def restoring(trained: bool = True, num_spks: int = 2) -> FullBand:
    """The upper band starts as the heuristic: where trained, it does something of its own."""
    model = FullBand(tiny_sfsrnet(num_spks), UpperBand(channels=8), 16000, num_spks)
    if trained:
        torch.nn.init.normal_(model.super_resolution.layers[-1].weight, std=0.1)
    return model.eval()


@pytest.mark.parametrize("num_samples", [32, 33, 1001, 16000])
def test_lower_and_full_band_have_the_mixtures_length(num_samples):
    mixture = torch.randn(2, num_samples)
    assert restoring()(mixture).shape == (2, 2, num_samples, 2)
    assert restoring()(mixture, all_estimates=True).shape == (4, 2, num_samples, 2)
    assert restoring()(mixture, block=1).shape == (1, 2, num_samples, 2)


def test_three_voices():
    assert restoring(num_spks=3)(torch.randn(2, 1001)).shape == (2, 2, 1001, 3)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_silence_gives_silence(value):
    answer = restoring()(torch.full((1, 2003), value))
    assert torch.equal(answer, torch.zeros(2, 1, 2003, 2))


@pytest.mark.parametrize(("level", "offset"), [(-1, 0.0), (-53, -0.5), (-73, 0.01)])  # dBFS
def test_neither_level_nor_offset_matters(level, offset):
    model, mixture = restoring(), torch.randn(2, 2003)
    mixture -= mixture.mean(1, keepdim=True)
    gain = 10 ** (level / 20)
    expected, answer = model(mixture), model(gain * mixture + offset) / gain
    assert (answer - expected).abs().max() < 2e-3 * expected.abs().max()


def test_each_output_of_the_narrow_model_is_brought_to_its_own_level():
    voices = torch.randn(2, 4000, 2)
    scales = torch.tensor([[50.0, 2.0], [0.9, 0.04]])  # [E, C]
    estimates = voices * scales[:, None, None]  # [E, B, T, C]
    levelled = _at_level(estimates, voices.sum(2))
    assert torch.allclose(levelled, voices.expand_as(estimates), atol=0.02)


def test_batch_of_three_equals_three_of_one():
    model, mixtures = restoring(), torch.randn(3, 2003) * torch.tensor([[1.0], [0.01], [10.0]])
    batch = model(mixtures)
    alone = torch.cat([model(mixture[None]) for mixture in mixtures], dim=1)
    peaks = batch.abs().amax((0, 2, 3))  # [B]
    assert ((batch - alone).abs().amax((0, 2, 3)) < 1e-5 * peaks).all()


def band(signal: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Spectrum of a second of `signal` [T, C] from `low` to `high` Hz."""
    return torch.fft.rfft(torch.hann_window(16000).unsqueeze(1) * signal, dim=0)[low:high]


def test_the_lower_band_is_the_narrow_models_answer():
    spectrum = torch.fft.rfft(torch.randn(1, 16000))
    spectrum[:, :100] = 0  # Hz: as speech, it has nothing where both models look for hum
    model, mixture = restoring(), torch.fft.irfft(spectrum)
    low = torch.from_numpy(resample(mixture[0].numpy(), 16000, 8000))[None]
    narrow = model.narrow(low)[-1, 0].numpy()  # [T', C]
    answer = band(model(mixture)[-1, 0], 200, 3000)
    expected = band(torch.from_numpy(resample(narrow, 8000, 16000)), 200, 3000)
    gain = (answer * expected.conj()).sum(0).real / expected.abs().square().sum(0)
    assert (answer - gain * expected).norm() < 1e-3 * answer.norm()


def test_voices_add_up_to_the_mixture_above_as_far_as_shares_go():
    model, mixture = restoring(trained=False), torch.randn(1, 16000)
    total = band(model(mixture)[-1, 0].sum(1, keepdim=True), 5000, 7900)
    expected = band(mixture[0].unsqueeze(1), 5000, 7900)
    assert (total - expected).norm() < 1e-3 * expected.norm()


def test_the_narrow_model_is_frozen():
    model = restoring().train()
    assert not model.narrow.training and model.super_resolution.training
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(2, 1001))[-1].square().mean().backward()
    optimizer.step()
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed and all(name.startswith("super_resolution.") for name in changed)
    assert all(p.grad is None for p in model.narrow.parameters())


@pytest.mark.parametrize("ratio", [2, 3])
@pytest.mark.parametrize("num_samples", [1000, 1001])
def test_crossover_resamples_as_all_else_does(ratio, num_samples):
    signal = torch.randn(num_samples, 2)
    crossover = Crossover(ratio * 8000, 8000)
    low = crossover.down(signal.mT).mT
    expected = resample(signal.numpy(), ratio * 8000, 8000)
    assert low.shape == expected.shape and np.abs(low.numpy() - expected).max() < 1e-5
    back = crossover.up(low.mT, num_samples).mT
    expected = resample(expected, 8000, ratio * 8000)[:num_samples]
    assert np.abs(back.numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("rate", [8000, 12000, 4000])
def test_a_rate_that_is_no_multiple_is_refused(rate):
    with pytest.raises(ValueError, match=f"sample_rate is {rate} Hz .* 8000 Hz: give a multiple"):
        FullBand(tiny_sfsrnet(), UpperBand(), rate)
