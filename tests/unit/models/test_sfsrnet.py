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
    expected = tiny_model.separator(mixture)
    assert torch.equal(SFSRNet(tiny_model.separator)(mixture), expected)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_batch_of_four_equals_four_of_one(mode):
    model = tiny_sfsrnet()
    torch.nn.init.normal_(model.super_resolution.layers[-1].weight, std=0.1)
    model.train(mode == "train")
    mixtures = torch.randn(4, 1003)
    batch = model(mixtures)
    alone = torch.cat([model(mixture[None]) for mixture in mixtures], dim=1)
    assert (batch - alone).abs().max() < 1e-5 * batch.abs().max()


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
