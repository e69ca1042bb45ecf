import numpy as np
import pytest
import torch

from sfsrnet_modules.evaluation import spectrograms
from sfsrnet_modules.evaluation.spectrograms import draw_grid, spectrogram, spectrogram_of_blocks


def test_a_tone_lies_in_its_bin():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 8000)
    bins = spectrogram(tone, 8000)[:, 5:-5]  # [F, L]
    assert set(bins.argmax(0).tolist()) == {32}  # of 31.25 Hz each
    assert (bins[32] - bins[64]).min() > 60  # dB


@pytest.mark.parametrize("num_samples", [1, 100, 64, 8000, 20_001, 200_000])
def test_columns_cover_the_recording_and_are_never_more_than_a_picture_holds(num_samples):
    columns = spectrogram(torch.randn(num_samples), 8000).shape[1]
    hop = 64 * -(-num_samples // (64 * spectrograms.MAX_COLUMNS))
    assert columns == -(-num_samples // hop) <= spectrograms.MAX_COLUMNS


@pytest.mark.parametrize("max_columns", [10, 1500])
def test_blocks_give_the_picture_of_the_whole(max_columns, monkeypatch):
    monkeypatch.setattr(spectrograms, "MAX_COLUMNS", max_columns)
    whole = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    blocks = np.split(whole, [3, 500, 9000])
    expected = spectrogram(torch.from_numpy(whole), 8000)
    assert torch.allclose(spectrogram_of_blocks(blocks, 20_000, 8000), expected)


def test_silence_is_drawn_as_well(tmp_path):
    silence = spectrogram(torch.zeros(4000), 8000)
    voices = [silence, spectrogram(torch.randn(4000), 8000)]
    draw_grid({"mixture": [silence], "voice": voices}, 0.5, 8000, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
