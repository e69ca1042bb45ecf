import pytest
import torch
from speechbrain.lobes.models.dual_path import Decoder, Encoder

from sfsrnet_modules.models.filterbank import begin_as_sines, windowed_sines


def test_decoding_gives_back_what_was_encoded_under_the_windows():
    encoder, decoder = Encoder(32, 128), Decoder(128, 1, 32, stride=16, bias=False)
    begin_as_sines(encoder, decoder)
    mixture = torch.randn(1, 800)
    factors = (decoder(encoder(mixture)) / mixture)[0, 32:-32].unflatten(0, (-1, 16))
    assert torch.allclose(factors, factors[:1].expand_as(factors), rtol=1e-3)  # as frames repeat


def test_filters_pass_their_frequency():
    filters = windowed_sines(64, 64)  # [N, K]
    loudest = torch.fft.rfft(filters, 1024).abs().argmax(1)[:16]  # of the cosines
    expected = (torch.arange(16) + 0.5) * 512 / 16
    assert torch.allclose(loudest[1:-1].float(), expected[1:-1], atol=2)  # the ends meet mirrors


def test_every_filter_has_its_negative_as_the_encoder_drops_what_is_below_zero():
    filters = windowed_sines(16, 20)
    assert torch.equal(filters[:8], -filters[8:])


def test_they_are_as_strong_as_the_noise_that_pytorch_draws():
    torch.manual_seed(0)
    drawn = Encoder(64, 256).conv1d.weight.norm(dim=2).mean()
    assert windowed_sines(256, 64).norm(dim=1).mean() == pytest.approx(drawn.item(), rel=0.02)


def test_number_of_filters_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"10 filters.*multiple of 4.*--filterbank noise"):
        windowed_sines(10, 16)
