"""Which estimate belongs to which source: the best of all orders.

B batch, T samples, C sources.
"""

from itertools import permutations

import torch
from torch import Tensor


def best_order(scores: Tensor) -> Tensor:
    """The assignment of estimates to sources with the highest mean score.

    Arguments
    ---------
    scores : torch.Tensor
        [B, estimate, source].

    Returns
    -------
    torch.Tensor
        [B, C]: the estimate that belongs to each source. All C! orders are tried.

    Example
    -------
    >>> best_order(torch.tensor([[[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]]))
    tensor([[1, 2, 0]])
    """
    num_spks = scores.shape[2]
    orders = torch.tensor(list(permutations(range(num_spks))), device=scores.device)  # [C!, C]
    means = scores[:, orders, torch.arange(num_spks, device=scores.device)].mean(2)  # [B, C!]
    return orders[means.argmax(1)]


def reorder(estimates: Tensor, order: Tensor) -> Tensor:
    """Bring `estimates` [B, T, C] into the order of the sources, as :func:`best_order` gives it."""
    return estimates.gather(2, order.unsqueeze(1).expand_as(estimates))
