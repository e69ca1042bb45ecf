import torch

from sfsrnet_modules.common.precision import in_float32


@in_float32
def product(x: torch.Tensor, others: list[torch.Tensor]) -> torch.Tensor:
    return x @ others[0]


def test_float32_within_mixed_precision():
    x = torch.randn(3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(product(x, [x]), product(x, [x]).float())
        narrow = product(x.bfloat16(), [x.bfloat16()])
    assert torch.equal(narrow, x.bfloat16().float() @ x.bfloat16().float())


def test_float64_stays():
    x = torch.randn(3, 3, dtype=torch.float64)
    assert product(x, [x]).dtype == torch.float64
