"""A trust-region step (TRPO, Schulman et al. 2015): the natural gradient at a given divergence, found by conjugate gradients."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from innerloop.core import Meta, OuterGradient, Task, batch_size
from innerloop.engine import take
from innerloop.errors import ConfigError
from innerloop.meta_gradients.on_rollouts import OnRollouts

_SHRINKS, _SHRINK = 15, 0.8  # of the line search
_DAMPING = 1e-5


@dataclasses.dataclass(eq=False)
class TrustRegion(OnRollouts):
    """What it returns as the gradient is minus the step, so that plain gradient descent of rate 1 takes it.

    The step is the natural gradient of the outer loss, scaled so that by a quadratic model the adapted policies diverge by
    ``largest`` from those that played; shortened by 0.8 up to 15 times until the loss is lower than before and they do not
    diverge further, and no step at all where it never is.

    Args:
        learner: one with ``judged(meta, task) -> (loss, divergence, ...)``.
        largest: mean divergence, nats.
        iterations: of conjugate gradients.
    """

    largest: float = 0.01
    iterations: int = 10

    of_outer_loss = False
    of_mean_gradient = False
    compilable = False

    def check(self, learner: Any) -> None:
        if not callable(getattr(learner, "judged", None)):
            raise ConfigError(f"a trust region expected a policy's learner, got {type(learner).__name__}")

    def of_rollouts(self, carry: dict[str, Tensor], meta: Meta, tasks: Task, outer_step: int) -> OuterGradient:
        del outer_step
        learner: Any = self.learner
        names = list(meta.params)

        def values(params: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            def of_one(task: Task) -> Any:
                return learner.judged(meta._replace(params=params), task)

            if self.engine.needs_loop:
                rows = [torch.stack(of_one(take(tasks, i))) for i in range(batch_size(tasks))]
                found = torch.stack(rows).mean(0).unbind()
            else:
                found = tuple(v.mean() for v in torch.vmap(of_one)(tasks))
            return found[0], found[1], found[2]

        with torch.enable_grad():
            here = {name: p.detach().requires_grad_() for name, p in meta.params.items()}
            given = list(here.values())
            loss, divergence, return_ = values(here)
            slope = _flat(
                torch.autograd.grad(loss, given, retain_graph=True, allow_unused=True, materialize_grads=True)
            )
            of_divergence = _flat(
                torch.autograd.grad(divergence, given, create_graph=True, allow_unused=True, materialize_grads=True)
            )

        def product(vector: Tensor) -> Tensor:
            found = torch.autograd.grad(
                of_divergence, given, vector, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            return _flat(found) + _DAMPING * vector

        direction = conjugate_gradients(product, slope, self.iterations)
        curvature = float(direction @ product(direction))
        size = math.sqrt(2 * self.largest / curvature) if curvature > 0 else 0.0
        step = size * direction
        begin, taken = loss.detach(), torch.zeros_like(step)
        for k in range(_SHRINKS if size else 0):
            tried = step * _SHRINK**k
            parts = _like(tried, given)
            with torch.no_grad():
                lower, apart, _ = values({n: p.detach() - d for n, p, d in zip(names, given, parts, strict=True)})
            if bool(torch.isfinite(lower) & (lower < begin) & (apart <= self.largest)):
                taken = tried
                break
        metrics = {"loss": begin, "divergence": divergence.detach(), "return": return_.detach()}
        metrics["step"] = taken.norm()
        rule = {name: torch.zeros_like(p) for name, p in meta.rule.items()}
        return OuterGradient(dict(zip(names, _like(taken, given), strict=True)), rule, {}, carry, metrics)


def conjugate_gradients(product: Callable[[Tensor], Tensor], target: Tensor, iterations: int) -> Tensor:
    """x for which product(x) is about ``target``; ``product`` is linear, symmetric and positive definite."""
    x = torch.zeros_like(target)
    residual, direction = target.clone(), target.clone()
    size = residual @ residual
    for _ in range(iterations):
        if float(size) < 1e-10:
            break
        moved = product(direction)
        along = size / (direction @ moved)
        x = x + along * direction
        residual = residual - along * moved
        new = residual @ residual
        direction, size = residual + (new / size) * direction, new
    return x


def _flat(tensors: Any) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def _like(vector: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    parts = vector.split([t.numel() for t in tensors])
    return [part.view_as(t) for part, t in zip(parts, tensors, strict=True)]
