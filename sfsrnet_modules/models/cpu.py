"""What a CPU computes quicker in another way than PyTorch's own: the same results, nothing else.

Models call these functions as they would PyTorch's. On other devices, and where the computation is
followed to be written down elsewhere (``torch.export``, ``torch.jit.trace``, ``torch.compile``),
they are PyTorch's own operations.
B, C, ... any leading axes, N channels in, M channels out; R rows of L positions, H heads of D
channels.
"""

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import dropout, scaled_dot_product_attention

# Values that are worked on at a time: with what a layer makes of them, about the cache.
SLICE = 2**20
# Positions in a row up to which attention is quicker written out than by the fused kernel.
SHORT_ROW = {torch.bfloat16: 256, torch.float32: 64}


def _runs_here(x: Tensor) -> bool:
    """Whether `x` is computed on a CPU, now."""
    followed = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return x.device.type == "cpu" and not followed


def _onednn_fits(x: Tensor, weight: Tensor) -> bool:
    """Whether it is float32 on a CPU, which PyTorch has oneDNN for but does not always take."""
    return (
        _runs_here(x)
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )


# --- Matrix products ------------------------------------------------------------------------------


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what ``torch.nn.functional.linear`` does, in float32 by oneDNN.

    PyTorch takes MKL, which on AMD's processors reaches about half the rate of oneDNN, the library
    of its convolutions.

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
    return _OneDNNLinear.apply(x, weight, bias)  # [..., M]


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply `x` [..., N] by `weight` [M, N], transposed."""
    # the operation that torch.compile puts in place of linear layers on a CPU; it has no gradient
    rows = torch.ops.mkldnn._linear_pointwise(x.flatten(0, -2), weight, bias, "none", [], "")
    # not marked as a view, which could not be changed in place
    return torch.ops.aten._unsafe_view(rows, [*x.shape[:-1], len(weight)])  # [..., M]


class _OneDNNLinear(torch.autograd.Function):
    """The product and its gradients; that of the weight, a sum over many rows, is MKL's."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)  # [..., M]

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)  # [rows, M]
        return (
            _product(gradient, weight.T) if for_x else None,  # [..., N]
            rows.T @ x.flatten(0, -2) if for_weight else None,  # [M, N]
            rows.sum(0) if for_bias else None,  # [M]
        )


# --- Convolutions ---------------------------------------------------------------------------------


class Conv2d(nn.Conv2d):
    """PyTorch's, for maps [B, N, F, L] whose channels come last in memory.

    oneDNN convolves such maps quickest, but not the gradient of the kernel where the processor has
    no AVX-512: that is computed from maps with their channels first, copying included in two thirds
    of the time.

    Example
    -------
    >>> x = torch.randn(2, 3, 5, 7).contiguous(memory_format=torch.channels_last)
    >>> Conv2d(3, 4, 3, padding=1)(x).shape
    torch.Size([2, 4, 5, 7])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` [B, N, F, L]: [B, M, F, L]."""
        fits = _onednn_fits(x, self.weight) and self.groups == 1 and _has_no_avx512()
        if not (fits and torch.is_grad_enabled()):
            return super().forward(x)
        return _ChannelsLastConv.apply(x, self.weight, self.bias, self.padding)


@cache
def _has_no_avx512() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


class _ChannelsLastConv(torch.autograd.Function):
    """A convolution of stride 1, and its gradients, each in the layout that is quickest for it."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        gradients = partial(
            torch.ops.aten.convolution_backward,
            weight=weight,
            bias_sizes=[len(weight)],
            stride=[1, 1],
            padding=ctx.padding,
            dilation=[1, 1],
            transposed=False,
            output_padding=[0, 0],
            groups=1,
        )
        of_x = of_weight = of_bias = None
        if for_x:
            of_x, _, _ = gradients(gradient, x, output_mask=[True, False, False])
        if for_weight or for_bias:
            mask = [False, for_weight, for_bias]
            _, of_weight, of_bias = gradients(
                _channels_first(gradient), _channels_first(x), output_mask=mask
            )
        return of_x, of_weight, of_bias, None


def _channels_first(x: Tensor) -> Tensor:
    """Copy `x` [B, N, F, L] item by item, as PyTorch transposes matrices quicker than arrays."""
    if x.is_contiguous():
        return x
    copied = torch.empty(x.shape, dtype=x.dtype)
    for copy, item in zip(copied.flatten(2), x.flatten(2), strict=True):
        copy.copy_(item)  # [N, F * L]
    return copied


# --- Attention ------------------------------------------------------------------------------------


def attention(qkv: Tensor, num_heads: int, dropout_p: float = 0.0) -> Tensor:
    """Attend along the rows of `qkv` [R, L, 3 * N], queries, keys and values: [R, L, N].

    PyTorch's fused kernels are slower on short rows than attention written out: in bfloat16 on rows
    of 10 to 250 positions by 1 to 2.5 times in evaluation, by 2 to 7 in training; in float32 on
    rows of 10 to 34 by 2 times, on two threads.
    """
    length = qkv.shape[1]
    if _runs_here(qkv) and length <= SHORT_ROW.get(qkv.dtype, 0):
        attend = partial(_attend, _plain_attention, num_heads, dropout_p)
        return in_slices(attend, qkv, num_heads * length**2)
    return _attend(scaled_dot_product_attention, num_heads, dropout_p, qkv)


def _attend(kernel: Callable[..., Tensor], heads: int, dropout_p: float, qkv: Tensor) -> Tensor:
    query, key, value = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # [R, H, L, D]
    return kernel(query, key, value, dropout_p=dropout_p).transpose(1, 2).flatten(2)  # [R, L, N]


def _plain_attention(query: Tensor, key: Tensor, value: Tensor, dropout_p: float) -> Tensor:
    weights = (query * query.shape[3] ** -0.5 @ key.mT).softmax(3)  # [R, H, L, L]
    return dropout(weights, dropout_p) @ value  # [R, H, L, D]


def in_slices(
    function: Callable[[Tensor], Tensor], x: Tensor, values_per_row: int | None = None
) -> Tensor:
    """Run `function` on the rows of `x` [R, L, N], on a CPU a few rows at a time.

    What a layer makes of a few rows stays in the cache, and long recordings need little more memory
    than `x` itself. Rows must not see each other. `values_per_row` counts what the function works
    on; by default L * N.
    """
    if not _runs_here(x):
        return function(x)
    values = len(x) * (values_per_row or x[0].numel())
    if values <= SLICE:
        return function(x)
    rows = max(1, SLICE * len(x) // values)
    return torch.cat([function(part) for part in x.split(rows)])  # [R, L, M]
