import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor

from sfsrnet_modules.evaluation import metrics
from sfsrnet_modules.evaluation.metrics import (
    band_si_snr_i,
    in_order,
    perceptual,
    perceptual_measures,
    score,
    score_all,
    sdrs,
    si_snr_i,
)


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


def test_several_estimates_score_as_each_alone():
    sources = torch.randn(4000, 2)
    estimates = sources + torch.tensor([0.1, 0.5, 2.0]).view(3, 1, 1) * torch.randn(3, 4000, 2)
    estimates[1] = estimates[1].flip(1)
    together = score_all(sources.sum(1), sources, estimates)
    for estimate, scores in zip(estimates, together, strict=True):
        assert scores == pytest.approx(score(sources.sum(1), sources, estimate), abs=1e-4)


def speech_pairs(folder, number: int, seconds: int = 4) -> tuple[Tensor, Tensor]:
    """Sources and fair estimates of them, [number, T, 2] each, at 8 kHz."""
    files = sorted((folder / "librispeech").glob("*/*.flac"))[: 2 * number]
    clips = [resample_poly(soundfile.read(f)[0], 1, 2)[: 8000 * seconds] for f in files]
    sources = torch.tensor(np.stack(clips)).float().view(number, 2, -1).mT
    crosstalk = 0.3 * sources.flip(2).roll(7, 1)
    return sources, sources + crosstalk + 0.01 * torch.randn_like(sources)


def test_sdr_is_that_of_bss_eval_on_real_speech(speech):
    separation = pytest.importorskip("mir_eval.separation")
    for sources, estimate in zip(*speech_pairs(speech, 3), strict=True):
        wanted, *_ = separation.bss_eval_sources(
            sources.mT.numpy(), estimate.mT.numpy(), compute_permutation=False
        )
        ours = sdrs(estimate[None], sources)[0].numpy()
        assert np.abs(ours - wanted).max() < 1e-3  # dB


def test_sdr_does_not_depend_on_the_level_nor_on_a_short_filter():
    sources, noise = torch.randn(2, 32000, 2)
    sources[-10:], noise[-10:] = 0, 0  # what a delay moves on
    estimate = sources + 0.1 * noise
    wanted = sdrs(estimate[None], sources)
    assert wanted.mean() == pytest.approx(20, abs=0.2)
    assert torch.allclose(sdrs(-3 * estimate.roll(5, 0)[None], sources), wanted, atol=0.2)


def test_silence_has_a_finite_sdr():
    speech, silence = torch.randn(4000, 2), torch.zeros(4000, 2)
    for estimate, source in ((silence, speech), (speech, silence)):
        assert sdrs(estimate[None], source)[0].tolist() == pytest.approx([-100, -100])
    assert sdrs(speech[None], speech).min() > 99


def test_perceptual_measures_of_real_speech(speech):
    pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    sources, estimate = (x[0] for x in speech_pairs(speech, 1))
    for measure, best in (("pesq", 4.5), ("stoi", 1.0)):
        perfect, fair = (perceptual(measure, x, sources, 8000) for x in (sources, estimate))
        assert perfect == pytest.approx(best, abs=0.1)
        assert fair < 0.95 * perfect
        assert perceptual(measure, -30 * estimate, sources, 8000) == pytest.approx(fair, abs=1e-3)


def test_pesq_of_silence_is_missing_rather_than_an_error():
    pytest.importorskip("pesq")
    assert np.isnan(perceptual("pesq", torch.zeros(8000, 2), torch.zeros(8000, 2), 8000))


def test_stoi_of_too_little_speech_is_missing_rather_than_nothing():
    pytest.importorskip("pystoi")
    sources = torch.randn(24000, 2)
    assert perceptual("stoi", sources, sources, 8000) == pytest.approx(1, abs=1e-3)
    sources[2400:, 1] = 0  # 0.3 s
    assert np.isnan(perceptual("stoi", sources, sources, 8000))


def test_measures_without_their_package_or_rate_are_left_out(monkeypatch):
    monkeypatch.setattr(metrics, "find_spec", lambda name: name)
    assert perceptual_measures(8000) == ("pesq", "stoi")
    assert perceptual_measures(44100) == ("stoi",)
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    assert perceptual_measures(8000) == ()


def test_a_band_is_judged_alone():
    sources = torch.randn(8000, 2)
    mixture = sources.sum(1)
    spectrum = torch.fft.rfft(mixture.unsqueeze(1).repeat(1, 2), dim=0)  # [F, C], 1 Hz apart
    spectrum[1000:2000] = torch.fft.rfft(sources, dim=0)[1000:2000]
    estimate = torch.fft.irfft(spectrum, 8000, dim=0)
    gains = band_si_snr_i(mixture, sources, estimate, 8000)
    assert list(gains) == ["band_0_1khz", "band_1_2khz", "band_2_3khz", "band_3_4khz"]
    good = gains.pop("band_1_2khz")
    assert good > 40 and max(map(abs, gains.values())) < 0.01


def test_pesq_of_a_long_item_with_many_utterances_does_not_end_the_process():
    pytest.importorskip("pesq")
    time = torch.arange(100 * 8000) / 8000
    bursts = (torch.sin(2 * torch.pi * time) > 0) * torch.randn(len(time), 1).T  # [1, T]
    assert np.isnan(perceptual("pesq", bursts.T, bursts.T, 8000))
