"""Predictions of a batch of tasks' queries, along the inner loop of each; nothing is kept of the adapted learners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop import keys
from innerloop.core import BaseLearner, Examples, Meta, Task, batch_size, length
from innerloop.engine import Engine, take
from innerloop.objectives import losses

MEASURED = 17  # keeps the key of what is measured apart from what else is drawn from a task's key


def query_predictions(
    engine: Engine, learner: BaseLearner, meta: Meta, batch: Task, steps: int, *, alone: bool, last_only: bool
) -> Tensor:
    """(tasks, times, queries, outputs) after 0, 1, ... ``steps`` inner steps, or after the last one alone; no graph.

    Args:
        engine: what runs it over the tasks.
        learner: as it is in evaluation.
        meta: the outer parameters.
        batch: checked tasks with a key each.
        steps: inner steps.
        alone: predict each query by itself beside the support set.
        last_only: there is one time, the last.
    """

    def run(meta: Meta, task: Task) -> Tensor:
        seen: list[Tensor] = []

        def observe(fast: Any, i: int) -> None:
            if last_only and i < steps:
                return
            if alone:
                batched = not engine.needs_loop
                seen.append(predict_alone(learner.predict, meta, fast, task.support, task.query.x, batched))
            else:
                seen.append(learner.predict(meta, fast, task.query.x, task.query.mask))

        learner.adapt(meta, task, steps, observe)
        return torch.stack(seen)

    return engine.map(run, meta, batch)


def query_measures(
    engine: Engine, learner: BaseLearner, meta: Meta, batch: Task, steps: int, *, last_only: bool
) -> dict[str, Tensor]:
    """What each task's objective measures on its query side: {metric: (tasks, times)}, times as in `query_predictions`."""

    def run(meta: Meta, task: Task) -> dict[str, Tensor]:
        seen: list[dict[str, Tensor]] = []

        def observe(fast: Any, i: int) -> None:
            if not last_only or i == steps:
                seen.append(measured(learner, meta, fast, task))

        learner.adapt(meta, task, steps, observe)
        return {name: torch.stack([found[name].to(torch.float64) for found in seen]) for name in seen[0]}

    if getattr(batch.query, "in_torch", True):
        return engine.map(run, meta, batch)
    with torch.no_grad():  # worlds outside of torch: one after the other, each with what it can play side by side
        each = [run(meta, take(batch, i)) for i in range(batch_size(batch))]
    return {name: torch.stack([found[name] for found in each]) for name in each[0]}


def measured(learner: BaseLearner, meta: Meta, fast: Any, task: Task) -> dict[str, Tensor]:
    """What a task's objective measures on its query side once adapted: {metric: scalar}."""
    objective = losses.as_objective(task.objective)
    key = None if task.noise is None else keys.fold(task.noise, MEASURED)
    return objective.measure(learner.as_model(meta, fast), objective.data(task.query, task.shared), key)


def predict_alone(
    question: Callable[..., Tensor], meta: Meta, fast: Any, support: Examples, x: Any, vmapped: bool
) -> Tensor:
    """Answers of a learner's ``predict`` (queries, outputs), each query in a batch with the support set alone (Reptile's
    inductive protocol)."""

    def one(query: Any) -> Tensor:
        mask = None
        if support.mask is not None:
            mask = torch.cat([support.mask, torch.ones_like(support.mask[:1])])
        both = pytree.tree_map(lambda s, q: torch.cat([s, q[None]]), support.x, query)
        return question(meta, fast, both, mask)[-1]

    if vmapped:
        return torch.vmap(one)(x)
    return torch.stack([one(pytree.tree_map(lambda v, i=i: v[i], x)) for i in range(length(x))])
