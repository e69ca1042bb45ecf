import pytest
import torch
from speechbrain.lobes.models.dual_path import (
    Decoder,
    Dual_Path_Model,
    Encoder,
    SBRNNBlock,
    SepformerWrapper,
)

from conftest import tiny_sfsrnet
from sfsrnet_modules.dual_path import DualPathSeparator


def stock_sepformer() -> SepformerWrapper:
    return SepformerWrapper(
        encoder_out_nchannels=16,
        masknet_chunksize=20,
        masknet_numlayers=3,
        intra_numlayers=2,
        inter_numlayers=2,
        intra_nhead=2,
        inter_nhead=2,
        intra_dffn=32,
        inter_dffn=32,
    ).double()


def wrapped(stock: SepformerWrapper, **options) -> DualPathSeparator:
    return DualPathSeparator(stock.encoder, stock.masknet, stock.decoder, **options)


@pytest.mark.parametrize("num_samples", [16, 17, 1000, 4003])
def test_last_estimate_equals_stock_forward_on_stock_weights(num_samples):
    stock = stock_sepformer()
    separator = wrapped(stock_sepformer(), head="gated", shared_head=True)
    separator.load_state_dict(stock.state_dict())  # strict: the very same keys
    mixture = torch.randn(2, num_samples, dtype=torch.float64)
    difference = separator.eval()(mixture)[-1] - stock.eval()(mixture)  # no dropout
    assert difference.abs().max() < 1e-10


def test_stock_weights_leave_only_the_early_heads_missing():
    separator = wrapped(stock_sepformer(), head="gated")
    missing, unexpected = separator.load_state_dict(stock_sepformer().state_dict(), strict=False)
    assert unexpected == []
    assert missing and all(key.startswith("early_heads.") for key in missing)


def test_wrapping_keeps_trained_weights():
    stock = stock_sepformer()
    for parameter in stock.parameters():  # as training would: no two alike
        torch.nn.init.normal_(parameter, std=0.1)
    before = {name: value.clone() for name, value in stock.state_dict().items()}
    separator = wrapped(stock, head="gated")
    after = separator.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_blocks_do_not_start_as_copies_of_each_other():
    separator = tiny_sfsrnet().separator
    matrices = [p for p in separator.masknet.dual_mdl.parameters() if p.dim() > 1]
    alike = [
        (p.shape == q.shape and torch.equal(p, q)) for p in matrices for q in matrices if p is not q
    ]
    assert len(matrices) > 10 and not any(alike)


@pytest.mark.parametrize("head", ["linear", "gated"])
@pytest.mark.parametrize("shared_head", [False, True])
def test_an_estimate_a_block_in_training_and_the_last_alone_in_evaluation(head, shared_head):
    separator = tiny_sfsrnet(head=head, shared_head=shared_head).separator
    mixture = torch.randn(3, 203)
    training = separator(mixture)
    assert training.shape == (2, 3, 203, 2)
    separator.eval()
    assert torch.allclose(separator(mixture), training[-1:], atol=1e-6)
    assert torch.allclose(separator(mixture, all_estimates=True), training, atol=1e-6)


def test_shared_head_is_one_head():
    assert len(tiny_sfsrnet(shared_head=True).separator.early_heads) == 0
    assert len(tiny_sfsrnet().separator.early_heads) == 1


def test_every_block_off_gives_one_estimate():
    separator = tiny_sfsrnet(every_block=False).separator
    assert separator(torch.randn(1, 200)).shape[0] == 1
    assert separator.num_estimates == 1


@pytest.mark.parametrize(
    "options", [{}, {"head": "gated"}, {"shared_head": True}, {"every_block": False}]
)
def test_every_parameter_gets_a_gradient(options):
    model = tiny_sfsrnet(**options)
    for _ in range(2):  # SR's zero output layer lets none through to its inner layers at first
        model.zero_grad()
        model(torch.randn(2, 400)).square().sum().backward()
        with torch.no_grad():
            for parameter in model.super_resolution.parameters():
                parameter -= 1e-3 * parameter.grad
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # keys shift all scores of a query alike, which softmax ignores: the rest of in_proj_bias counts
    assert missing == []


def test_more_chunks_than_the_stock_table_of_positions():
    stock = stock_sepformer().float()
    separator = wrapped(stock, head="gated").eval()
    num_chunks = 2600
    with torch.inference_mode():
        estimates = separator(torch.randn(1, num_chunks * 10 * 8))
    assert estimates.isfinite().all()


def test_dprnn_keeps_the_contract():
    rnn, rnn2 = SBRNNBlock(8, 8, 1), SBRNNBlock(8, 8, 1)
    masknet = Dual_Path_Model(8, 8, rnn, rnn2, num_layers=2, norm="gln", K=20)
    decoder = Decoder(in_channels=8, out_channels=1, kernel_size=2, stride=1, bias=False)
    separator = DualPathSeparator(Encoder(2, 8), masknet, decoder, head="gated")
    assert separator(torch.randn(2, 301)).shape == (2, 2, 301, 2)


def test_unknown_head_is_refused():
    with pytest.raises(ValueError, match="head is 'conv'"):
        wrapped(stock_sepformer(), head="conv")
