import pytest
import soundfile
import torch
from scipy.signal import resample_poly
from speechbrain.lobes.models.dual_path import select_norm
from torch import Tensor, nn

from sfsrnet_modules.evaluation.complexity import count_parameters, macs_per_second
from sfsrnet_modules.models.super_resolution import (
    MAX_QUOTIENT,
    ChannelNorm,
    SuperResolution,
    high_band_guess,
)

FORMS = ("dense", "separable", "subpixel")
TARGETS = ("magnitude", "complex_mask", "complex_residual")


def small(**options) -> SuperResolution:
    return SuperResolution(2, channels=(4, 4, 4), kernels=(3, 3, 3, 3), **options)


def spectrum(sr: SuperResolution, waveform: Tensor) -> Tensor:
    """Complex, [B, C, F, L]."""
    return torch.complex(*sr.stft(waveform))


def refined_spectrum(sr: SuperResolution, mixture: Tensor, estimate: Tensor) -> Tensor:
    sr.stft.inverse = lambda real, imaginary, num_samples: torch.complex(real, imaginary)
    return sr(mixture, estimate)


def last_convolution(sr: SuperResolution) -> nn.Conv2d:
    return [module for module in sr.modules() if isinstance(module, nn.Conv2d)][-1]


def awake(**options) -> SuperResolution:
    """One whose output layer is not zero any more."""
    sr = small(**options)
    nn.init.normal_(last_convolution(sr).weight, std=0.1)
    return sr


EACH = [{"form": form, "target": target} for form in FORMS for target in TARGETS]


@pytest.mark.parametrize("options", [{"heuristic": False}, {"norm": "bn"}, *EACH])
def test_at_initialisation_it_returns_the_estimate(options):
    mixture, estimate = torch.rand(2, 1001) - 0.5, torch.rand(2, 1001, 2) - 0.5
    assert (small(**options)(mixture, estimate) - estimate).abs().max() < 1e-6


def test_it_changes_magnitudes_and_keeps_the_phase():
    sr = small()
    torch.nn.init.constant_(sr.layers[-1].bias, 0.5)
    mixture, estimate = torch.randn(1, 2000), torch.randn(1, 2000, 2)
    before, refined = spectrum(sr, estimate), refined_spectrum(sr, mixture, estimate)
    assert torch.allclose(refined.abs(), before.abs() + 0.5, atol=1e-3)
    assert (refined * before.conj()).angle().abs().max() < 1e-3


def test_summed_magnitude_is_never_negative():
    sr = small()
    torch.nn.init.constant_(sr.layers[-1].bias, -1e6)  # takes away more than there is
    refined = sr(torch.randn(1, 2000), torch.randn(1, 2000, 2))
    assert refined.abs().max() < 1e-4


@pytest.mark.parametrize("options", [*EACH, {"last_relu": True}])
def test_every_parameter_learns(options):
    sr = small(**options)
    optimizer = torch.optim.SGD(sr.parameters(), 0.1)
    mixture, estimate = torch.randn(2, 900), torch.randn(2, 900, 2)
    for _ in range(2):  # the output layer leaves zero first
        optimizer.zero_grad()
        (sr(mixture, estimate) - torch.randn(2, 900, 2)).square().mean().backward()
        optimizer.step()
    assert all(p.grad.abs().max() > 0 for p in sr.parameters())


@pytest.mark.parametrize("options", EACH)
def test_an_inverted_recording_is_refined_alike(options):
    mixture, estimate = torch.randn(1, 1001), torch.randn(1, 1001, 2)
    sr = awake(**options)
    refined = sr(mixture, estimate)
    assert (refined - estimate).abs().max() > 0.01
    assert torch.allclose(sr(-mixture, -estimate), -refined, atol=1e-5)


def test_a_complex_mask_adds_the_share_of_the_mixture():
    sr = small(target="complex_mask")
    sr.layers[-1].bias.data = torch.tensor([0.5, 0.0, 0.0, 0.0])  # real of both sources, imaginary
    mixture, estimate = torch.randn(1, 1000), torch.randn(1, 1000, 2)
    added = sr(mixture, estimate) - estimate
    assert torch.allclose(added[..., 0], 0.5 * mixture, atol=1e-5)
    assert added[..., 1].abs().max() < 1e-5


def test_a_complex_residual_adds_a_magnitude_in_the_mixtures_phase():
    sr = small(target="complex_residual")
    sr.layers[-1].bias.data = torch.tensor([0.0, 0.0, 0.3, 0.0])
    mixture, estimate = torch.randn(1, 1000), torch.randn(1, 1000, 2)
    added = (refined_spectrum(sr, mixture, estimate) - spectrum(sr, estimate))[0]  # [C, F, L]
    quarter_ahead = 1j * torch.exp(1j * spectrum(sr, mixture.unsqueeze(2))[0, 0].angle())
    assert torch.allclose(added[0], 0.3 * quarter_ahead, atol=1e-3)
    assert added[1].abs().max() < 1e-5


class Refining(nn.Module):
    """Super-resolution of made-up estimates, to be counted."""

    def __init__(self, **options):
        super().__init__()
        self.sr = SuperResolution(**options)

    def forward(self, mixture: Tensor) -> Tensor:
        return self.sr(mixture, torch.stack([mixture, mixture], dim=2))


@pytest.mark.parametrize(
    ("options", "giga_macs", "thousands"),
    [
        ({}, 108.39, 6667.7),  # the paper's
        ({"form": "separable"}, 2.27, 139.1),
        ({"form": "subpixel"}, 7.83, 7372.3),
        ({"channels": (32, 64, 32)}, 6.96, 425.8),
        ({"form": "separable", "target": "complex_mask"}, 2.28, 139.9),
        ({"target": "complex_residual"}, 109.10, 6711.4),
    ],
)
def test_size_and_cost_at_the_papers_kernels(options, giga_macs, thousands):
    model = Refining(**options)
    assert count_parameters(model) / 1e3 == pytest.approx(thousands, abs=0.1)
    assert macs_per_second(model, 8000) / 1e9 == pytest.approx(giga_macs, abs=0.01)


def test_names_of_the_papers_weights_stay():
    """Models trained before there were other forms are loaded."""
    names = [f"layers.{i}.{kind}" for i in (0, 3, 6, 9) for kind in ("weight", "bias")]
    assert set(names) == set(small(norm=None).state_dict())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("quotient", ["estimate_over_mixture", "mixture_over_estimate"])
def test_silence_is_finite_forwards_and_backwards(quotient, target):
    sr = awake(quotient=quotient, target=target)
    for mixture, level in (
        (torch.zeros(1, 800), 0.0),
        (torch.randn(1, 800), 0.0),
        (torch.zeros(1, 800), 1.0),
    ):
        estimate = (level * torch.randn(1, 800, 2)).requires_grad_()
        refined = sr(mixture, estimate)
        refined.square().sum().backward()
        assert refined.isfinite().all() and estimate.grad.isfinite().all()


def test_heuristic_scales_the_mixtures_high_band_by_the_share_of_the_low_band():
    mixture = torch.rand(1, 1, 9, 5) + 0.1
    estimate = torch.cat([0.25 * mixture, 0.75 * mixture], dim=1)
    guess = high_band_guess(mixture, estimate, "estimate_over_mixture")
    assert guess[:, :, :4].abs().max() == 0
    assert torch.allclose(guess[:, :, 4:], estimate[:, :, 4:])


def test_quotients_are_clamped():
    mixture, estimate = torch.full((1, 1, 4, 1), 1e-3), torch.full((1, 2, 4, 1), 9.0)
    guess = high_band_guess(mixture, estimate, "estimate_over_mixture")
    assert torch.allclose(guess[:, :, 2:], torch.tensor(MAX_QUOTIENT * 1e-3))


def test_default_quotient_guesses_the_high_band_of_real_speech_better(speech):
    """An open point of the paper, measured: dB of the true high band over the guess's error."""
    files = sorted((speech / "librispeech").glob("*/*.flac"))[:40]
    clips = [
        torch.tensor(resample_poly(soundfile.read(f)[0], 1, 2)[8000:40000]).float() for f in files
    ]
    clips = [clip / clip.std() for clip in clips if len(clip) == 32000]
    sources = torch.stack(
        [torch.stack(pair, dim=1) for pair in zip(clips[::2], clips[1::2], strict=False)]
    )
    sr = small()
    true = spectrum(sr, sources).abs()  # [B, C, F, L]
    mixture = spectrum(sr, sources.sum(2, keepdim=True)).abs()  # [B, 1, F, L]

    def quality(quotient: str) -> float:
        error = (high_band_guess(mixture, true, quotient) - true)[:, :, 64:]
        return 10 * torch.log10(true[:, :, 64:].square().sum() / error.square().sum()).item()

    assert quality("estimate_over_mixture") > 4
    assert quality("mixture_over_estimate") < 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"quotient": "sum"}, "quotient is 'sum'"),
        ({"norm": "layer"}, "norm is 'layer'"),
        ({"form": "light"}, "form is 'light'"),
        ({"target": "phase"}, "target is 'phase'"),
        ({"kernels": (3, 3)}, "one kernel more"),
    ],
)
def test_bad_options_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        SuperResolution(2, **{"channels": (4, 4, 4), "kernels": (3, 3, 3, 3), **option})


def test_norms_build_and_run():
    for norm in ("cln", "gln", "ln", "bn", None):
        assert small(norm=norm)(torch.randn(2, 300), torch.randn(2, 300, 2)).isfinite().all()


def test_channel_norm_is_speechbrains_and_keeps_the_memory_layout():
    x = torch.randn(2, 6, 5, 7).contiguous(memory_format=torch.channels_last)
    stock, ours = select_norm("cln", 6, 4), ChannelNorm(6, eps=1e-8)
    torch.nn.init.normal_(stock.weight)
    ours.load_state_dict(stock.state_dict())
    assert torch.equal(ours(x), stock(x))
    assert ours(x).is_contiguous(memory_format=torch.channels_last)
