import torch

from sfsrnet_modules.metrics import in_order, score, si_snr_i


def test_scores_do_not_depend_on_the_order_of_the_estimates():
    sources = torch.randn(4000, 3)
    estimate = sources + 0.3 * torch.randn(4000, 3)
    mixture = sources.sum(1)
    assert score(mixture, sources, estimate) == score(mixture, sources, estimate[:, [2, 0, 1]])
    assert torch.equal(in_order(sources, estimate[:, [2, 0, 1]]), estimate)


def test_the_mixture_itself_improves_nothing():
    sources = torch.randn(4000, 2)
    mixture = sources.sum(1)
    scores = score(mixture, sources, mixture.unsqueeze(1).expand(-1, 2))
    assert abs(scores["si_snr_i"]) < 1e-4 and abs(scores["sdr_i"]) < 1e-4


def test_known_noise_gives_its_decibels():
    sources = torch.randn(80000, 2)
    noise = 10 ** (-15 / 20) * torch.randn(80000, 2)
    scores = score(sources.sum(1), sources, sources + noise)
    assert abs(scores["si_snr"] - 15) < 0.1 and abs(scores["sdr"] - 15) < 0.2
    assert abs(scores["si_snr_i"] - si_snr_i(sources.sum(1), sources, sources + noise)) < 1e-4
