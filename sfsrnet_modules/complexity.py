"""Size and cost of a model: parameters, multiply-accumulates for a second of audio."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters.

    Example
    -------
    >>> count_parameters(nn.Linear(10, 2))
    22
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def macs_per_second(model: nn.Module, sample_rate: int) -> int:
    """Count the multiply-accumulates of separating one second of audio.

    Counted are matrix products, convolutions and attention, of one real forward in evaluation.

    Arguments
    ---------
    model : torch.nn.Module
        Takes a mixture [B, T].
    sample_rate : int
        Hz, so samples in the second.

    Returns
    -------
    int
        Multiply-accumulates (half the floating-point operations).
    """
    device = next(model.parameters()).device
    was_training = model.training
    # with gradients on, attention runs through the operations that the counter knows
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, sample_rate, device=device))
    model.train(was_training)
    return counter.get_total_flops() // 2
