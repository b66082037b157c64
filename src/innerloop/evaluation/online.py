"""Tasks that go on: each example is predicted from those before it, then learned; errors by how long ago the task changed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import Examples, Meta, Task, TaskDistribution
from innerloop.errors import ConfigError, InputError, expect_whole
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.learners.embedding import counted
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.provenance import commit, environment
from innerloop.waiting import waiting

# Steps from the change on, the first one counted as 0; "before" are the last ones under the old law.
PHASES: Mapping[str, tuple[int, int]] = {"before": (-20, 0), "1-5": (0, 5), "6-20": (5, 20), "41+": (40, 1 << 30)}
_TASKS, _WINDOWS = 60, 2_000  # of a batch: both bound memory alone


@dataclasses.dataclass(frozen=True)
class OnlineScore:
    """Squared error over some of the steps; ``per_task`` is in task order, NaN where a task has no such step."""

    mean: float
    ci95: float
    per_task: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class OnlineEvaluation:
    """The frozen result of `evaluate_online`.

    Attributes:
        phases: squared error, mean over outputs, by steps from the change (`PHASES`), and "all".
        errors: the same of each task and step; NaN where a shorter stream has none.
        changes: the first step of each task that is under the new law; the number of steps where it stays.
        log_likelihood: of the targets before they were learned, in nats a step, by phase; empty where the method has no spread.
        change_probability: after each step; None: the learner looks for no changes.
        num_tasks, seed, split: which tasks.
        window: how many of the last examples were adapted to; None: all are absorbed.
        config, commit, environment, wall_seconds: as of `Report`.
    """

    phases: Mapping[str, OnlineScore]
    errors: Float[Tensor, "tasks steps"]
    changes: Int64[Tensor, " tasks"]
    log_likelihood: Mapping[str, OnlineScore]
    change_probability: Float[Tensor, "tasks steps"] | None
    num_tasks: int
    seed: int
    split: str
    window: int | None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commit: str = ""
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wall_seconds: float = 0.0

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {score.mean:.3f} ± {score.ci95:.3f}" for name, score in self.phases.items())
        how = "" if self.window is None else f", adapted to the last {self.window}"
        return f"squared error by steps after the change: {found} ({self.num_tasks} {self.split} tasks{how})"


@waiting("going through streams")
def evaluate_online(
    learner: MetaLearner,
    tasks: TaskDistribution,
    *,
    num_tasks: int = 120,
    seed: int = 0,
    window: int | None = None,
    steps: int | None = None,
) -> OnlineEvaluation:
    """Squared error of each example's prediction before it is learned, along support and query side of regression tasks.

    Args:
        learner: nothing in it changes.
        tasks: one split, such as ``il.tasks.road().test``; where it says when a task changes (``changes``), errors are told apart
            by the steps since.
        num_tasks: how many tasks.
        seed: which.
        window: adapt anew to so many of the last examples before each step; 0: to none; None: take in each example
            (`BaseLearner.absorbs`), where the method does that at constant cost.
        steps: inner steps, where it adapts anew; None: ``eval_steps``.

    Raises:
        InputError: tasks whose targets are no values.
        ConfigError: a number out of range, or a method that does not absorb, without ``window``.
    """
    expect_whole("num_tasks", num_tasks, 2)
    if window is None and not learner.learner.absorbs:
        raise ConfigError(
            f"evaluate_online expected a window for {learner.name}, which adapts anew to all examples, got none; give "
            "window=16, say"
        )
    if window is not None:
        expect_whole("window", window, 0)
    first = tasks.at(seed, 0, 1)
    if not (isinstance(first.support, Examples) and first.support.y.is_floating_point()):
        raise InputError(f"evaluate_online expected tasks of values, got {tasks.name}, which has none; use il.evaluate")
    started = time.perf_counter()
    parts = []
    for start in range(0, num_tasks, _TASKS):
        batch = tasks.at(seed, 0, min(_TASKS, num_tasks - start), start)
        parts.append(_absorbed(learner, batch) if window is None else _anew(learner, batch, window, steps))
    errors = torch.cat([part[0] for part in parts])
    densities, chances = (
        None if column[0] is None else torch.cat(column) for column in list(zip(*parts, strict=True))[1:]
    )
    keys = random_keys.task_keys(seed, tasks.split, 0, 0, num_tasks)
    when: Any = getattr(tasks, "changes", None)
    changes = torch.full((num_tasks,), errors.shape[1]) if when is None else when(keys)
    return OnlineEvaluation(
        phases=scores(errors, changes),
        errors=errors,
        changes=changes,
        log_likelihood={} if densities is None else scores(densities, changes),
        change_probability=chances,
        num_tasks=num_tasks,
        seed=seed,
        split=tasks.split,
        window=window,
        config={"algorithm": learner.method_spec, "model": learner.model_record, "tasks": {"name": tasks.name}},
        commit=commit(),
        environment=environment(),
        wall_seconds=time.perf_counter() - started,
    )


def within(phase: str, changes: Int64[Tensor, " tasks"], steps: int) -> Bool[Tensor, "tasks steps"]:
    """Which steps of each task belong to a phase of `PHASES`; none, of a task that stays as it is."""
    low, high = PHASES[phase]
    since = torch.arange(steps) - changes[:, None]
    return (since >= low) & (since < high) & (changes[:, None] < steps)


def scores(values: Float[Tensor, "tasks steps"], changes: Int64[Tensor, " tasks"]) -> dict[str, OnlineScore]:
    """Means over the steps of each phase, and over all steps; phases that no task has are left out."""
    masks = {name: within(name, changes, values.shape[1]) for name in PHASES}
    masks["all"] = torch.ones_like(values, dtype=torch.bool)
    found = {}
    for name, mask in masks.items():
        if mask.any():
            per_task = torch.where(mask, values.double(), torch.nan).nanmean(1)
            mean, ci95 = mean_ci95(per_task[~per_task.isnan()].tolist())
            found[name] = OnlineScore(mean, ci95, tuple(per_task.tolist()))
    return found


def sequences(batch: Task) -> tuple[Tensor, Tensor]:
    """Inputs and targets along support and query side."""
    return tuple(torch.cat([getattr(batch.support, name), getattr(batch.query, name)], 1) for name in ("x", "y"))  # type: ignore[return-value]


def _absorbed(learner: MetaLearner, batch: Task) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(errors, log densities, probabilities of a change), (tasks, steps) each."""
    own = learner.learner.in_evaluation()
    dense = own.predicts_distribution and learner.loss is None

    def run(meta: Meta, task: Task) -> tuple[Tensor, Tensor, Tensor]:
        fast = own.init(meta, task)
        x, y = (torch.cat([getattr(task.support, name), getattr(task.query, name)]) for name in ("x", "y"))
        there = torch.cat([counted(side) for side in (task.support, task.query)])
        padded = task.support.mask is not None or task.query.mask is not None
        found, densities, chances = [], [], []
        for i in range(len(y)):
            one = Examples(x[i : i + 1], y[i : i + 1], there[i : i + 1] if padded else None)
            found.append(own.predict(meta, fast, one.x)[0])
            if dense:
                densities.append(own.log_density(meta, fast, one)[0])
            fast = own.absorb(meta, fast, one)
            chance = getattr(fast, "change_probability", None)
            chances.append(y.new_full((), torch.nan) if chance is None else chance)
        off = torch.where(there, (torch.stack(found) - y).square().mean(-1), torch.nan)
        return off, torch.where(there, torch.stack(densities or chances), torch.nan), torch.stack(chances)

    ready = learner.ready(batch, learner.outer_step)
    errors, densities, chances = learner.engine.map(run, learner.meta(), ready)
    return errors.cpu(), densities.cpu() if dense else None, None if chances.isnan().all() else chances.cpu()


def _anew(learner: MetaLearner, batch: Task, window: int, steps: int | None) -> tuple[Tensor, None, None]:
    """Squared errors, (tasks, steps), where each step's support set is the last examples before it."""
    if batch.support.mask is not None or batch.query.mask is not None:
        raise InputError(
            "evaluate_online expected streams of one length for a window, got such of several; leave out window, or give "
            "shots and queries"
        )
    x, y = sequences(batch)
    number, length = y.shape[:2]
    found = []
    blind = Task(Examples(x[:, :1], y[:, :1]), Examples(x, y), batch.objective, noise=batch.noise)
    guesses = learner.predict_queries(blind, 0)  # before anything was seen, and where nothing is looked at
    if window == 0:
        return (guesses.cpu() - y).square().mean(-1), None, None
    place = (
        torch.arange(1, length)[:, None] - window + torch.arange(window)
    )  # (steps, window) rows, some before the first
    for rows in torch.arange(number).split(max(1, _WINDOWS // length)):
        shown = [v[rows][:, place.clamp(min=0)].flatten(0, 1) for v in (x, y)]
        mask = (place >= 0).expand(len(rows), -1, -1).flatten(0, 1)
        asked = [v[rows, 1:].flatten(0, 1)[:, None] for v in (x, y)]
        noise = None if batch.noise is None else batch.noise[rows].repeat_interleave(length - 1)
        task = Task(Examples(shown[0], shown[1], mask), Examples(asked[0], asked[1]), batch.objective, noise=noise)
        found.append(learner.predict_queries(task, steps).reshape(len(rows), length - 1, -1))
    predicted = torch.cat([guesses[:, :1], torch.cat(found)], 1)
    return (predicted.cpu() - y).square().mean(-1), None, None
