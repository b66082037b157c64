"""How likely the queries' targets are under what was predicted."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core import Meta, Task
from innerloop.errors import ConfigError
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.objectives import losses


def log_likelihoods(owner: MetaLearner, tasks: Task, steps: int, path: bool = False) -> Float[Tensor, "steps tasks"]:
    """Each task's mean log density (labels: log probability) of its queries that count, in nats a query; no graph is kept.

    Args:
        owner: a learner with a predictive distribution.
        tasks: a batch.
        steps: inner steps.
        path: after 0, 1, ... ``steps`` steps; False: after ``steps`` alone.

    Raises:
        ConfigError: a method that predicts values alone.
    """
    if not owner.learner.predicts_distribution:
        raise ConfigError(f"{owner.name} predicts no distribution, so there is no log_likelihood; leave the metric out")
    learner = owner.learner.in_evaluation()

    def run(meta: Meta, task: Task) -> Tensor:
        seen: list[Tensor] = []

        def observe(fast: Any, i: int) -> None:
            if path or i == steps:
                seen.append(losses.masked_mean(learner.log_density(meta, fast, task.query), task.query.mask))

        learner.adapt(meta, task, steps, observe)
        return torch.stack(seen)

    found = owner.engine.map(run, owner.meta(), owner.ready(tasks, owner.outer_step))
    return found.T.to(torch.float64)
