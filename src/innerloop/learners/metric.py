"""Learners that compare embeddings: tasks of any number of classes fit the same model, and nothing of it is adapted."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from innerloop import keys, losses
from innerloop.core import BaseLearner, Examples, Meta, Task, record, static
from innerloop.errors import InputError
from innerloop.functional import PureModel
from innerloop.learners.gradient import query_metrics

_TRAINING_PASS = 31  # keeps the noise of the one pass in training apart from what else draws from a task's key


class MetricLearner(BaseLearner):
    """A learner whose predictions have one column for each class of the task at hand, whatever its model returns.

    Looking at the support set is its one inner step; more steps change nothing.
    """

    inner_steps = 1
    eval_steps = 1
    any_ways = True

    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        return (*of_model[:1], ways_of(tasks))

    def admit(self, tasks: Task) -> Task:
        """A batch of tasks that says how many classes there are, in the shape of ``class_ids``.

        Traced code cannot read that off the labels, so it is done where tasks come in. With ``class_ids`` there are as many
        classes as these; without, one more than the largest label of a support set of the batch.

        Raises:
            InputError: targets that are no labels, a label that is too large, or a class with queries and without support.
        """
        support, query = tasks.support, tasks.query
        if support.y.is_floating_point() or support.y.ndim != 2:
            raise InputError(
                "y expected integer labels, one an example, for a method that tells classes apart, got "
                f"{support.y.dtype} of shape {tuple(support.y.shape)}; use a method that adapts by gradients"
            )
        labels = [side.y if side.mask is None else side.y.masked_fill(~side.mask, 0) for side in (support, query)]
        tops = [int(y.max()) for y in labels]
        ids = tasks.class_ids
        if ids is not None and max(tops) >= ids.shape[-1]:
            raise InputError(
                f"labels expected 0 to {ids.shape[-1] - 1} for tasks of {ids.shape[-1]} classes (class_ids), "
                f"got {max(tops)}; number each task's classes from 0 on"
            )
        shown, asked = (_present(side, max(tops) + 1).cpu() for side in (support, query))
        lacking = (asked & ~shown).nonzero().tolist()
        if lacking:
            task, label = lacking[0]
            raise InputError(
                f"every class with queries expected at least one support example, got none of class {label} in task "
                f"{task}; add one, or leave out the queries of that class"
            )
        if ids is None:
            ids = torch.arange(tops[0] + 1, device=support.y.device).expand(len(support.y), -1)
        return dataclasses.replace(tasks, class_ids=ids)


def ways_of(task: Task) -> int:
    """How many classes a task has that was admitted; of a batch or of one task."""
    assert task.class_ids is not None
    return task.class_ids.shape[-1]


def _present(side: Examples, ways: int) -> Tensor:
    """Which classes have examples that count, (tasks, ways)."""
    hits = side.y[..., None] == torch.arange(ways, device=side.y.device)
    return (hits if side.mask is None else hits & side.mask[..., None]).any(1)


@record
class PrototypeFast:
    """What a prototype learner knows of a task.

    Attributes:
        prototypes: (ways, features) means of each class's embeddings; zeros before the first step, and without support.
        counts: (ways,) how many support examples each class has.
        step: how many steps came before.
    """

    prototypes: Tensor
    counts: Tensor
    step: int = static(0)


@dataclasses.dataclass(frozen=True, eq=False)
class PrototypeLearner(MetricLearner):
    """Logits are minus the squared Euclidean distances to the mean embedding of each class's support examples.

    In meta-training support and query set go through the network together, as in the authors' code, so batch norm takes its
    statistics over both.

    Args:
        model: the pure model; its output is the embedding, flattened to (examples, features).
        loss: a loss function or name; None: the task's, else cross-entropy.
        training: meta-training (statistics recorded, dropout on) or evaluation.
    """

    model: PureModel
    loss: str | losses.Loss | None = None
    training: bool = True

    def init_buffers(self) -> dict[str, Tensor]:
        return self.model.running_buffers()

    def in_evaluation(self) -> PrototypeLearner:
        return dataclasses.replace(self, training=False)

    def init(self, meta: Meta, task: Task) -> PrototypeFast:
        one, _ = self.embed(meta, task.support.x[:1])  # only the model knows how long its embeddings are
        return PrototypeFast(one.new_zeros(ways_of(task), one.shape[-1]), one.new_zeros(ways_of(task)))

    def step(self, meta: Meta, fast: PrototypeFast, batch: Examples, i: int) -> PrototypeFast:
        if fast.step:
            return fast
        z, _ = self.embed(meta, batch.x, batch.mask)
        return PrototypeFast(*class_means(z, batch.y, fast.counts.shape[-1], batch.mask), step=1)

    def predict(self, meta: Meta, fast: PrototypeFast, x: Tensor, mask: Tensor | None = None) -> Tensor:
        z, _ = self.embed(meta, x, mask)
        return distance_logits(z, fast.prototypes, fast.counts)

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        support, query = task.support, task.query
        sides, mask = (support, query), None
        if support.mask is not None or query.mask is not None:
            masks = [torch.ones_like(s.y, dtype=torch.bool) if s.mask is None else s.mask for s in sides]
            mask = torch.cat(masks)
        z, buffers = self.embed(meta, torch.cat([s.x for s in sides]), mask, task.noise)
        shots = support.y.shape[0]
        prototypes, counts = class_means(z[:shots], support.y, ways_of(task), support.mask)
        logits = distance_logits(z[shots:], prototypes, counts)
        y = query.y
        if query.mask is not None:
            # The loss of padding is multiplied by zero; were its label a class without support, that would be 0 * inf.
            y = torch.where(query.mask, y, counts.argmax())
        function = losses.resolve(self.loss or task.objective, y)
        loss = losses.objective(function, logits, y, query.mask)
        return loss, {"metrics": query_metrics(loss, logits, task, self.loss), "buffers": buffers}

    def embed(
        self, meta: Meta, x: Tensor, mask: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Float[Tensor, "examples features"], dict[str, Tensor]]:
        """Embeddings of the examples, and the running statistics after this pass."""
        drawn = keys.fold(noise, _TRAINING_PASS) if self.model.draws_noise and noise is not None else None
        z, buffers = self.model.apply(meta.params, meta.buffers, x, mask=mask, training=self.training, noise=drawn)
        return z.reshape(z.shape[0], -1), buffers


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
    members = y[:, None] == torch.arange(ways, device=y.device)
    weight = (members if mask is None else members & mask[:, None]).to(z.dtype)
    counts = weight.sum(0)
    return weight.T @ z / counts.clamp(min=1.0)[:, None], counts


def distance_logits(
    z: Float[Tensor, "examples features"],
    prototypes: Float[Tensor, "ways features"],
    counts: Float[Tensor, " ways"],
) -> Float[Tensor, "examples ways"]:
    """Minus the squared distances; -inf for a class without support, unless no class has any."""
    distances = (z[:, None] - prototypes).square().sum(-1)
    found = counts > 0
    return torch.where(found | ~found.any(), -distances, -torch.inf)
