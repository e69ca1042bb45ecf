"""Levels as in the mixture: SI-SNR leaves the scale of an estimate open, the mixture gives it."""

import torch
from torch import Tensor


def at_mixture_level(estimates: Tensor, mixture: Tensor) -> Tensor:
    """Bring `estimates` [B, T, C] to their levels in `mixture` [B, T].

    Example
    -------
    >>> sources = torch.randn(2, 800, 2)
    >>> scaled = sources * torch.tensor([0.1, 7.0])
    >>> torch.allclose(at_mixture_level(scaled, sources.sum(2)), sources, atol=1e-2)
    True
    """
    return estimates * mixture_gains(estimates, mixture).unsqueeze(1)


def mixture_gains(estimates: Tensor, mixture: Tensor) -> Tensor:
    """Return the gains that bring the sum of the voices nearest to the mixture.

    Least squares, so that a perfect estimate gets its very level back. Where the voices fall short
    of the mixture, gains are held near one gain common to all: else a voice that is silent would be
    turned up to fill the gap with what leaks into it.

    Arguments
    ---------
    estimates : torch.Tensor
        [B, T, C].
    mixture : torch.Tensor
        [B, T].

    Returns
    -------
    torch.Tensor
        [B, C], float32; finite for silence as well.

    Example
    -------
    >>> sources = torch.randn(1, 800, 2)
    >>> gains = mixture_gains(sources * torch.tensor([0.1, 5.0]), sources.sum(2))
    >>> torch.allclose(gains, torch.tensor([10.0, 0.2]), rtol=1e-3)
    True
    """
    estimates, mixture = estimates.double(), mixture.double()
    products = estimates.mT @ estimates  # [B, C, C]
    projection = estimates.mT @ mixture.unsqueeze(2)  # [B, C, 1]
    tiny = 1e-6 * products.diagonal(dim1=1, dim2=2) + 1e-12  # [B, C]; silence, equal estimates
    nearest = _pulled(products, projection, torch.zeros_like(projection), tiny)
    power = mixture.square().sum(1)[:, None, None]  # [B, 1, 1]
    missed = (power - nearest.mT @ projection).clamp_min(0)  # [B, 1, 1]
    common = projection.sum(1, keepdim=True) / (products.sum((1, 2), keepdim=True) + 1e-12)
    gains = _pulled(products, projection, common.expand_as(nearest), tiny + missed[..., 0])
    return gains.squeeze(2).float()


def _pulled(products: Tensor, projection: Tensor, center: Tensor, strength: Tensor) -> Tensor:
    """Solve for the gains [B, C, 1], pulled to `center` with a `strength` [B, C]."""
    missing = projection - products @ center
    return center + torch.linalg.solve(products + torch.diag_embed(strength), missing)
