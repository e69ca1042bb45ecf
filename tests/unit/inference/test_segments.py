import pytest
import torch

from sfsrnet_modules.inference.heard import HeardVoices
from sfsrnet_modules.inference.segments import cross_fade, cut, separate_segments
from tests.oracle import Oracle

SIZE, OVERLAP = 4000, 800


def separated(oracle: Oracle, block: int = 777) -> torch.Tensor:
    blocks = oracle.mixture.split(block)
    return torch.cat(list(separate_segments(oracle, blocks, 8000, SIZE, OVERLAP)))


@pytest.mark.parametrize("num_samples", [1, 500, 4000, 4001, 7200, 7201, 20_000])
@pytest.mark.parametrize("block", [100, 4500, 50_000])
def test_segments_cover_the_stream_and_are_as_long_as_can_be(num_samples, block):
    end = 0
    for segment, start in cut(torch.arange(num_samples).split(block), SIZE, OVERLAP):
        assert len(segment) == min(SIZE, num_samples)
        assert torch.equal(segment, torch.arange(segment[0], segment[0] + len(segment)))
        assert segment[0] + start == max(0, end - OVERLAP)
        end = segment[-1] + 1
    assert end == num_samples


@pytest.mark.parametrize("num_samples", [16, 500, 4000, 4001, 7300, 20_000])
def test_a_perfect_separator_is_restored_in_order_level_and_length(num_samples):
    sources = torch.randn(num_samples, 2) * torch.tensor([0.1, 0.2])
    voices = separated(Oracle(sources, SIZE, OVERLAP, scales=(-3.0, 0.2)))
    assert voices.shape == sources.shape
    voices = voices if (voices - sources).norm() < sources.norm() else voices.flip(1)
    change = 20 * (voices.norm(dim=0) / sources.norm(dim=0)).log10()  # dB
    assert change.abs().max() < 0.1 and (voices - sources).abs().max() < 1e-3


def test_an_output_that_is_always_softer_holds_a_voice_all_the_same():
    sources = torch.randn(20_000, 2) * torch.tensor([0.1, 0.2])
    oracle, heard = Oracle(sources, SIZE, OVERLAP), HeardVoices(8000)  # in an order of its own

    def separate(mixture):
        return oracle(mixture) * torch.tensor([5.0, 0.2])  # -28 dB

    blocks = oracle.mixture.split(777)
    voices = torch.cat(list(separate_segments(separate, blocks, 8000, SIZE, OVERLAP, heard)))
    voices = voices if (voices - sources).norm() < sources.norm() else voices.flip(1)
    assert (voices - sources).abs().max() < 1e-3 and heard.which().all()


def test_silence_stays_silence():
    assert separated(Oracle(torch.zeros(9000, 2), SIZE, OVERLAP)).abs().max() == 0


def test_nothing_gives_nothing():
    assert list(separate_segments(None, [], 8000, SIZE, OVERLAP)) == []


def test_blocks_come_as_soon_as_a_segment_is_there():
    sources = torch.randn(20_000, 2)
    oracle, read = Oracle(sources, SIZE, OVERLAP), []
    blocks = (read.append(1) or block for block in oracle.mixture.split(1000))
    first = next(separate_segments(oracle, blocks, 8000, SIZE, OVERLAP))
    assert len(first) == SIZE - OVERLAP and len(read) == 5


def test_cross_fade_is_smooth_and_keeps_what_both_agree_on():
    ones = torch.ones(100, 2)
    assert torch.allclose(cross_fade(ones, ones), ones)
    fade = cross_fade(torch.zeros(100, 2), ones)[:, 0]
    assert (
        fade[0] < 0.01 and fade[-1] > 0.99 and (fade.diff() > 0).all() and fade.diff().max() < 0.02
    )


def test_segments_that_differ_meet_without_a_step():
    offsets = iter([0.0, 0.1])

    def separate(mixture):
        return torch.stack([mixture + next(offsets), torch.zeros(len(mixture))], dim=1)

    mixture = 10 * torch.randn(7200)
    voices = torch.cat(list(separate_segments(separate, [mixture], 8000, SIZE, OVERLAP)))
    error = voices[:, 0] - mixture
    assert error[:3000].abs().max() < 0.03 and (error[-3000:] - 0.1).abs().max() < 0.03
    assert error.diff().abs().max() < 0.01
