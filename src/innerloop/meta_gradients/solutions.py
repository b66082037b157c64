"""Where the inner loop ends up, averaged over tasks: shared by the estimators that look at solutions, not at gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from innerloop.core import Meta, MetaGradient, OuterGradient, Task
from innerloop.engine import Engine
from innerloop.learners import GradientLearner

Solution = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]


def _nothing(state: Any) -> dict[str, Tensor]:
    del state
    return {}


def mean_solution(
    learner: GradientLearner,
    engine: Engine,
    meta: Meta,
    tasks: Task,
    kept: Callable[[Any], dict[str, Tensor]] = _nothing,
) -> Solution:
    """Means over tasks of (adapted parameters, running statistics, query metrics, what is kept of the update rule's state).

    All after ``inner_steps`` steps, without a graph.
    """

    def solve(meta: Meta, task: Task) -> Solution:
        fast = learner.adapt(meta, task, learner.inner_steps)
        _, metrics, _ = learner.query_loss(meta, fast, task)
        return fast.params, fast.buffers, metrics, kept(fast.state)

    return engine.mean(solve, meta, tasks)


def displacement(meta: Meta, solution: Solution, carry: dict[str, Tensor]) -> OuterGradient:
    """``meta - mean solution`` as the outer gradient; zeros for what is not adapted."""
    params, buffers, metrics, _ = solution
    grads = {name: p - params[name] if name in params else torch.zeros_like(p) for name, p in meta.params.items()}
    rule = {name: torch.zeros_like(p) for name, p in meta.rule.items()}
    return OuterGradient(grads, rule, buffers, carry, metrics)


@dataclasses.dataclass(eq=False)
class FromSolutions(MetaGradient):
    """``meta - mean of the tasks' solutions``; a subclass says where the inner loops begin, unless it is meta."""

    learner: GradientLearner
    engine: Engine
    of_outer_loss = False

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator, outer_step
        kept = self.kept if carry else _nothing
        solution = mean_solution(self.learner, self.engine, self.start(carry, meta), tasks, kept)
        return displacement(meta, solution, {**carry, **solution[3]})

    def start(self, carry: dict[str, Tensor], meta: Meta) -> Meta:
        """Where each task's inner loop begins."""
        del carry
        return meta

    def kept(self, state: Any) -> dict[str, Tensor]:
        """What of the update rule's state at the end of a task the carry takes, as the mean over tasks; nothing here."""
        return _nothing(state)

    def next_carry(self, carry: dict[str, Tensor], state: Any) -> dict[str, Tensor]:
        """From which carry the next task of the same batch begins, after one that ended with ``state``: the same here."""
        del state
        return carry
