from itertools import permutations

import pytest
import torch
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

from sfsrnet_modules.common.permutation import best_order, reorder
from sfsrnet_modules.common.si_snr import pairwise_si_snr, pit_si_snr


def test_si_snr_equals_torchmetrics():
    sources = torch.randn(3, 2000, 2).double()
    estimates = 5 * sources + torch.randn(3, 2000, 2)
    expected = scale_invariant_signal_noise_ratio(estimates.mT, sources.mT)  # [B, C]
    actual = pairwise_si_snr(estimates, sources).diagonal(dim1=1, dim2=2)
    assert torch.allclose(actual, expected, atol=1e-6)
    single = pairwise_si_snr(estimates.float(), sources.float())
    assert torch.allclose(single.diagonal(dim1=1, dim2=2).double(), expected, atol=1e-3)


def test_several_estimates_at_once():
    sources, estimates = torch.randn(3, 500, 2), torch.randn(4, 3, 500, 2)
    lengths = torch.tensor([1.0, 0.5, 0.8])
    together = pairwise_si_snr(estimates, sources, lengths)  # [E, B, C, C]
    alone = torch.stack([pairwise_si_snr(estimate, sources, lengths) for estimate in estimates])
    assert torch.allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_audio_and_loss_agree_on_the_order_of_three_speakers(order):
    sources = torch.randn(2, 800, 3)
    clean = sources + 0.1 * torch.randn(2, 800, 3)
    estimates = clean[:, :, list(order)]
    found = best_order(pairwise_si_snr(estimates, sources))
    assert torch.equal(reorder(estimates, found), clean)
    straight = pairwise_si_snr(clean, sources).diagonal(dim1=1, dim2=2).mean(1)
    assert torch.allclose(pit_si_snr(estimates, sources), straight)


def test_every_item_has_its_own_order():
    sources = torch.randn(2, 800, 2)
    estimates = torch.stack([sources[0], sources[1].flip(1)])
    assert best_order(pairwise_si_snr(estimates, sources)).tolist() == [[0, 1], [1, 0]]


def test_padding_does_not_count():
    sources, estimates = torch.randn(2, 1000, 2) + 0.1, torch.randn(2, 1000, 2) + 0.2
    alone = pit_si_snr(estimates[1:, :600], sources[1:, :600])
    padded = pit_si_snr(estimates, sources, lengths=torch.tensor([1.0, 0.6]))[1:]
    assert torch.allclose(padded, alone, atol=1e-4)


def test_silence_is_finite():
    estimates = torch.zeros(1, 800, 2, requires_grad=True)
    score = pit_si_snr(estimates, torch.zeros(1, 800, 2))
    score.sum().backward()
    assert score.isfinite().all() and estimates.grad.isfinite().all()
