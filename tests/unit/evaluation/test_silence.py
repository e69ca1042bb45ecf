import math

import pytest
import torch

from sfsrnet_modules.evaluation.scoring import Scoring
from sfsrnet_modules.evaluation.silence import has_silence, score_silence


def voices(number: int) -> torch.Tensor:
    """Sources of which only some speak, [T, 3]."""
    return 0.1 * torch.randn(8000, 3) * (torch.arange(3) < number)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("scale", [1.0, 9.0])
def test_leak_and_voice_are_told_apart_whatever_the_scale(number, scale):
    sources = voices(number)
    mixture = sources.sum(1)
    estimate = sources + 0.001 * torch.randn(8000, 3)  # 40 dB under a voice
    estimate[:, 2] += 0.01 * torch.randn(8000)  # 20 dB under a voice
    scores = score_silence(mixture, sources, scale * estimate.flip(1))
    assert abs(scores["leak"] + 10 * math.log10(100 * number)) < 0.3
    assert abs(scores["voice_si_snr"] - 40) < 0.5


def test_where_nobody_speaks_the_leak_is_beside_the_mixture():
    noise = 0.1 * torch.randn(8000)
    scores = score_silence(noise, voices(0), noise[:, None].expand(8000, 3) / 3)
    assert math.isnan(scores["voice_si_snr"])
    assert abs(scores["leak"] - 10 * math.log10(1 / 3)) < 0.01


def test_perfect_silence_has_a_finite_leak():
    sources = voices(1)
    assert score_silence(sources.sum(1), sources, sources)["leak"] < -90


def test_items_with_silence_have_columns_of_their_own():
    scoring = Scoring(8000, measures=())
    for i, number in enumerate((3, 1)):
        sources = voices(number)
        scoring.add(f"{i}", sources.sum(1), sources, {"": sources, "_before_sr": sources + 0.01})
    all_speak, one_speaks = map(set, scoring.rows())
    assert {"si_snr_i", "sdr_i", "si_snr_i_before_sr"} <= all_speak
    assert one_speaks == {
        "id",
        "duration",
        *("voice_si_snr", "leak", "voice_si_snr_before_sr", "leak_before_sr"),
    }


def test_silence_is_seen_sixty_decibels_below():
    voice = torch.randn(800, 1)
    assert has_silence(torch.cat([voice, 0.9e-3 * voice], dim=1))
    assert not has_silence(torch.cat([voice, 1.1e-3 * voice], dim=1))
