"""bfloat16 where the processor computes in it, and nowhere else."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

EMULATED = "This processor has no bfloat16 arithmetic: float32 is used."


def emulates_bfloat16(device_type: str) -> bool:
    """Whether bfloat16 is a processor's imitation, many times slower than float32."""
    return device_type == "cpu" and not cpu_has_bfloat16()


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself: AVX512-BF16 or AMX."""
    # PyTorch's public checks also count processors that emulate it
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def in_float32(function: Callable) -> Callable:
    """Let a function compute in float32, whatever the mixed precision around it.

    SpeechBrain's ``fwd_default_precision`` does that too, but ``torch.compile`` can't follow it.
    """

    @wraps(function)
    def compute(*inputs, **named):
        inputs = [_widened(value) for value in inputs]
        named = {name: _widened(value) for name, value in named.items()}
        if not (torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu")):
            return function(*inputs, **named)
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return function(*inputs, **named)

    return compute


def _widened(value: Any) -> Any:
    if isinstance(value, list):
        return [_widened(part) for part in value]
    is_narrow = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if is_narrow else value
