"""The meta-gradient of where an inner problem is solved, whatever way led there: implicit differentiation."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from innerloop.core import BaseLearner, Meta, MetaGradient, OuterGradient, Task
from innerloop.engine import Engine
from innerloop.errors import ConfigError, expect_whole
from innerloop.functional import inner_gradient
from innerloop.functional.derivatives import gradient_products
from innerloop.learners.gradient import GradientLearner
from innerloop.learners.proximal import ProximalLearner, pulled_back
from innerloop.meta_gradients.conjugate_gradient import conjugate_gradient, dot


@dataclasses.dataclass(eq=False)
class Implicit(MetaGradient):
    """``((1 + damping) I + H / strength)^-1 grad L_query(phi)``, by conjugate gradients; H: Hessian of the support loss at phi.

    phi is where the inner loop ends; no graph of it is kept, so memory does not grow with inner steps. With
    ``damping = 0``, at the solution of the inner problem and with enough steps it is the exact meta-gradient; Rajeswaran et
    al. 2019 (arXiv:1909.04630), equation 6 and algorithm 2. Parameters that the inner loop leaves alone get theirs too, by the
    implicit function theorem. Metrics: ``cg_residual``, what conjugate gradients leave of the equation (relative), and
    ``inner_gradient``, the length of the inner problem's gradient at phi: 0 at its solution.

    Args:
        learner: a `ProximalLearner`.
        engine: runs the one-task function over many tasks.
        cg_steps: steps of conjugate gradients, at least 1 (the paper's 5).
        damping: added to the identity, at least 0: shorter, safer and biased; 0 is the definition (the paper's code: 1).
    """

    learner: ProximalLearner
    engine: Engine
    cg_steps: int = dataclasses.field(default=5, kw_only=True)
    damping: float = dataclasses.field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        self.order = "implicit"
        expect_whole("cg_steps", self.cg_steps)
        if not (isinstance(self.damping, int | float) and math.isfinite(self.damping) and self.damping >= 0):
            raise ConfigError(f"damping expected a finite number of at least 0, got {self.damping!r}")

    def check(self, learner: BaseLearner) -> None:
        if not pulled_back(learner):
            raise ConfigError(
                f"the implicit meta-gradient expected a learner with a proximal inner problem (il.imaml), got "
                f"{type(learner).__name__}; use another meta-gradient"
            )
        if not learner.strength > 0:
            raise ConfigError(
                f"the implicit meta-gradient expected a strength above 0, got {learner.strength}; without the pull to the "
                "initial parameters the solution does not depend on them"
            )
        params = {name: p.detach() for name, p in learner.model.module.named_parameters()}
        if learner.init_rule(params, None):
            raise ConfigError(
                "the implicit meta-gradient expected no learned inner rates or per-step values, got some; the solution of "
                "the inner problem does not depend on the way to it"
            )
        if learner.model.draws_noise or learner.inner_batch is not None:
            what = "dropout" if learner.model.draws_noise else "inner mini-batches"
            raise ConfigError(
                f"the implicit meta-gradient expected one inner problem for all inner steps, got {what}; leave them out"
            )

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator, outer_step
        params, buffers, metrics = self.engine.mean(self._one_task, meta, tasks)
        rule = {name: torch.zeros_like(p) for name, p in meta.rule.items()}
        return OuterGradient(params, rule, buffers, carry, metrics)

    def _one_task(self, meta: Meta, task: Task) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        learner = self.learner
        fast = learner.adapt(meta, task, learner.inner_steps)
        shared = {name: p for name, p in meta.params.items() if name not in fast.params}

        def query(values: dict[str, Tensor]) -> tuple[Tensor, Any]:
            here = Meta({**meta.params, **{n: values[n] for n in shared}}, meta.rule, meta.buffers)
            there = dataclasses.replace(fast, params={n: values[n] for n in fast.params})
            loss, found, buffers = learner.query_loss(here, there, task)
            return loss, (found, {name: b.detach() for name, b in buffers.items()})

        # Partial derivatives at the solution: how the solution itself moves with meta comes from the equations below.
        slopes, (metrics, buffers) = inner_gradient(query, {**shared, **fast.params}, True)
        right = {name: slopes[name] for name in fast.params}

        # Without the proximal term, which the learner's own loss would add: its Hessian is lambda times the identity and stands
        # in `matrix` by hand.
        def support(adapted: dict[str, Tensor], others: dict[str, Tensor]) -> Tensor:
            here = Meta({**meta.params, **others}, meta.rule, meta.buffers)
            return GradientLearner.support_loss(learner, here, fast, adapted, task.support)[0]

        slope, products = gradient_products(support, fast.params, shared)

        def matrix(v: dict[str, Tensor]) -> dict[str, Tensor]:
            curved, _ = products(v)
            # (H + lambda I) v / lambda: divided by lambda, so that the right-hand side is the query's slope as it is.
            return {name: (1 + self.damping) * p + curved[name] / learner.strength for name, p in v.items()}

        solution, left = conjugate_gradient(matrix, right, self.cg_steps)
        found = dict(solution)
        if shared:
            # What is not adapted moves the solution too, by the mixed second derivatives of the support loss.
            _, crossed = products(solution)
            found |= {name: slopes[name] - crossed[name] / learner.strength for name in shared}
        total = dot(right, right)
        # The slope of the inner problem where it was left: zero if it is solved, as the estimate assumes; so it is logged.
        pulled = {n: g + learner.strength * (fast.params[n] - meta.params[n]) for n, g in slope.items()}
        metrics = {
            **metrics,
            "cg_residual": torch.where(total > 0, left / torch.where(total > 0, total, 1.0), 0.0).sqrt(),
            "inner_gradient": dot(pulled, pulled).sqrt(),
        }
        return {name: found[name] for name in meta.params}, buffers, metrics
