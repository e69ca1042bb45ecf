"""What a step that is compiled needs: batches of one shape."""

import torch
import torch.nn.functional as F
from torch import Tensor


def in_one_shape(
    batch_size: int, num_samples: int, mixture: Tensor, sources: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bring short mixtures to the length of the others, and an epoch's last batch to its size.

    Arguments
    ---------
    batch_size : int
        Wanted number of items B'; the first item is repeated.
    num_samples : int
        Wanted length T'; zeros are appended.
    mixture : torch.Tensor
        [B, T].
    sources : torch.Tensor
        [B, T, C].
    lengths : torch.Tensor
        Length of each item as a share of T, [B].

    Returns
    -------
    mixture : torch.Tensor
        [B', T'].
    sources : torch.Tensor
        [B', T', C].
    lengths : torch.Tensor
        As a share of T', [B'].
    weights : torch.Tensor
        Of the items, [B']: 0 where one is repeated.

    Example
    -------
    >>> parts = torch.ones(2, 5), torch.ones(2, 5, 2), torch.tensor([1.0, 0.8])
    >>> [part.shape[0] for part in in_one_shape(3, 10, *parts)], in_one_shape(3, 10, *parts)[2:]
    ([3, 3, 3, 3], (tensor([0.5000, 0.4000, 0.5000]), tensor([1., 1., 0.])))
    """
    num_items, length = mixture.shape
    mixture = F.pad(mixture, (0, num_samples - length))
    sources = F.pad(sources, (0, 0, 0, num_samples - length))
    items = torch.arange(batch_size, device=mixture.device)
    taken = items * (items < num_items)  # [B']
    weights = (items < num_items).float()
    return mixture[taken], sources[taken], lengths[taken] * length / num_samples, weights
