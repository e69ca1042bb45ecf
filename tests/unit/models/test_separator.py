import pytest
import torch
from speechbrain.lobes.models.conv_tasnet import MaskNet
from speechbrain.lobes.models.dual_path import Decoder, Encoder

from sfsrnet_modules.models.filterbank import windowed_sines
from sfsrnet_modules.models.separator import MaskSeparator


@pytest.fixture
def conv_tasnet() -> MaskSeparator:
    encoder, masknet = Encoder(16, 8), MaskNet(8, 8, 16, 3, 1, 1, C=3)
    decoder = Decoder(in_channels=8, out_channels=1, kernel_size=16, stride=8, bias=False)
    return MaskSeparator(encoder, masknet, decoder)


@pytest.mark.parametrize("num_samples", [24, 25, 31, 801])
def test_estimates_are_as_long_as_the_mixture(conv_tasnet, num_samples):
    assert conv_tasnet(torch.randn(2, num_samples)).shape == (1, 2, num_samples, 3)


def test_mask_of_ones_decodes_the_mixture_for_every_source(conv_tasnet):
    conv_tasnet.masks = lambda frames, *_: [torch.ones(1, 3, *frames.shape[1:])]
    mixture = torch.randn(1, 160)
    decoded = conv_tasnet.decoder(conv_tasnet.encoder(mixture))  # [1, T]
    assert torch.allclose(
        conv_tasnet(mixture)[0], decoded.unsqueeze(2).expand(-1, -1, 3), atol=1e-6
    )


def test_decoding_stays_float32_under_autocast(conv_tasnet):
    with torch.autocast("cpu", torch.bfloat16):
        assert conv_tasnet(torch.randn(2, 400)).dtype == torch.float32


def test_mixture_shorter_than_a_frame_is_refused(conv_tasnet):
    with pytest.raises(ValueError, match=r"has 15 samples.*at least 16.*pad"):
        conv_tasnet(torch.randn(1, 15))


def test_mixture_without_a_batch_axis_is_refused(conv_tasnet):
    with pytest.raises(ValueError, match=r"shape \(800,\)"):
        conv_tasnet(torch.randn(800))


def test_filterbank_begins_as_sines_where_asked_for():
    parts = MaskNet(8, 8, 16, 3, 1, 1, C=2), Decoder(8, 1, 16, stride=8, bias=False)
    separator = MaskSeparator(Encoder(16, 8), *parts, filterbank="sines")
    sines = windowed_sines(8, 16)  # [N, K]
    assert torch.equal(separator.encoder.conv1d.weight[:, 0], sines)
    assert torch.equal(separator.decoder.weight[:, 0], sines)


def test_unknown_filterbank_is_refused():
    parts = MaskNet(8, 8, 16, 3, 1, 1, C=2), Decoder(8, 1, 16, stride=8, bias=False)
    with pytest.raises(ValueError, match=r"'stft'.*'noise'.*'sines'"):
        MaskSeparator(Encoder(16, 8), *parts, filterbank="stft")


@pytest.mark.parametrize("bias", [True, False])
def test_decoding_all_estimates_at_once_is_the_decoders_own_work(bias):
    parts = MaskNet(8, 8, 16, 3, 1, 1, C=2), Decoder(8, 1, 16, stride=8, bias=bias)
    separator = MaskSeparator(Encoder(16, 8), *parts).double()
    frames = torch.randn(3, 8, 20, dtype=torch.float64)  # [B, N, L]
    masks = [torch.rand(3, 2, 8, 20, dtype=torch.float64) for _ in range(4)]
    estimates = separator._decode(frames, masks, 170)  # [E, B, T, C]
    for estimate, mask in zip(estimates, masks, strict=True):
        for source in range(2):
            expected = separator.decoder(frames * mask[:, source])  # [B, T]
            assert torch.allclose(estimate[:, :168, source], expected, atol=1e-12)
