"""Size and cost of a model, and what the device can do at most."""

from math import prod
from time import perf_counter

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, frozen ones too.

    Example
    -------
    >>> count_parameters(nn.Linear(10, 2))
    22
    """
    return sum(p.numel() for p in model.parameters())


def macs_per_second(model: nn.Module, sample_rate: int, *options) -> int:
    """Count the multiply-accumulates of separating one second of audio.

    Counted are matrix products, convolutions, attention and LSTMs, of one real forward in
    evaluation.

    Arguments
    ---------
    model : torch.nn.Module
        Takes a mixture [B, T].
    sample_rate : int
        Hz, so samples in the second.
    *options
        What else the model takes, such as True for all of its estimates.

    Returns
    -------
    int
        Multiply-accumulates (half the floating-point operations).
    """
    device = next(model.parameters()).device
    was_training = model.training
    # with gradients on, PyTorch's own layers run through operations that the counter knows
    with torch.enable_grad(), FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        model.eval()(torch.zeros(1, sample_rate, device=device), *options)
    model.train(was_training)
    return counter.get_total_flops() // 2


def peak_flops(device: str | torch.device, dtype: torch.dtype) -> float:
    """Measure the floating-point operations a second of large matrix products.

    Example
    -------
    >>> peak_flops("cpu", torch.float32) > 1e8
    True
    """
    device = torch.device(device)
    size = 8192 if device.type == "cuda" else 1024
    own = torch.Generator(device).manual_seed(0)  # a training's draws stay what they are
    matrix = torch.randn(size, size, device=device, dtype=dtype, generator=own)
    best = float("inf")
    for _ in range(4):  # the first ones wake it
        begin = perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, perf_counter() - begin)
    return 2 * size**3 / best


def _cpu_lstm(frames, input_weight, state_weight, *args, **kwargs) -> int:
    """Operations of one direction of one layer, from shapes; `frames` are [L, B, N]."""
    return 2 * frames[0] * frames[1] * (prod(input_weight) + prod(state_weight))


def _cuda_lstm(frames, weights, *args, **kwargs) -> int:
    matrices = [shape for shape in weights if len(shape) == 2]
    return 2 * frames[0] * frames[1] * sum(map(prod, matrices))


def _cpu_attention(query, key, value, *args, **kwargs) -> int:
    return sdpa_flop_count(query, key, value)


def _onednn_linear(x, weight, *args, **kwargs) -> int:
    return 2 * prod(x) * weight[0]


# PyTorch's own counter passes over these
UNCOUNTED = {
    torch.ops.aten.mkldnn_rnn_layer: _cpu_lstm,
    torch.ops.aten._cudnn_rnn: _cuda_lstm,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention,
    torch.ops.mkldnn._linear_pointwise: _onednn_linear,
}
