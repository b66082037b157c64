"""Bayesian linear regression: what is believed of a linear layer's weights, all at once or example by example.

Several outputs share the covariance, which is in units of each output's noise variance. Plain functions of tensors, with autograd
and inside vmap, with or without batch axes in front; `Weights.after` and `Weights.towards` are sums and products alone, so
they can be exported. West and Harrison 1997, "Bayesian forecasting and dynamic models", chapter 4.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Seen(NamedTuple):
    """One example's features and what is believed.

    Attributes:
        mean: of its value.
        along: the covariance times the features.
        variance: of its noisy value, in units of the noise's.
    """

    mean: Float[Tensor, "*batch outputs"]
    along: Float[Tensor, "*batch features"]
    variance: Float[Tensor, "*batch"]


class Weights(NamedTuple):
    """A normal distribution of a layer's weights.

    Attributes:
        mean: of the weights of each output.
        covariance: of the weights of one output, in units of its noise variance.
    """

    mean: Float[Tensor, "*batch features outputs"]
    covariance: Float[Tensor, "*batch features features"]

    def at(
        self, z: Float[Tensor, "rows features"]
    ) -> tuple[Float[Tensor, "*batch rows outputs"], Float[Tensor, "*batch rows"]]:
        """Mean, and variance in units of the noise's, of new noisy values at these features."""
        return z @ self.mean, 1 + ((z @ self.covariance) * z).sum(-1).clamp(min=0.0)

    def seen_at(self, z: Float[Tensor, " features"]) -> Seen:
        """What one example's features meet: for its prediction, and then for `after`."""
        along = self.covariance @ z
        return Seen((z[:, None] * self.mean).sum(-2), along, 1 + (along * z).sum(-1).clamp(min=0.0))

    def after(self, seen: Seen, y: Float[Tensor, " outputs"]) -> Weights:
        """What is believed after one more example, at a cost that does not depend on how many came before."""
        gain = seen.along / seen.variance[..., None]
        return Weights(
            self.mean + gain[..., :, None] * (y - seen.mean)[..., None, :],
            self.covariance - gain[..., :, None] * seen.along[..., None, :],
        )

    def towards(self, prior: Weights, keep: Tensor | float) -> Weights:
        """What is believed one moment later where the weights drift: between this and the prior, never beyond it.

        The weights move by ``w' = w0 + sqrt(keep) (w - w0) + drift``, and the drift's variance is such that without any example
        the prior stays what it is: ``covariance' = keep covariance + (1 - keep) prior covariance``.

        Args:
            prior: what is believed where nothing was seen.
            keep: 1: they stay; 0: nothing is remembered.
        """
        root = keep.sqrt() if isinstance(keep, Tensor) else keep**0.5
        return Weights(
            prior.mean + root * (self.mean - prior.mean), keep * self.covariance + (1 - keep) * prior.covariance
        )


def symmetric(factor: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """``L L'``, symmetric to the last bit, of the lower triangular L whose diagonal is the exponential of this one's."""
    lower = factor.tril(-1) + torch.diag_embed(factor.diagonal().exp())
    product = lower @ lower.T
    return 0.5 * (product + product.T)


def posterior(
    prior: Weights,
    z: Float[Tensor, "examples features"],
    y: Float[Tensor, "examples outputs"],
    counts: Float[Tensor, " examples"] | None = None,
) -> Weights:
    """What is believed after all these examples at once.

    ``S = S0 - S0 Z' (I + Z S0 Z')^-1 Z S0`` and ``M = M0 + S0 Z' (I + Z S0 Z')^-1 (y - Z M0)``; where there are more examples
    than features, ``S = (I + S0 Z'Z)^-1 S0``, which is the same. Solved in double precision where the device has it.

    Args:
        prior: before them; without batch axes.
        z: features.
        y: values.
        counts: 1 for an example that counts, 0 for padding; None: all count.
    """
    given = z.dtype
    exact = given if z.device.type == "mps" else torch.float64
    if counts is not None:
        z, y = (torch.where(counts[:, None] > 0, v, 0.0) for v in (z, y))
    z, y = z.to(exact), y.to(exact)
    mean, covariance = prior.mean.to(exact), prior.covariance.to(exact)
    off = y - z @ mean
    one = torch.eye(min(z.shape), dtype=exact, device=z.device)
    if len(z) <= z.shape[1]:
        across = covariance @ z.T
        solved = torch.linalg.solve_ex(one + z @ across, torch.cat([across.T, off], 1))[0]
        after = covariance - across @ solved[:, : len(covariance)]
        moved = across @ solved[:, len(covariance) :]
    else:
        solved = torch.linalg.solve_ex(
            one + covariance @ (z.T @ z), torch.cat([covariance, covariance @ (z.T @ off)], 1)
        )[0]
        after, moved = solved[:, : len(covariance)], solved[:, len(covariance) :]
    return Weights((mean + moved).to(given), (0.5 * (after + after.T)).to(given))
