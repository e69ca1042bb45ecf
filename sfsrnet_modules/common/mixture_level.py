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
    level = MixtureLevel()
    level.hear(estimates, mixture)
    return estimates * level.gains().unsqueeze(1)


class MixtureLevel:
    """Gains that bring the sum of the voices nearest to the mixture, over all heard so far.

    Least squares, so that a perfect estimate gets its very level back. Where the voices fall short
    of the mixture, gains are held near one gain common to all: else a voice that is silent would be
    turned up to fill the gap with what leaks into it.

    Example
    -------
    >>> sources = torch.randn(1, 800, 2)
    >>> estimates = sources * torch.tensor([0.1, 7.0])
    >>> level = MixtureLevel()
    >>> for part in (slice(0, 400), slice(400, 800)):
    ...     level.hear(estimates[:, part], sources.sum(2)[:, part])
    >>> torch.allclose(level.gains(), torch.tensor([10.0, 1 / 7]), rtol=1e-3)
    True
    """

    def __init__(self):
        self.products = self.projection = self.power = 0.0

    def hear(self, estimates: Tensor, mixture: Tensor) -> None:
        """Take in `estimates` [B, T, C] of `mixture` [B, T]."""
        estimates, mixture = estimates.double(), mixture.double()
        self.products = self.products + estimates.mT @ estimates  # [B, C, C]
        self.projection = self.projection + estimates.mT @ mixture.unsqueeze(2)  # [B, C, 1]
        self.power = self.power + mixture.square().sum(1)[:, None, None]  # [B, 1, 1]

    def gains(self) -> Tensor:
        """Return the gain of each voice, float32 [B, C]; finite for silence as well."""
        power = self.products.diagonal(dim1=1, dim2=2)  # [B, C]
        tiny = 1e-6 * power + 1e-12  # silence and equal estimates stay solvable
        nearest = self._pulled_to(torch.zeros_like(self.projection), tiny)
        missed = self.power - (nearest.mT @ self.projection)  # [B, 1, 1]
        common = self.projection.sum(1, keepdim=True) / (
            self.products.sum((1, 2), keepdim=True) + 1e-12
        )  # [B, 1, 1]
        gains = self._pulled_to(common.expand_as(nearest), tiny + missed.clamp_min(0)[..., 0])
        return gains.squeeze(2).float()  # [B, C]

    def _pulled_to(self, center: Tensor, strength: Tensor) -> Tensor:
        """Solve for the gains [B, C, 1], pulled to `center` with a `strength` [B, C]."""
        missing = self.projection - self.products @ center
        return center + torch.linalg.solve(self.products + torch.diag_embed(strength), missing)
