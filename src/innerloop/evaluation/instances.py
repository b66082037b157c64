"""Accuracy by how often a class was shown: the first example of a class in a sequence, the second, ..., the tenth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from innerloop.core import Examples, Meta, Task, TaskDistribution
from innerloop.errors import ConfigError, InputError
from innerloop.evaluation.evaluate import in_batches, mean_ci95
from innerloop.meta_learner.meta_learner import MetaLearner


@runtime_checkable
class PredictsAlong(Protocol):
    """A learner that predicts each example of a sequence before it is told the label.

    Attributes:
        outputs: of a prediction.
    """

    outputs: int

    def along(self, meta: Meta, task: Task) -> tuple[Float[Tensor, "time outputs"], Examples]:
        """Predictions along one random sequence of all examples of a task; the sequence."""
        ...


@dataclasses.dataclass(frozen=True)
class InstanceReport:
    """Attributes:
    instances: which presentations of a class.
    mean: accuracy at each, a fraction.
    ci95: its half-width over tasks, 1.96 sd / sqrt(n).
    per_task: one value a task at each instance.
    num_tasks, seed, split: which tasks.
    """

    instances: tuple[int, ...]
    mean: tuple[float, ...]
    ci95: tuple[float, ...]
    per_task: tuple[tuple[float, ...], ...]
    num_tasks: int
    seed: int
    split: str


def by_instance(
    learner: MetaLearner,
    tasks: TaskDistribution,
    *,
    instances: Sequence[int] = (1, 2, 5, 10),
    num_tasks: int = 600,
    seed: int = 0,
) -> InstanceReport:
    """Accuracy at the i-th presentation of a class, along one random sequence of all examples of each task.

    The protocol of Santoro et al. 2016 (arXiv:1605.06065, table 1): sequences of 50 pictures are 5 classes with 10 examples each
    (``shots + queries`` here, whichever is which). At its first presentation a class can only be guessed.

    Args:
        learner: one that reads its task as a sequence.
        tasks: one split of a classification problem.
        instances: which presentations.
        num_tasks: how many tasks.
        seed: which tasks, as in `evaluate`.

    Raises:
        ConfigError: a learner that does not predict along a sequence, or numbers below 1.
        InputError: targets that are no labels, or a class with fewer examples than the largest instance.
    """
    reader = learner.learner.in_evaluation()
    if not isinstance(reader, PredictsAlong):
        raise ConfigError(
            f"accuracy by instance expected a method that reads a sequence, got {learner.name}; use evaluate"
        )
    if num_tasks < 1 or not instances or min(instances) < 1:
        raise ConfigError(f"num_tasks and instances expected numbers from 1 up, got {num_tasks} and {tuple(instances)}")

    def run(meta: Meta, task: Task) -> tuple[Tensor, Tensor]:
        prediction, judged = reader.along(meta, task)
        number = instance_numbers(judged.y, reader.outputs)
        counts = torch.ones_like(judged.y, dtype=torch.bool) if judged.mask is None else judged.mask
        right = (prediction.argmax(-1) == judged.y).to(torch.float64)
        wanted = torch.stack([(number == i) & counts for i in instances]).to(torch.float64)
        return (wanted * right).sum(-1), wanted.sum(-1)

    found: list[Tensor] = []
    for drawn in in_batches(tasks, num_tasks, seed=seed):
        batch = learner.ready(drawn, 0)
        if batch.support.y.is_floating_point():
            raise InputError(f"accuracy by instance expected integer labels, got {batch.support.y.dtype}; use evaluate")
        right, shown = learner.engine.map(run, learner.meta(), batch)
        if not bool(shown.all()):
            lacking = max(i for i, n in zip(instances, shown.min(0).values.tolist(), strict=True) if not n)
            raise InputError(
                f"no class of some task is shown {lacking} times; raise shots or queries, or leave out instance {lacking}"
            )
        found.append(right / shown)
    values = torch.cat(found).T.tolist()
    intervals = [mean_ci95(row) for row in values]
    return InstanceReport(
        tuple(instances),
        tuple(mean for mean, _ in intervals),
        tuple(ci95 for _, ci95 in intervals),
        tuple(tuple(row) for row in values),
        num_tasks,
        seed,
        tasks.split,
    )


def instance_numbers(y: Int64[Tensor, " time"], ways: int) -> Int64[Tensor, " time"]:
    """How often the class of each example has been shown, the example itself included: 1 at its first presentation."""
    members = (y[:, None] == torch.arange(ways, device=y.device)).to(torch.int64)
    return (members.cumsum(0) * members).sum(-1)
