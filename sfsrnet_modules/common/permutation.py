"""Which estimate belongs to which source: the best of all orders.

B batch, T samples, C sources.
"""

from functools import cache
from itertools import permutations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

TRIED = 4  # voices up to which all orders are tried, which needs no transfer to the host


def best_order(scores: Tensor) -> Tensor:
    """The assignment of estimates to sources with the highest mean score.

    Arguments
    ---------
    scores : torch.Tensor
        [B, estimate, source].

    Returns
    -------
    torch.Tensor
        [B, C]: the estimate that belongs to each source. Of five and more, whose
        orders are too many to be tried, by solving the assignment on the host.

    Example
    -------
    >>> best_order(torch.tensor([[[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]]))
    tensor([[1, 2, 0]])
    """
    num_spks = scores.shape[2]
    if num_spks > TRIED:
        return _assigned(scores)
    orders = _orders(num_spks, scores.device)  # [C!, C]
    means = sum(scores[:, orders[:, source], source] for source in range(num_spks))  # [B, C!]
    return orders[means.argmax(1)]


@cache
def _orders(num_spks: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(list(permutations(range(num_spks))), device=device)  # [C!, C]


def _assigned(scores: Tensor) -> Tensor:
    gains = scores.detach().mT.double().nan_to_num().cpu().numpy()  # [B, source, estimate]
    orders = np.array([linear_sum_assignment(item, maximize=True)[1] for item in gains])
    return torch.from_numpy(orders).to(scores.device)  # [B, C]


def reorder(estimates: Tensor, order: Tensor) -> Tensor:
    """Bring `estimates` [B, T, C] into the order of the sources, as :func:`best_order` gives it."""
    return estimates.gather(2, order.unsqueeze(1).expand_as(estimates))
