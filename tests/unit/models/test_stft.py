import pytest
import torch

from sfsrnet_modules.models.stft import STFT, add_frames, cut_frames


@pytest.mark.parametrize("num_samples", [16, 63, 129, 1000, 8001])
def test_round_trip(num_samples):
    stft, waveform = STFT(256, 64), torch.rand(2, num_samples, 2) - 0.5
    assert (stft.inverse(*stft(waveform), num_samples) - waveform).abs().max() < 1e-6


@pytest.mark.parametrize(("n_fft", "hop", "num_samples"), [(256, 64, 3001), (96, 48, 480)])
def test_it_is_pytorchs(n_fft, hop, num_samples):
    stft = STFT(n_fft, hop)
    waveform = torch.randn(1, num_samples, 2)
    expected = torch.stft(
        waveform[0].mT,
        n_fft,
        hop,
        window=torch.hann_window(n_fft),
        pad_mode="constant",
        return_complex=True,
    )
    assert torch.allclose(torch.complex(*stft(waveform))[0], expected, atol=1e-4)
    changed = expected * torch.rand(expected.shape)
    waveform = torch.istft(changed, n_fft, hop, window=torch.hann_window(n_fft))
    ours = stft.inverse(changed[None].real, changed[None].imag, waveform.shape[1])[0].mT
    assert torch.allclose(ours, waveform, atol=1e-5)


@pytest.mark.parametrize("hop", [4, 8, 5])
def test_overlap_add_is_the_transposed_convolution_and_its_gradients(hop):
    frames = torch.randn(3, 7, 16, dtype=torch.float64, requires_grad=True)  # [.., L, K]
    identity = torch.eye(16, dtype=torch.float64).unsqueeze(1)
    expected = torch.nn.functional.conv_transpose1d(frames.mT, identity, stride=hop)[:, 0]
    ours = add_frames(frames, hop)
    assert torch.allclose(ours, expected, atol=1e-12)
    towards = torch.randn_like(ours)
    gradients = [torch.autograd.grad(y, frames, towards)[0] for y in (ours, expected)]
    assert torch.allclose(*gradients, atol=1e-12)


def test_frames_that_are_cut_and_added_cover_each_sample_twice():
    x = torch.randn(2, 40)
    added = add_frames(cut_frames(x, 8, 4), 4)
    assert torch.allclose(added[:, 4:-4], 2 * x[:, 4:-4])


@pytest.mark.parametrize(("n_fft", "hop"), [(256, 100), (255, 51), (64, 64)])
def test_frames_that_are_no_whole_hops_are_refused(n_fft, hop):
    with pytest.raises(ValueError, match=f"n_fft is {n_fft} and hop {hop}"):
        STFT(n_fft, hop)
