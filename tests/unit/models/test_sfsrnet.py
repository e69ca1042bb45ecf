import pytest
import torch

from conftest import tiny_sfsrnet
from sfsrnet_modules.models.sfsrnet import SFSRNet


@pytest.mark.parametrize("num_samples", [16, 17, 1001])
def test_refined_estimate_is_appended(tiny_model, num_samples):
    mixture = torch.randn(2, num_samples)
    assert tiny_model(mixture).shape == (3, 2, num_samples, 2)
    assert tiny_model.eval()(mixture).shape == (2, 2, num_samples, 2)


def test_without_super_resolution_it_is_the_separator(tiny_model):
    mixture = torch.randn(2, 500)
    conditioned, gain = tiny_model.conditioning(mixture)
    expected = tiny_model.separator(conditioned) / gain[:, :, None]
    assert torch.equal(SFSRNet(tiny_model.separator)(mixture), expected)


def test_levelled_estimates_of_any_scale_are_the_same(tiny_model):
    model, mixture = SFSRNet(tiny_model.separator, levelled=True).eval(), torch.randn(2, 500)
    expected = model(mixture)
    rest = mixture - mixture.mean(1, keepdim=True) - expected[-1].sum(2)
    assert abs((rest * expected[-1].sum(2)).sum() / rest.square().sum()) < 0.05  # least squares
    with torch.no_grad():
        model.separator.decoder.weight *= 7.0
    assert torch.allclose(model(mixture), expected, rtol=1e-4, atol=1e-5)


def test_voices_add_up_to_the_conditioned_mixture(tiny_model):
    model, mixture = tiny_model, torch.randn(2, 500)
    model.adds_up = True
    conditioned, gain = model.conditioning(mixture)
    assert torch.allclose(model(mixture).sum(3), (conditioned / gain).expand(3, -1, -1), atol=1e-5)


def with_sr_of_its_own(mode: str) -> SFSRNet:
    """SR starts as the identity: here it does something."""
    model = tiny_sfsrnet()
    torch.nn.init.normal_(model.super_resolution.layers[-1].weight, std=0.1)
    return model.train(mode == "train")


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("offset", [0.0, 0.01, -0.5])
@pytest.mark.parametrize("level", [-1, -23, -53, -73, -120])  # dBFS
def test_neither_level_nor_offset_matters(mode, level, offset):
    if level == -120 and offset:
        pytest.skip("float32 has 24 bits: beside an offset there is nothing left of this level")
    model, mixture = with_sr_of_its_own(mode), torch.randn(2, 1003)
    mixture -= mixture.mean(1, keepdim=True)
    gain = 10 ** (level / 20)
    expected, answer = model(mixture), model(gain * mixture + offset) / gain
    assert (answer - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_silence_gives_silence(value):
    assert torch.equal(
        with_sr_of_its_own("eval")(torch.full((1, 1003), value)), torch.zeros(2, 1, 1003, 2)
    )


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_batch_of_four_equals_four_of_one(mode):
    model = with_sr_of_its_own(mode)
    levels = torch.tensor([[1.0], [0.1], [0.001], [10.0]])
    mixtures = torch.randn(4, 1003) * levels
    batch = model(mixtures)
    alone = torch.cat([model(mixture[None]) for mixture in mixtures], dim=1)
    peaks = batch.abs().amax((0, 2, 3))  # [B]
    assert ((batch - alone).abs().amax((0, 2, 3)) < 1e-5 * peaks).all()


def test_three_speakers():
    assert tiny_sfsrnet(num_spks=3)(torch.randn(2, 700)).shape == (3, 2, 700, 3)


@pytest.mark.parametrize("options", [{}, {"shared_head": True}])
def test_early_exit_gives_that_blocks_estimate_and_computes_no_more(options):
    model = tiny_sfsrnet(**options)
    mixture = torch.randn(2, 500)
    every = model(mixture, all_estimates=True)  # blocks 1 and 2, refined
    met = []
    model.eval().separator.masknet.dual_mdl[1].inter_mdl.register_forward_hook(
        lambda *_: met.append("block 2")
    )
    first = model(mixture, block=1)
    assert met == [] and first.shape == (1, 2, 500, 2)
    assert torch.allclose(first[0], every[0], atol=1e-6)
    before_sr = model(mixture, block=2)
    assert met == ["block 2"] and torch.allclose(before_sr[0], every[1], atol=1e-6)


def test_block_without_an_estimate_is_refused():
    with pytest.raises(ValueError, match=r"no estimate after block 3.*\[1, 2\]"):
        tiny_sfsrnet()(torch.randn(1, 500), block=3)
    with pytest.raises(ValueError, match=r"no estimate after block 1.*\[2\]"):
        tiny_sfsrnet(every_block=False)(torch.randn(1, 500), block=1)
