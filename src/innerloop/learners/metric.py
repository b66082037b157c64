"""What learners for tasks of any number of classes share: how many there are, who belongs to them, which have support."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from innerloop.core import BaseLearner, Examples, Task
from innerloop.errors import InputError, ShapeError


class MetricLearner(BaseLearner):
    """A learner whose predictions have one column for each class of the task at hand, whatever its model returns.

    Looking at the support set is its one inner step; more steps change nothing.
    """

    inner_steps = 1
    eval_steps = 1
    any_ways = True
    at_a_look = True
    asks_unshown = False  # queries may be of classes that the support set lacks

    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        return (*of_model[:1], ways_of(tasks))

    def admit(self, tasks: Task) -> Task:
        """A batch of tasks that says how many classes there are, in the shape of ``class_ids``.

        Traced code cannot read that off the labels, so it is done where tasks come in. With ``class_ids`` there are as many
        classes as these; without, one more than the largest label of the batch.

        Raises:
            InputError: targets that are no labels, a label that is too large, or a class with queries and without support.
        """
        support, query = tasks.support, tasks.query
        if support.y.is_floating_point() or support.y.ndim != 2:
            raise InputError(
                "y expected integer labels, one an example, for a method that tells classes apart, got "
                f"{support.y.dtype} of shape {tuple(support.y.shape)}; "
                "give y.astype(int), or use a method that adapts by gradients"
            )
        labels = [side.y if side.mask is None else side.y.masked_fill(~side.mask, 0) for side in (support, query)]
        tops = [int(y.max()) for y in labels]
        ids = tasks.class_ids
        if ids is not None and max(tops) >= ids.shape[-1]:
            raise InputError(
                f"labels expected 0 to {ids.shape[-1] - 1} for tasks of {ids.shape[-1]} classes (class_ids), "
                f"got {max(tops)}; number each task's classes from 0 on"
            )
        if not self.asks_unshown:
            _expect_shown(support, query, max(tops) + 1)
        if ids is None:
            ids = torch.arange(max(tops) + 1, device=support.y.device).expand(len(support.y), -1)
        return dataclasses.replace(tasks, class_ids=ids)


class ValuesOrClasses(MetricLearner):
    """One that takes regressions, too: as many columns as there are values."""

    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        y = tasks.support.y
        if not y.is_floating_point():
            return super().prediction_shape(tasks, of_model)
        return (*of_model[:1], 1 if y.ndim == 2 else y.shape[-1])

    def admit(self, tasks: Task) -> Task:
        """Labels as for every method that compares classes; or values, (tasks, examples, outputs).

        Raises:
            ShapeError: values with more axes.
        """
        y = tasks.support.y
        if not y.is_floating_point():
            return super().admit(tasks)
        if y.ndim > 3:
            raise ShapeError(
                f"y expected one row of values an example, (tasks, examples, outputs), got {tuple(y.shape)}; "
                "flatten the targets"
            )
        return tasks


def ways_of(task: Task) -> int:
    """How many classes a task has that was admitted; of a batch or of one task."""
    assert task.class_ids is not None
    return task.class_ids.shape[-1]


def _expect_shown(support: Examples, query: Examples, ways: int) -> None:
    """InputError for a class with queries and without support."""
    shown, asked = (_present(side, ways).cpu() for side in (support, query))
    lacking = (asked & ~shown).nonzero().tolist()
    if lacking:
        task, label = lacking[0]
        raise InputError(
            f"every class with queries expected at least one support example, got none of class {label} in task "
            f"{task}; add one, or leave out the queries of that class"
        )


def _present(side: Examples, ways: int) -> Tensor:
    """Which classes have examples that count, (tasks, ways)."""
    hits = side.y[..., None] == torch.arange(ways, device=side.y.device)
    return (hits if side.mask is None else hits & side.mask[..., None]).any(1)


def members_of(y: Int64[Tensor, " examples"], ways: int, mask: Tensor | None = None) -> Bool[Tensor, "examples ways"]:
    """Which example belongs to which class, padding to none.

    Args:
        y: labels from 0 to ``ways - 1``.
        ways: how many classes.
        mask: (examples,) booleans, False for rows that do not count; None: all do.
    """
    members = y[:, None] == torch.arange(ways, device=y.device)
    return members if mask is None else members & mask[:, None]


def only_shown(
    logits: Float[Tensor, "queries ways"], counts: Float[Tensor, " ways"] | Int64[Tensor, " ways"]
) -> Float[Tensor, "queries ways"]:
    """-inf for a class without support; zeros, all classes alike, where no class has any."""
    found = counts > 0
    otherwise = torch.where(found.any(), logits.new_full((), -torch.inf), logits.new_zeros(()))
    return torch.where(found, logits, otherwise)


def shown_labels(query: Examples, counts: Tensor) -> Tensor:
    """The queries' labels, those of padding replaced by one of a class that has support.

    The loss of padding is multiplied by zero; were its label a class without support, that would be 0 * inf.
    """
    return query.y if query.mask is None else torch.where(query.mask, query.y, counts.argmax())


def class_means(
    z: Float[Tensor, "examples features"], y: Int64[Tensor, " examples"], ways: int, mask: Tensor | None = None
) -> tuple[Float[Tensor, "ways features"], Float[Tensor, " ways"]]:
    """The mean of each class's rows, zeros for a class without any; and how many rows each class has.

    Args:
        z: embeddings.
        y: labels from 0 to ``ways - 1``.
        ways: how many classes.
        mask: (examples,) booleans, False for rows that do not count; None: all do.
    """
    sums, counts = class_sums(z, y, ways, mask)
    return sums / counts.clamp(min=1.0)[:, None], counts


def class_sums(
    z: Float[Tensor, "examples features"], y: Int64[Tensor, " examples"], ways: int, mask: Tensor | None = None
) -> tuple[Float[Tensor, "ways features"], Float[Tensor, " ways"]]:
    """The sum of each class's rows, and how many rows each class has; arguments as for `class_means`."""
    weight = members_of(y, ways, mask).to(z.dtype)
    return weight.T @ z, weight.sum(0)
