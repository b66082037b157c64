"""A learner that adapts by gradient steps on its support loss: MAML and its relatives."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop import keys
from innerloop.core import BaseLearner, Examples, Meta, Objective, Task, UpdateRule, length
from innerloop.errors import ConfigError
from innerloop.functional import PureModel, inner_gradient
from innerloop.objectives import losses
from innerloop.records import record, static

# Salts that keep the task's noise for different purposes apart.
_BATCHES, _SUPPORT_PASS, _QUERY_PASS, _START, _DRAWN = 11, 12, 13, 14, 16
_SORTED_ROWS = 4096  # more take too long to sort at each inner step
_BY_THE_OTHERS: Any = None  # the default of a field that follows from the other fields


@record
class GradientFast:
    """What a gradient learner adapts.

    Attributes:
        params: the adapted parameters by name.
        state: the update rule's.
        buffers: running statistics as they are in this task.
        noise: the task's key.
        count: how many updates came before, as a tensor, where the tasks of a batch are at different places; else None.
        step: how many updates came before.
        objective: the task's, for the support loss.
    """

    params: dict[str, Tensor]
    state: Any
    buffers: dict[str, Tensor]
    noise: Tensor | None = None
    count: Tensor | None = None
    step: int = static(0)
    objective: Any = static(None)

    @property
    def steps_taken(self) -> int | Tensor:
        return self.step if self.count is None else self.count


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
        ordered: inner batches follow each other as the support side lies, for streams; else each pass has a new order.
        start: where the inner loop begins: ``start(meta's adapted parameters, the task's key)`` gives the weights, such as
            `drawn_weights`; None: at meta's.
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
    ordered: bool = False
    start: Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]] | None = None

    any_data = True
    adapts_by_gradients = True

    def __post_init__(self) -> None:
        if self.adapted is None:
            trainable = tuple(name for name, p in self.model.module.named_parameters() if p.requires_grad)
            object.__setattr__(self, "adapted", trainable)
        if self.eval_steps is None:
            object.__setattr__(self, "eval_steps", self.inner_steps)

    looks_back = False  # inner steps depend on the initial parameters in other ways than through where they have led

    @property
    def judged_at_end(self) -> bool:
        return type(self).meta_loss is GradientLearner.meta_loss

    @property
    def truncates(self) -> bool:
        return type(self).step is GradientLearner.step

    def init_rule(self, params: Any, generator: torch.Generator | None) -> dict[str, Tensor]:
        found = self.rule.init_meta({name: params[name] for name in self.adapted}, generator)
        for name in self.per_step:
            p = params[name].detach()
            # All steps begin from the model's own; the outer loop takes them apart.
            found[f"per_step/{name}"] = p.expand(self.inner_steps, *p.shape).clone()
        return found

    def init_buffers(self) -> dict[str, Tensor]:
        return self.model.running_buffers()

    def init(self, meta: Meta, task: Task) -> GradientFast:
        params = {name: meta.params[name] for name in self.adapted}
        if self.start is not None:
            if task.noise is None:
                raise ConfigError("weights drawn for each task expected tasks with a key (noise), got none")
            params = self.start(params, keys.fold(task.noise, _START))
        # No copy: steps make new tensors, and the graph of these leads back to meta.
        state = self.rule.init(meta.rule, params)
        return GradientFast(params, state, meta.buffers, task.noise, objective=task.objective)

    def adapt(
        self,
        meta: Meta,
        task: Task,
        steps: int,
        observe: Callable[[Any, int], None] | None = None,
        *,
        fast: Any = None,
        first: int | Tensor = 0,
    ) -> Any:
        fast = self.init(meta, task) if fast is None else fast
        task = self._embedded(meta, fast, task) if steps > 1 else task
        return super().adapt(meta, task, steps, observe, fast=fast, first=first)

    def _embedded(self, meta: Meta, fast: GradientFast, task: Task) -> Task:
        """The task with what layers make of its support set that no inner step changes, where every step sees all of it."""
        support, moving = task.support, (*self.adapted, *self.per_step)
        labelled = isinstance(support, Examples) and isinstance(self.objective(task.objective), losses.Supervised)
        if not labelled or self._batch_size(task) is not None or not self._takes_usual_steps:
            return task
        # A first-order gradient does not go back through what inner steps see.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.first_order):
            params = meta.params | {name: fast.params[name] for name in self.adapted}
            seen = self.model.see(
                params, fast.buffers, support.x, mask=support.mask, training=self.training, moving=moving
            )
        return task if seen is None else dataclasses.replace(task, support=dataclasses.replace(support, x=seen))

    @property
    def _takes_usual_steps(self) -> bool:
        """Whether no class of somebody's own says what an inner step sees and descends."""
        passes = ("step", "batch", "support_loss", "forward")
        return all(getattr(type(self), name).__module__.startswith("innerloop.") for name in passes)

    def in_evaluation(self) -> GradientLearner:
        return dataclasses.replace(self, training=False)

    def objective(self, given: Any) -> Objective:
        """What this learner descends, for tasks with this objective."""
        return losses.as_objective(given if self.loss is None else self.loss)

    def batch(self, task: Task, i: int | Tensor) -> Any:
        data = self.objective(task.objective).data
        size, total = self._batch_size(task), length(task.support)
        if size is None:
            return data(task.support, task.shared)
        mask = task.support.mask if isinstance(task.support, Examples) else None
        rows = self._rows(task.noise, i, size, total) if mask is None else self._counted(task.noise, i, size, mask)
        return data(pytree.tree_map(lambda v: v[rows], task.support), task.shared)

    def _batch_size(self, task: Task) -> int | None:
        """How many examples an inner step sees; None: all."""
        size = self.inner_batch if self.training or self.eval_batch is None else self.eval_batch
        if size is None or size >= length(task.support) or (task.noise is None and not self.ordered):
            return None
        return size

    def _rows(self, noise: Tensor | None, i: int | Tensor, size: int, total: int) -> Tensor:
        """Which examples inner step ``i`` sees, (size,): pass after pass through the support side.

        Up to `_SORTED_ROWS` rows an order is sorted, as it always was; beyond, the rows are found one by one (`keys.places`).
        """
        if self.ordered or noise is None:
            device = i.device if isinstance(i, Tensor) else None if noise is None else noise.device
            return (i * size + torch.arange(size, device=device)) % total
        # Each pass in a new order; a batch may span two passes.
        key = keys.fold(noise, _BATCHES)
        if total > _SORTED_ROWS:
            position = i * size + torch.arange(size, device=noise.device)
            return keys.places(keys.fold(key, position // total), position % total, total)
        if not isinstance(i, Tensor):
            positions = range(i * size, (i + 1) * size)
            orders = {p: keys.permutation(key, total, salt=p) for p in {p // total for p in positions}}
            return torch.stack([orders[p // total][p % total] for p in positions])
        position = i * size + torch.arange(size, device=i.device)
        # Where `i` is a tensor nobody knows which passes a batch touches, but never more than two: it is no larger than a pass.
        first = i * size // total
        orders = torch.cat([keys.permutation(key, total, salt=first + k) for k in range(2)])
        return orders[position - first * total]

    def _counted(self, noise: Tensor | None, i: int | Tensor, size: int, mask: Tensor) -> Tensor:
        """`_rows` of a support set with padding, which no batch holds: pass after pass through the rows that count."""
        position = i * size + torch.arange(size, device=mask.device)
        number = mask.sum().clamp(min=1)
        if self.ordered or noise is None:
            return (~mask).long().argsort(stable=True)[position % number]
        # An order for each position: how many rows count is a tensor under vmap, so orders cannot be shared pass by pass.
        drawn = keys.bits(keys.fold(keys.fold(noise, _BATCHES), position // number), (len(mask),))
        orders = drawn.masked_fill(~mask, torch.iinfo(torch.int64).max).argsort(-1)
        return orders.gather(1, (position % number)[:, None])[:, 0]

    def step(self, meta: Meta, fast: GradientFast, batch: Any, i: int | Tensor) -> GradientFast:
        if self.backprop_steps is None or i >= self.inner_steps - self.backprop_steps:  # a number here: see Truncated
            return self._step(meta, fast, batch, i)
        with torch.no_grad():
            found = self._step(meta, fast, batch, i)
        # Held constant is where the steps went, not where they are: else the initial parameters would get no gradient.
        params = {name: meta.params[name] + (p - meta.params[name]).detach() for name, p in found.params.items()}
        return dataclasses.replace(found, params=params)

    def support_loss(
        self, meta: Meta, fast: GradientFast, adapted: dict[str, Tensor], batch: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What an inner step descends, at these adapted parameters, and the running statistics after this pass."""
        model = _Applied(self, meta, fast, adapted, _SUPPORT_PASS)
        objective = self.objective(fast.objective)
        return objective.loss(model, batch, self._key(objective, fast, _SUPPORT_PASS)), model.buffers

    def _key(self, objective: Objective, fast: GradientFast, purpose: int) -> Tensor | None:
        """What an objective draws from at this step; None where it draws nothing."""
        if not objective.draws or fast.noise is None:
            return None
        return keys.fold(keys.fold(keys.fold(fast.noise, _DRAWN), purpose), fast.steps_taken)

    def _step(self, meta: Meta, fast: GradientFast, batch: Any, i: int | Tensor) -> GradientFast:
        def inner_loss(adapted: dict[str, Tensor]) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
            value, buffers = self.support_loss(meta, fast, adapted, batch)
            return value, (value, buffers)

        grads, (value, buffers) = inner_gradient(inner_loss, fast.params, self.first_order)
        params, state = self.rule.update(meta.rule, grads, fast.state, fast.params, loss=value.detach(), step=i)
        if fast.count is not None:
            return dataclasses.replace(fast, params=params, state=state, buffers=buffers, count=fast.count + 1)
        return dataclasses.replace(fast, params=params, state=state, buffers=buffers, step=fast.step + 1)

    def counted(self, fast: GradientFast, count: Tensor | None) -> GradientFast:
        return dataclasses.replace(fast, count=count, step=0)

    def predict(self, meta: Meta, fast: GradientFast, x: Any, mask: Tensor | None = None) -> Any:
        return self.as_model(meta, fast)(x, mask=mask)

    def as_model(self, meta: Meta, fast: GradientFast) -> _Applied:
        return _Applied(self, meta, fast, fast.params, _QUERY_PASS)

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        fast = self.adapt(meta, task, self.inner_steps)
        loss, metrics, buffers = self.query_loss(meta, fast, task)
        return loss, {"metrics": metrics, "buffers": buffers}

    def query_loss(
        self, meta: Meta, fast: GradientFast, task: Task
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """(loss, what training logs, running statistics) on the query side at the fast parameters."""
        model, objective = self.as_model(meta, fast), self.objective(task.objective)
        query = objective.data(task.query, task.shared)
        if isinstance(objective, losses.Supervised):
            prediction = model(query.x, mask=query.mask)
            loss = objective.judge(prediction, query)
            judged = dataclasses.replace(task, query=query)
            return loss, query_metrics(loss, prediction, judged, self.loss), model.buffers
        loss = objective.loss(model, query, self._key(objective, fast, _QUERY_PASS))
        return loss, {"loss": loss.detach()}, model.buffers

    def forward(
        self,
        meta: Meta,
        fast: GradientFast,
        adapted: dict[str, Tensor],
        *x: Any,
        mask: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Any, dict[str, Tensor]]:
        """The model at (shared, adapted) parameters and the running statistics after this pass."""
        params, taken = {**meta.params, **adapted}, fast.steps_taken
        counted = isinstance(taken, Tensor)
        if counted and self.model.has_batch_norm and self.model.batch_norm == "per_step":
            raise ConfigError("per-step batch norm expected tasks that are in step, got steps counted in a tensor")
        if self.per_step and counted:
            row = taken.clamp(1, self.inner_steps) - 1
            own = {name: meta.rule[f"per_step/{name}"][row] for name in self.per_step}
            params.update({name: torch.where(taken > 0, p, params[name]) for name, p in own.items()})
        elif self.per_step and fast.step:
            row = min(fast.step, self.inner_steps) - 1
            params.update({name: meta.rule[f"per_step/{name}"][row] for name in self.per_step})
        step = fast.step
        return self.model.apply(params, fast.buffers, *x, mask=mask, step=step, training=self.training, noise=noise)


def by_gradients(learner: BaseLearner) -> TypeGuard[GradientLearner]:
    """Whether a learner has all that a `GradientLearner` has; its own word counts, not its class."""
    return learner.adapts_by_gradients


class _Applied:
    """The model at some parameters, as an objective calls it; running statistics go on from call to call.

    Attributes:
        buffers: the running statistics by now.
    """

    def __init__(
        self, learner: GradientLearner, meta: Meta, fast: GradientFast, adapted: dict[str, Tensor], purpose: int
    ) -> None:
        self.learner: GradientLearner = learner
        self.meta: Meta = meta
        self.fast: GradientFast = fast
        self.adapted: dict[str, Tensor] = adapted
        self.buffers: dict[str, Tensor] = fast.buffers
        self.noise: Tensor | None = None
        if learner.training and fast.noise is not None and learner.model.draws_noise:
            # By the step, so each inner step drops out others; by the purpose, so support and query do not drop out the same.
            self.noise = keys.fold(keys.fold(fast.noise, purpose), fast.steps_taken)
        self.calls: int = 0

    def __call__(self, *x: Any, mask: Tensor | None = None) -> Any:
        noise = self.noise if self.noise is None or not self.calls else keys.fold(self.noise, self.calls)
        fast = self.fast if not self.calls else dataclasses.replace(self.fast, buffers=self.buffers)
        found, self.buffers = self.learner.forward(self.meta, fast, self.adapted, *x, mask=mask, noise=noise)
        self.calls += 1
        return found


def drawn_weights(params: dict[str, Tensor], key: Tensor) -> dict[str, Tensor]:
    """Fresh weights of these shapes for one task: normal with deviation 1 / sqrt(inputs), zeros for what has one axis."""
    return {
        name: keys.normal(key, p.shape, i, p.dtype) / math.sqrt(math.prod(p.shape[1:]))
        if p.ndim > 1
        else torch.zeros_like(p)
        for i, (name, p) in enumerate(params.items())
    }


def query_metrics(loss: Tensor, prediction: Tensor, task: Task, given: str | losses.Loss | None) -> dict[str, Tensor]:
    """The outer loss and, for classification, the accuracy, detached."""
    query = task.query
    found = {"loss": loss.detach()}
    if losses.judges_labels(losses.resolve(given or task.objective, query.y), prediction, query.y):
        found["accuracy"] = losses.accuracy(prediction.detach(), query.y, query.mask)
    return found
