"""MAML whose inner rate halves at each step: an update rule, and a method that uses it."""

from __future__ import annotations

import dataclasses

from torch import nn

import innerloop as il


@dataclasses.dataclass(frozen=True)
class Halving(il.UpdateRule):
    """``params <- params - lr / 2^step * grads``."""

    lr: float

    def init(self, meta, params):
        return ()

    def update(self, meta, grads, state, params, *, loss, step):
        return {name: p - self.lr / 2**step * grads[name] for name, p in params.items()}, state


def halving_maml(model: nn.Module, *, inner_lr: float = 0.1, inner_steps: int = 3) -> il.MetaLearner:
    """MAML whose inner rate halves at each step.

    Args:
        model: any nn.Module.
        inner_lr: rate of the first inner step.
        inner_steps: inner steps.
    """
    return il.maml(model, inner_optimizer=Halving(inner_lr), inner_steps=inner_steps)
