"""What a step that is compiled needs: batches of one shape."""

import torch
from torch import Tensor


def filled_up(batch_size: int, *parts: Tensor) -> list[Tensor]:
    """Bring the last batch of an epoch to the size of the others by items that do not count.

    Arguments
    ---------
    batch_size : int
        Wanted number of items.
    *parts : torch.Tensor
        Of the batch, [B, ...] each. The first item is repeated.

    Returns
    -------
    list of torch.Tensor
        The parts [batch_size, ...], and the items' weights [batch_size]: 0 where one is repeated.

    Example
    -------
    >>> filled_up(3, torch.tensor([5.0, 7.0]))
    [tensor([5., 7., 5.]), tensor([1., 1., 0.])]
    """
    num_items = len(parts[0])
    missing = batch_size - num_items
    weights = torch.arange(batch_size, device=parts[0].device) < num_items
    if missing:
        parts = [torch.cat([part, part[:1].expand(missing, *part.shape[1:])]) for part in parts]
    return [*parts, weights.float()]
