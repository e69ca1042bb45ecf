"""bfloat16 where the processor computes in it, and nowhere else."""

import torch

EMULATED = "This processor has no bfloat16 arithmetic: float32 is used."


def emulates_bfloat16(device_type: str) -> bool:
    """Whether bfloat16 is a processor's imitation, many times slower than float32."""
    return device_type == "cpu" and not cpu_has_bfloat16()


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself: AVX512-BF16 or AMX."""
    # PyTorch's public checks also count processors that emulate it
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
