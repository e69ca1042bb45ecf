"""Matrix products of linear layers, on a CPU by the quicker of PyTorch's two libraries.

In float32 PyTorch takes MKL, which on AMD's processors reaches about half the rate of oneDNN, the
library of its convolutions. B, C, ... any leading axes, N channels in, M channels out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what ``torch.nn.functional.linear`` does, by oneDNN where that is quicker.

    That is in float32 on a CPU. What follows the computation to write it down elsewhere
    (``torch.export``, ``torch.jit.trace``, ``torch.compile``) meets PyTorch's own operation.

    Arguments
    ---------
    x : torch.Tensor
        [..., N].
    weight : torch.Tensor
        [M, N].
    bias : torch.Tensor, optional
        [M].

    Returns
    -------
    torch.Tensor
        [..., M].

    Example
    -------
    >>> x, weight = torch.randn(5, 3, 8), torch.randn(2, 8)
    >>> torch.allclose(linear(x, weight), x @ weight.T, atol=1e-5)
    True
    """
    if not _onednn_fits(x, weight):
        return F.linear(x, weight, bias)
    rows = _OneDNNLinear.apply(x.flatten(0, -2), weight, bias)  # [rows, M]
    return rows.unflatten(0, x.shape[:-1])  # [..., M]


def _onednn_fits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply `x` [rows, N] by `weight` [M, N], transposed."""
    # the operation that torch.compile puts in place of linear layers on a CPU; it has no gradient
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _OneDNNLinear(torch.autograd.Function):
    """The product and its two gradients, all three by oneDNN."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)  # [rows, M]

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.T) if for_x else None,  # [rows, N]
            _product(gradient.T, x.T) if for_weight else None,  # [M, N]
            gradient.sum(0) if for_bias else None,  # [M]
        )
