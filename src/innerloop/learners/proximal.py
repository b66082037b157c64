"""A gradient learner that is held near where it began: the inner problem of implicit MAML."""

from __future__ import annotations

import dataclasses
from typing import TypeGuard

import torch
from torch import Tensor

from innerloop.core import BaseLearner, Examples, Meta
from innerloop.learners.gradient import GradientFast, GradientLearner


@dataclasses.dataclass(frozen=True, eq=False)
class ProximalLearner(GradientLearner):
    """Inner steps descend ``L_support(phi) + strength / 2 |phi - theta|^2``; theta are the initial parameters.

    Rajeswaran et al. 2019 (arXiv:1909.04630), equation 3.

    Args:
        strength: of the pull towards the initial parameters, at least 0.
        eval_strength: the same on a new task; None: ``strength``.
    """

    strength: float = 2.0
    eval_strength: float | None = None

    looks_back = True
    proximal = True

    def support_loss(
        self, meta: Meta, fast: GradientFast, adapted: dict[str, Tensor], batch: Examples
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, buffers = super().support_loss(meta, fast, adapted, batch)
        strength = self.strength if self.training or self.eval_strength is None else self.eval_strength
        if strength == 0:
            return loss, buffers
        distance = torch.stack([(p - meta.params[name]).square().sum() for name, p in adapted.items()]).sum()
        return loss + 0.5 * strength * distance, buffers


def pulled_back(learner: BaseLearner) -> TypeGuard[ProximalLearner]:
    """Whether a learner has all that a `ProximalLearner` has; its own word counts, not its class."""
    return learner.proximal
