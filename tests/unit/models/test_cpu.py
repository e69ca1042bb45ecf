import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from sfsrnet_modules.models import cpu
from sfsrnet_modules.models.cpu import Conv2d, linear


class Operations(TorchDispatchMode):
    """Names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.__name__)
        return function(*args, **(kwargs or {}))


def layer(*shape: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """x of `shape`, a weight and a bias."""
    tensors = torch.randn(shape), torch.randn(6, shape[-1]), torch.randn(6)
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("shape", [(7, 16), (5, 7, 16), (2, 5, 7, 16)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_output_and_gradients_are_those_of_pytorch(shape, with_bias):
    x, weight, bias = layer(*shape)
    inputs = [x, weight, bias] if with_bias else [x, weight]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    ours, expected = linear(*inputs), F.linear(*exact)
    towards = torch.randn_like(ours)
    ours.backward(towards)
    expected.backward(towards.double())
    assert (ours - expected).abs().max() < 1e-4
    assert all((a.grad - b.grad).abs().max() < 1e-4 for a, b in zip(inputs, exact, strict=True))


def test_transposed_input_and_frozen_weight():
    x, weight, bias = layer(16, 5, 7)
    x = x.detach().transpose(0, 2).requires_grad_()  # [7, 5, 16]
    weight = weight[:, :1].expand(6, 16).detach()
    ours, expected = linear(x, weight, bias), F.linear(x, weight, bias)
    assert (ours - expected).abs().max() < 1e-4
    ours.sum().backward()
    assert torch.allclose(x.grad, weight.sum(0).expand_as(x), atol=1e-4)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
def test_onednn_runs_in_float32_alone():
    for dtype, wanted in ((torch.float32, True), (torch.float64, False)):
        with Operations() as operations:
            linear(*layer(5, 16, dtype=dtype))
        assert ("_linear_pointwise.default" in operations.names) is wanted


def test_mixed_precision_is_left_to_pytorch():
    x, weight, bias = layer(5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))


def test_traced_models_hold_pytorchs_own_operation():
    traced = torch.jit.trace(linear, [tensor.detach() for tensor in layer(5, 16)])
    assert "mkldnn" not in str(traced.graph)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("with_bias", [True, False])
def test_convolution_and_its_gradients_are_those_of_pytorch(layout, with_bias, monkeypatch):
    monkeypatch.setattr(cpu, "_has_no_avx512", lambda: True)
    conv = Conv2d(6, 4, 3, padding=1, bias=with_bias)
    x = torch.randn(2, 6, 9, 7).contiguous(memory_format=layout).requires_grad_()
    exact = x.detach().double().requires_grad_()
    weights = [parameter.detach().double().requires_grad_() for parameter in conv.parameters()]
    ours, expected = conv(x), F.conv2d(exact, *weights, padding=1)
    towards = torch.randn_like(ours)
    ours.backward(towards)
    expected.backward(towards.double())
    assert (ours - expected).abs().max() < 1e-4
    gradients = zip([x, *conv.parameters()], [exact, *weights], strict=True)
    assert all((a.grad - b.grad).abs().max() < 1e-4 for a, b in gradients)


def test_convolution_stays_the_compilers_to_see():
    conv = Conv2d(3, 4, 3, padding=1)
    compiled = torch.compile(conv, backend="eager", fullgraph=True)
    x = torch.randn(1, 3, 5, 7)
    assert torch.allclose(compiled(x), conv(x), atol=1e-6)


def test_slices_give_what_the_whole_does(monkeypatch):
    monkeypatch.setattr(cpu, "SLICE", 30)
    x = torch.randn(7, 3, 4, requires_grad=True)
    assert torch.equal(cpu.in_slices(lambda rows: 2 * rows, x), 2 * x)
    (sliced,) = torch.autograd.grad(cpu.in_slices(torch.sin, x).sum(), x)
    assert torch.equal(sliced, x.detach().cos())
