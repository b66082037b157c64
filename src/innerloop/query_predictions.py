"""Predictions of a batch of tasks' queries, along the inner loop of each; nothing is kept of the adapted learners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from innerloop.core import Meta, Task
from innerloop.fitted import predict_alone

if TYPE_CHECKING:
    from innerloop.meta_learner import MetaLearner


def query_predictions(owner: MetaLearner, batch: Task, steps: int, alone: bool, last_only: bool) -> Tensor:
    """(tasks, times, queries, outputs) after 0, 1, ... ``steps`` inner steps, or after the last one alone; no graph.

    Args:
        owner: whose learner adapts, by its engine.
        batch: checked tasks with a key each.
        steps: inner steps.
        alone: predict each query by itself beside the support set.
        last_only: there is one time, the last.
    """
    learner = owner.learner.in_evaluation()

    def run(meta: Meta, task: Task) -> Tensor:
        seen: list[Tensor] = []

        def observe(fast: Any, i: int) -> None:
            if last_only and i < steps:
                return
            if alone:
                batched = not owner.engine.needs_loop
                seen.append(predict_alone(learner.predict, meta, fast, task.support, task.query.x, batched))
            else:
                seen.append(learner.predict(meta, fast, task.query.x, task.query.mask))

        learner.adapt(meta, task, steps, observe)
        return torch.stack(seen)

    return owner.engine.map(run, owner.meta(), batch)
