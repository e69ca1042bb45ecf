import pytest
import torch
from speechbrain.lobes.models.dual_path import (
    Decoder,
    Dual_Path_Model,
    Encoder,
    SBRNNBlock,
    SepformerWrapper,
    select_norm,
)

from conftest import tiny_sfsrnet
from sfsrnet_modules.models import cpu
from sfsrnet_modules.models.dual_path import DualPathSeparator, chunk, norm_chunks, overlap_add
from sfsrnet_modules.models.transformer import ConvTransformer, ConvTransformerLayer


def stock_sepformer(**options) -> SepformerWrapper:
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
        **options,
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


def plain(layer: ConvTransformerLayer, x: torch.Tensor) -> torch.Tensor:
    """SFSRNet's layer written down from PyTorch's own parts."""
    rows = layer.norm1(x).flatten(0, 1)
    x = x + layer.attention(rows, rows, rows)[0].view_as(x)
    ffn = layer.feed_forward
    hidden = torch.relu(ffn.linear(layer.norm2(x)))
    return x + ffn.conv(hidden.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)


def gradients(model: torch.nn.Module, output: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    output.square().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("norm_before", [True, False])
@pytest.mark.parametrize("rows_in_slice", [3, 1000])
def test_gradients_equal_those_of_the_stock_model(norm_before, rows_in_slice, monkeypatch):
    monkeypatch.setattr(cpu, "SLICE", rows_in_slice * 20 * 16)
    options = {"intra_norm_before": norm_before, "inter_norm_before": norm_before}
    stock, other = stock_sepformer(**options), stock_sepformer(**options)
    separator = wrapped(other, head="gated", every_block=False)
    separator.load_state_dict(stock.state_dict())
    for module in (*stock.modules(), *separator.modules()):
        if isinstance(module, torch.nn.Dropout | torch.nn.MultiheadAttention):
            setattr(module, "p" if isinstance(module, torch.nn.Dropout) else "dropout", 0.0)
    mixture = torch.randn(2, 1000, dtype=torch.float64)
    ours, theirs = separator.train()(mixture)[-1], stock.train()(mixture)
    assert (ours - theirs).abs().max() < 1e-10
    wanted = gradients(stock, theirs)
    got = gradients(separator, ours)
    assert got.keys() == wanted.keys()
    assert max((got[name] - wanted[name]).abs().max() for name in wanted) < 1e-9


@pytest.mark.parametrize("rows_in_slice", [2, 1000])
def test_convolutional_layer_equals_its_plain_form(rows_in_slice, monkeypatch):
    monkeypatch.setattr(cpu, "SLICE", rows_in_slice * 7 * 16)
    layer = ConvTransformerLayer(16, 2, 32, 3).double()
    x = torch.randn(3, 5, 7, 16, dtype=torch.float64)
    ours, theirs = layer(x), plain(layer, x)
    assert (ours - theirs).abs().max() < 1e-10
    wanted, got = gradients(layer, theirs), gradients(layer, ours)
    assert max((got[name] - wanted[name]).abs().max() for name in wanted) < 1e-9


@pytest.mark.parametrize(("length", "size"), [(1, 4), (7, 4), (8, 4), (61, 20), (40, 5)])
def test_chunks_are_the_stock_ones(length, size):
    stock = stock_sepformer().masknet
    x = torch.randn(2, 3, length)
    expected, gap = stock._Segmentation(x, size)  # [B, N, K, S]
    chunks = chunk(x.mT, size)  # [B, S, K, N]
    assert torch.equal(chunks.permute(0, 3, 2, 1), expected)
    assert torch.allclose(overlap_add(chunks, length).mT, stock._over_add(expected, gap))


@pytest.mark.parametrize("options", [{}, {"head": "gated", "shared_head": True}])
def test_checkpointing_gives_the_same_gradients(options):
    separator = tiny_sfsrnet(**options).separator.double()
    mixture = torch.randn(2, 400, dtype=torch.float64)
    wanted = gradients(separator, separator(mixture))
    separator.checkpointing = True
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        estimates = separator(mixture)
    got = gradients(separator, estimates)
    assert max((got[name] - wanted[name]).abs().max() for name in wanted) < 1e-12
    assert len(kept) < 60  # without it: 200


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


@pytest.mark.parametrize("head", ["linear", "gated"])
def test_encoder_may_have_other_filters_than_the_blocks_have_channels(head):
    transformer = ConvTransformer(1, 8, 2, 16)
    masknet = Dual_Path_Model(
        24,
        8,
        transformer,
        transformer,
        num_layers=2,
        K=20,
        linear_layer_after_inter_intra=False,
    )
    decoder = Decoder(in_channels=24, out_channels=1, kernel_size=16, stride=8, bias=False)
    separator = DualPathSeparator(Encoder(16, 24), masknet, decoder, head)
    assert separator(torch.randn(3, 203)).shape == (2, 3, 203, 2)
    masks = separator.masks(torch.rand(3, 24, 25), all_estimates=True)
    assert [mask.shape for mask in masks] == 2 * [(3, 2, 24, 25)]


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
                parameter -= 1e-6 * parameter.grad  # small: no bin may be cut to zero
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


@pytest.mark.parametrize("kind", ["ln", "gln"])
def test_norms_of_chunks_are_speechbrains(kind):
    norm = select_norm(kind, 6, 4).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 5, 7, 6, dtype=torch.float64, requires_grad=True)  # [B, R, L, N]
    ours = norm_chunks(norm, x)
    expected = norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert torch.allclose(ours, expected, atol=1e-12)
    towards = torch.randn_like(ours)
    gradients = [torch.autograd.grad(y, x, towards)[0] for y in (ours, expected)]
    assert torch.allclose(*gradients, atol=1e-10)
