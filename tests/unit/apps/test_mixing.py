import pytest
import torch

from sfsrnet_modules.apps.mixing import mix, score_voices


@pytest.mark.parametrize("difference", [-10.0, 0.0, 7.5])
def test_levels_differ_as_asked_and_the_sum_does_not_clip(difference):
    loud = torch.randn(9000)
    loud[5] = 40.0  # a peak that would clip
    sources = mix(loud, 1e-3 * torch.randn(8000), difference, 8000)
    first, second = 10 * sources.square().mean(0).log10()
    assert first - second == pytest.approx(difference, abs=0.01)
    assert sources.shape == (8000, 2) and sources.sum(1).abs().max() <= 0.99 + 1e-6


def test_silent_and_short_recordings_are_refused():
    noise = torch.randn(8000)
    with pytest.raises(ValueError, match="the second recording is silent"):
        mix(noise, torch.zeros(8000), 0.0, 8000)
    with pytest.raises(ValueError, match=r"lasts 0\.10 s"):
        mix(noise[:800], noise, 0.0, 8000)


def test_scores_follow_the_sources_not_the_voices_order():
    sources = torch.randn(16000, 2) * torch.tensor([1.0, 10 ** (6 / 20)])
    noise = torch.randn(16000, 2) * torch.tensor([0.1, 10 ** (6 / 20) * 0.01])  # 20, 40 dB below
    scores = score_voices(sources, (sources + noise).flip(1))
    assert scores.before == pytest.approx([-6, 6], abs=0.3)
    assert scores.after == pytest.approx([20, 40], abs=0.3)
    assert torch.equal(scores.voices, sources + noise)
