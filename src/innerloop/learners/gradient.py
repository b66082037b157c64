"""A learner that adapts by gradient steps on its support loss: MAML and its relatives."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from innerloop import keys, losses
from innerloop.core import BaseLearner, Examples, Meta, Task, UpdateRule
from innerloop.functional import PureModel, inner_gradient
from innerloop.records import record, static

# Salts that keep the task's noise for different purposes apart.
_BATCHES, _SUPPORT_PASS, _QUERY_PASS = 11, 12, 13
_BY_THE_OTHERS: Any = None  # the default of a field that follows from the other fields


@record
class GradientFast:
    """What a gradient learner adapts.

    Attributes:
        params: the adapted parameters by name.
        state: the update rule's.
        buffers: running statistics as they are in this task.
        noise: the task's key.
        step: how many updates came before.
        objective: the task's, for the support loss.
    """

    params: dict[str, Tensor]
    state: Any
    buffers: dict[str, Tensor]
    noise: Tensor | None = None
    step: int = static(0)
    objective: str | losses.Loss | None = static(None)


@dataclasses.dataclass(frozen=True, eq=False)
class GradientLearner(BaseLearner):
    """``fast <- rule(fast, grad of the support loss)``, repeated.

    Args:
        model: the pure model.
        rule: how a gradient becomes an update.
        adapted: names of the parameters that the inner loop changes; the others are shared by all tasks. None: all that train.
        inner_steps, eval_steps: updates in meta-training and on a new task (None: as many).
        loss: a loss function or name; None: the task's, else by the targets' dtype.
        first_order: stop the outer gradient at the inner gradient.
        inner_batch: examples in an inner step, drawn without replacement pass by pass from the support set; None: all.
        eval_batch: the same on a new task; None: ``inner_batch``.
        backprop_steps: of the ``inner_steps`` updates, how many of the last ones the outer gradient goes back through; what the
            earlier ones changed is held constant. None: all.
        per_step: names of norm parameters that have values of their own after each inner step (MAML++).
        training: meta-training (statistics recorded, dropout on) or evaluation.
    """

    model: PureModel
    rule: UpdateRule
    adapted: tuple[str, ...] = _BY_THE_OTHERS
    inner_steps: int = 1
    eval_steps: int = _BY_THE_OTHERS
    loss: str | losses.Loss | None = None
    first_order: bool = False
    inner_batch: int | None = None
    eval_batch: int | None = None
    per_step: tuple[str, ...] = ()
    training: bool = True
    backprop_steps: int | None = None

    def __post_init__(self) -> None:
        if self.adapted is None:
            trainable = tuple(name for name, p in self.model.module.named_parameters() if p.requires_grad)
            object.__setattr__(self, "adapted", trainable)
        if self.eval_steps is None:
            object.__setattr__(self, "eval_steps", self.inner_steps)

    looks_back = False  # inner steps depend on the initial parameters in other ways than through where they have led

    @property
    def judged_at_end(self) -> bool:
        """Whether the outer loss is the query loss after the last inner step and nothing else."""
        return type(self).meta_loss is GradientLearner.meta_loss

    def init_rule(self, params: Any, generator: torch.Generator | None) -> dict[str, Tensor]:
        found = self.rule.init_meta({name: params[name] for name in self.adapted}, generator)
        for name in self.per_step:
            p = params[name].detach()
            found[f"per_step/{name}"] = p.expand(self.inner_steps, *p.shape).clone()
        return found

    def init_buffers(self) -> dict[str, Tensor]:
        return self.model.running_buffers()

    def init(self, meta: Meta, task: Task) -> GradientFast:
        params = {name: meta.params[name] for name in self.adapted}
        state = self.rule.init(meta.rule, params)
        return GradientFast(params, state, meta.buffers, task.noise, 0, task.objective)

    def in_evaluation(self) -> GradientLearner:
        return dataclasses.replace(self, training=False)

    def batch(self, task: Task, i: int) -> Examples:
        size = self.inner_batch if self.training or self.eval_batch is None else self.eval_batch
        total = task.support.y.shape[0]
        if size is None or size >= total or task.noise is None:
            return task.support
        # Pass after pass through the support set, each in a new order; a batch may span two passes.
        positions = range(i * size, (i + 1) * size)
        passes = {p // total for p in positions}
        orders = {p: keys.permutation(keys.fold(task.noise, _BATCHES), total, salt=p) for p in passes}
        rows = torch.stack([orders[p // total][p % total] for p in positions])
        side = task.support
        return Examples(side.x[rows], side.y[rows], None if side.mask is None else side.mask[rows])

    def step(self, meta: Meta, fast: GradientFast, batch: Examples, i: int) -> GradientFast:
        if self.backprop_steps is None or i >= self.inner_steps - self.backprop_steps:
            return self._step(meta, fast, batch, i)
        with torch.no_grad():
            found = self._step(meta, fast, batch, i)
        # Held constant is where the steps went, not where they are: else the initial parameters would get no gradient.
        params = {name: meta.params[name] + (p - meta.params[name]).detach() for name, p in found.params.items()}
        return dataclasses.replace(found, params=params)

    def support_loss(
        self, meta: Meta, fast: GradientFast, adapted: dict[str, Tensor], batch: Examples
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What an inner step descends, at these adapted parameters, and the running statistics after this pass."""
        prediction, buffers = self.forward(meta, fast, adapted, batch.x, batch.mask, _SUPPORT_PASS)
        loss_function = losses.resolve(self.loss or fast.objective, batch.y)
        return losses.objective(loss_function, prediction, batch.y, batch.mask), buffers

    def _step(self, meta: Meta, fast: GradientFast, batch: Examples, i: int) -> GradientFast:
        def inner_loss(adapted: dict[str, Tensor]) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
            value, buffers = self.support_loss(meta, fast, adapted, batch)
            return value, (value, buffers)

        grads, (value, buffers) = inner_gradient(inner_loss, fast.params, self.first_order)
        params, state = self.rule.update(meta.rule, grads, fast.state, fast.params, loss=value.detach(), step=i)
        return dataclasses.replace(fast, params=params, state=state, buffers=buffers, step=fast.step + 1)

    def predict(self, meta: Meta, fast: GradientFast, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.forward(meta, fast, fast.params, x, mask, _QUERY_PASS)[0]

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        fast = self.adapt(meta, task, self.inner_steps)
        loss, prediction, buffers = self.query_loss(meta, fast, task)
        return loss, {"metrics": query_metrics(loss, prediction, task, self.loss), "buffers": buffers}

    def query_loss(self, meta: Meta, fast: GradientFast, task: Task) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(loss, prediction, running statistics) on the query set at the fast parameters."""
        query = task.query
        prediction, buffers = self.forward(meta, fast, fast.params, query.x, query.mask, _QUERY_PASS)
        loss_function = losses.resolve(self.loss or task.objective, query.y)
        return losses.objective(loss_function, prediction, query.y, query.mask), prediction, buffers

    def forward(
        self,
        meta: Meta,
        fast: GradientFast,
        adapted: dict[str, Tensor],
        x: Tensor,
        mask: Tensor | None,
        purpose: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The model at (shared, adapted) parameters and the running statistics after this pass."""
        params = {**meta.params, **adapted}
        if fast.step:
            row = min(fast.step, self.inner_steps) - 1
            params.update({name: meta.rule[f"per_step/{name}"][row] for name in self.per_step})
        noise = None
        if self.training and fast.noise is not None and self.model.draws_noise:
            noise = keys.fold(keys.fold(fast.noise, purpose), fast.step)
        return self.model.apply(params, fast.buffers, x, mask=mask, step=fast.step, training=self.training, noise=noise)


def query_metrics(loss: Tensor, prediction: Tensor, task: Task, given: str | losses.Loss | None) -> dict[str, Tensor]:
    """The outer loss and, for classification, the accuracy, detached."""
    query = task.query
    found = {"loss": loss.detach()}
    if losses.judges_labels(losses.resolve(given or task.objective, query.y), prediction, query.y):
        found["accuracy"] = losses.accuracy(prediction.detach(), query.y, query.mask)
    return found
