import pytest
import torch
from speechbrain.lobes.models.transformer.Transformer import PositionalEncoding
from torch.nn.functional import scaled_dot_product_attention

from sfsrnet_modules.models import cpu, transformer
from sfsrnet_modules.models.transformer import (
    ConvFeedForward,
    ConvTransformer,
    LongPositionalEncoding,
)


def test_positions_beyond_the_table_follow_the_same_formula():
    expected = PositionalEncoding(8, max_len=3000)(torch.zeros(1, 3000, 8))
    encoding = LongPositionalEncoding(8)
    assert torch.equal(encoding(torch.zeros(1, 3000, 8)), expected)
    assert torch.equal(encoding(torch.zeros(1, 2500, 8)), expected[:, :2500])


def test_positions_beyond_the_table_are_made_once():
    encoding = LongPositionalEncoding(8)
    first = encoding(torch.zeros(1, 3000, 8))
    assert encoding(torch.zeros(1, 2900, 8)).data_ptr() == first.data_ptr()


def test_table_of_positions_is_in_the_state_dict_only_where_stock_weights_have_it():
    assert "pe" in LongPositionalEncoding(8).state_dict()
    assert not any("pe" in key for key in ConvTransformer(1, 8, 2, 16).state_dict())


def test_convolution_reaches_neighbours_in_row_and_position_and_never_another_item():
    x = torch.randn(3, 6, 7, 4)
    feed_forward = ConvFeedForward(4, 8, 3)
    changed = x.clone()
    changed[1, 2, 3] += 1
    touched = (feed_forward(changed) - feed_forward(x)).abs().amax(3) > 1e-7  # [B, R, L]
    expected = torch.zeros_like(touched)
    expected[1, 1:4, 2:5] = True
    assert torch.equal(touched, expected)


def test_attention_runs_along_the_rows():
    transformer = ConvTransformer(
        1, 8, 2, 16, kernel_size=1
    ).eval()  # kernel 1: attention alone mixes
    x = torch.randn(1, 4, 5, 8)
    changed = x.clone()
    changed[0, 2, 0, 0] += 1
    touched = (transformer(changed) - transformer(x)).abs().amax((2, 3)) > 1e-7  # [B, R]
    assert touched.tolist() == [[False, False, True, False]]


def test_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel_size is 4"):
        ConvFeedForward(4, 8, 4)


def test_attention_written_out_equals_the_fused_one():
    query, key, value = torch.randn(3, 2, 4, 7, 8, dtype=torch.float64)
    expected = scaled_dot_product_attention(query, key, value)
    ours = cpu._plain_attention(query, key, value, dropout_p=0.0)
    assert (ours - expected).abs().max() < 1e-12


def test_bfloat16_attention_is_near_that_of_float32():
    attention = torch.nn.MultiheadAttention(16, 2, batch_first=True)
    x = torch.randn(3, 20, 16)
    expected = transformer.self_attention(attention, x)
    with torch.autocast("cpu", torch.bfloat16):
        ours = transformer.self_attention(attention, x)
    assert ours.dtype == torch.bfloat16
    assert (ours - expected).norm() < 0.01 * expected.norm()
