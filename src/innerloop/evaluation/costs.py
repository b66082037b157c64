"""What it takes to adapt to one new task and answer its queries: seconds, and bytes of tensors."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from innerloop.core import Task, TaskDistribution
from innerloop.engine.memory import peak_bytes
from innerloop.errors import ConfigError
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.objectives.losses import is_labelled

ROUNDS = 10


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one task, from its support set to the predictions of all its queries.

    Attributes:
        seconds: the least of several rounds: what else runs on the machine can only add to it.
        peak_bytes: of the tensors alive at once, beyond the learner and the task's data. What kernels use inside themselves is
            not seen.
    """

    seconds: float
    peak_bytes: int


def costs(
    learners: Mapping[str, MetaLearner], tasks: TaskDistribution, *, seed: int = 0, rounds: int = ROUNDS
) -> dict[str, Cost]:
    """The cost of each learner, in turns on the same tasks, with its own ``eval_steps`` and protocol.

    Tasks are taken one at a time, as a user has them. The learners take turns, so that a busy minute of the machine falls on
    all of them.

    Args:
        learners: by label.
        tasks: one split of a problem.
        seed: which tasks; round i is on task i.
        rounds: how often each learner is timed; the least counts.

    Raises:
        ConfigError: ``rounds`` below 1.
    """
    if rounds < 1:
        raise ConfigError(f"rounds expected at least 1, got {rounds}; leave it out for {ROUNDS}")
    drawn = tasks.at(seed, 0, rounds)
    each = [pytree.tree_map(lambda v, i=i: v[i : i + 1], drawn) for i in range(rounds)]
    # The memory trial comes first: it also pays for what only a first call costs.
    held = {label: _peak(learner, each[0]) for label, learner in learners.items()}
    seconds = dict.fromkeys(learners, float("inf"))
    for task in each:
        for label, learner in learners.items():
            seconds[label] = min(seconds[label], _timed(learner, task))
    return {label: Cost(seconds[label], held[label]) for label in learners}


def _peak(learner: MetaLearner, task: Task) -> int:
    found = peak_bytes(lambda _, one: _answer(learner, one), learner.meta(), task)
    assert found is not None  # no limit was given
    return found


def _timed(learner: MetaLearner, task: Task) -> float:
    _wait(learner.device)
    started = time.perf_counter()
    _answer(learner, task)
    _wait(learner.device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _answer(learner: MetaLearner, tasks: Task) -> Any:
    """Adapt to tasks and answer what they ask, whatever their data mean."""
    return learner.predict_queries(tasks) if is_labelled(tasks.objective) else learner.measure_queries(tasks)
