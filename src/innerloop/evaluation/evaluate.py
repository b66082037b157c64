"""Adapt to tasks never seen, judge the queries."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop import losses
from innerloop.core import Report, Task, TaskDistribution
from innerloop.errors import ConfigError, DivergedError, InputError, nearest
from innerloop.evaluation.batches import in_batches
from innerloop.evaluation.intervals import mean_ci95
from innerloop.evaluation.likelihood import log_likelihoods
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.provenance import commit, environment
from innerloop.training.distributed import Group


def evaluate(
    learner: MetaLearner,
    tasks: TaskDistribution,
    *,
    num_tasks: int = 600,
    seed: int = 0,
    steps: int | None = None,
    curve_steps: int | None = None,
    transductive: bool | None = None,
    allow_diverged: bool = False,
    group: Group | None = None,
    metric: str | None = None,
) -> Report:
    """Mean and 95 % interval of a metric over ``num_tasks`` fixed tasks.

    Args:
        learner: any MetaLearner; nothing in it changes.
        tasks: one split of a problem.
        num_tasks: how many tasks (the papers' 600).
        seed: which tasks: task i is a function of (seed, split, i).
        steps: inner steps; None: the learner's ``eval_steps``.
        curve_steps: also give the metric after 0, 1, ... this many steps.
        transductive: False: predict each query beside the support set alone; True: all queries of a task together; None: the
            method's protocol (`MetaLearner.inductive`).
        allow_diverged: give the mean as it comes, infinite or NaN, where some tasks diverged.
        group: processes that share the tasks out; each has to call this, and each gets the whole report. None: this process
            takes all tasks.
        metric: a name of `losses.METRICS`, or "log_likelihood" (nats a query) for a learner that predicts a distribution; None:
            the problem's first.

    Raises:
        ConfigError: ``num_tasks`` below 1, an unknown metric, or one that the method has no answer to.
        DivergedError: adapting gave values that are not finite on some tasks.
        InputError, ShapeError: tasks that the learner's model cannot take.
    """
    if not isinstance(tasks, TaskDistribution):
        raise InputError(f"evaluate expected one split such as tasks.test, got {type(tasks).__name__}")
    if num_tasks < 1:
        raise ConfigError(f"num_tasks expected at least 1, got {num_tasks}")
    for name, value in (("steps", steps), ("curve_steps", curve_steps)):
        if value is not None and value < 0:
            raise ConfigError(f"{name} expected at least 0, got {value}")
    metric = tasks.metrics[0] if metric is None else metric
    if metric not in (*losses.METRICS, *losses.DISTRIBUTION_METRICS):
        raise ConfigError(f"unknown metric {metric!r}: {nearest(metric, losses.HIGHER_IS_BETTER)}")
    inductive = learner.inductive if transductive is None else not transductive
    started = time.perf_counter()
    main = learner.eval_steps if steps is None else steps
    group = Group() if group is None else group
    part = group.part(num_tasks)
    longest = None if curve_steps is None else max(main, curve_steps)

    def values(batch: Task) -> Tensor:
        """The metric of some tasks, (steps, tasks): after ``main`` steps alone, or after 0, 1, ... ``longest``."""
        if metric in losses.DISTRIBUTION_METRICS:
            return log_likelihoods(learner, batch, main if longest is None else longest, path=longest is not None)
        if longest is None:
            return task_metric(metric, learner.predict_queries(batch, main, inductive), batch)[None]
        trajectory = learner.trajectory(batch, longest, inductive)
        return torch.stack([task_metric(metric, prediction, batch) for prediction in trajectory])

    with group.together():
        rows = 1 if longest is None else longest + 1
        none = torch.zeros(rows, 0, dtype=torch.float64, device=learner.device)
        batches = in_batches(tasks, part.count, seed=seed, first=part.first)
        own = torch.cat([none, *(values(batch) for batch in batches)], 1)
    found = group.columns(own, part)
    per_task: list[float] = found[0 if longest is None else main].tolist()
    diverged = sum(not math.isfinite(value) for value in per_task)
    if diverged and not allow_diverged:
        raise DivergedError(
            f"{diverged} of {num_tasks} tasks gave a {metric} that is not finite after {main} inner steps; "
            "use fewer steps, or a lower inner rate"
        )
    mean, ci95 = mean_ci95(per_task)
    curve = [] if curve_steps is None else [mean_ci95(row.tolist()) for row in found[: curve_steps + 1]]
    return Report(
        metric=metric,
        mean=mean,
        ci95=ci95,
        per_task=tuple(per_task),
        num_tasks=num_tasks,
        seed=seed,
        split=tasks.split,
        transductive=learner.mixes_examples and not inductive,
        curve=tuple(m for m, _ in curve),
        curve_ci95=tuple(c for _, c in curve),
        config={
            "algorithm": learner.method_spec,
            **({"meta_gradient": learner.meta_gradient_spec} if learner.meta_gradient_spec else {}),
            "model": learner.model_record,
            "tasks": {"name": tasks.name},
            "steps": main,
        },
        commit=commit(),
        environment=environment(),
        wall_seconds=time.perf_counter() - started,
    )


def task_metric(metric: str, prediction: Tensor, batch: Task) -> Tensor:
    """The metric of each task, (tasks,), in double precision."""
    query = batch.query
    y = query.y.to(prediction.device)
    y = y.to(torch.float64) if y.is_floating_point() else y
    prediction = prediction.to(torch.float64)
    if query.mask is None:
        return torch.vmap(lambda p, t: losses.METRICS[metric](p, t, None))(prediction, y)
    return torch.vmap(losses.METRICS[metric])(prediction, y, query.mask.to(prediction.device))


def card(report: Report, folder: str | Path) -> Path:
    """Write the evaluation card ``evaluation.json`` into a run directory."""
    from innerloop.storage import write_atomically

    path = Path(folder) / "evaluation.json"
    write_atomically(path, json.dumps(as_dict(report), indent=1, allow_nan=False).encode())
    return path


def as_dict(report: Report) -> dict[str, Any]:
    """A report as plain JSON values; a number that is not finite (a curve beyond where tasks diverge) becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return plain(dataclasses.asdict(report))
