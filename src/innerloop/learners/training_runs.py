"""A learner whose task is a training run: what it has learned is the optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop import keys
from innerloop.core import BaseLearner, Examples, Meta, Task, UpdateRule
from innerloop.functional import inner_gradient
from innerloop.objectives.training_run import TrainingRun
from innerloop.records import record, static
from innerloop.rules.learned import LearnedRule

_NOISE = 32  # keeps the key of a step's noise (dropout) apart from what else is drawn from a task's key
_LEAST = 1e-8  # of a loss whose logarithm is taken
_END_POWER = 4  # step t of a run of T weighs (t / T) ^ 4 where the end is the goal


@record
class Run:
    """A training run under way.

    Attributes:
        params: the network's weights.
        state: the update rule's.
        total: of the losses that its steps saw.
        taken: how many steps they were, ().
        noise: the task's key.
        objective: the task's.
    """

    params: dict[str, Tensor]
    state: Any
    total: Tensor
    taken: Tensor
    noise: Tensor | None = None
    objective: Any = static(None)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingRuns(BaseLearner):
    """``weights <- rule(weights, gradient on the batch of the step)``; the outer parameters are the rule's own.

    The outer loss of a run is a mean of the losses at its weights 1, 2, ... T, each on the batch that the next step sees, which
    the weights have not been trained on.

    Args:
        rule: the update rule; its parameters are `Meta.params`.
        inner_steps, eval_steps: of the longest run.
        first_order: the derivative of a run's gradients by its weights is dropped, as in Andrychowicz et al. 2016; the outer
            gradient then goes back through the rule alone, and no network is differentiated twice.
        goal: "curve": all steps weigh alike; "end": late ones weigh more, by (t / T)^4; "log": the mean is of the losses'
            logarithms, so that a percent counts as much late in a run as early.
    """

    rule: UpdateRule
    inner_steps: int = 100
    eval_steps: int = 100
    first_order: bool = True
    goal: str = "curve"

    any_data = True

    def init(self, meta: Meta, task: Task) -> Run:
        params = task.support.weights
        if isinstance(self.rule, LearnedRule):
            state = self.rule.begin(meta.params, params, task.support.steps)
        else:
            state = self.rule.init(meta.params, params)
        like = next(iter(params.values()))
        zero = torch.zeros((), dtype=like.dtype, device=like.device)
        taken = torch.zeros((), dtype=torch.int64, device=like.device)
        return Run(params, state, zero, taken, task.noise, task.objective)

    def batch(self, task: Task, i: int | Tensor) -> Examples:
        objective: Any = task.objective
        return objective.examples_at(task, i)

    def step(self, meta: Meta, fast: Run, batch: Examples, i: int | Tensor) -> Run:
        return self._step(meta, fast, batch, i)[0]

    def _step(self, meta: Meta, fast: Run, batch: Examples, i: int | Tensor) -> tuple[Run, Tensor]:
        """The run after a step, and the loss before it."""
        grads, value = self._slope(fast, batch, i)
        seen = value.detach()
        params, state = self.rule.update(meta.params, grads, fast.state, fast.params, loss=seen, step=i)
        after = dataclasses.replace(fast, params=params, state=state, total=fast.total + seen, taken=fast.taken + 1)
        return after, value

    def _slope(self, fast: Run, batch: Examples, i: int | Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The gradient on a batch, and the loss, through which the outer gradient reaches the weights."""

        def loss_at(params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            value = self._loss(fast, params, batch, i)
            return value, value

        here = {name: p.detach() for name, p in fast.params.items()} if self.first_order else fast.params
        grads, value = inner_gradient(loss_at, here, self.first_order)
        if self.first_order and torch.is_grad_enabled():
            # The gradient is known, so the network need not be gone through again; of a run that diverges it counts nothing.
            slopes = [(torch.nan_to_num(grads[n], 0.0, 0.0, 0.0) * (p - here[n])).sum() for n, p in fast.params.items()]
            value = value.detach() + torch.stack(slopes).sum()
        return grads, value

    def _loss(self, fast: Run, params: Mapping[str, Tensor], batch: Examples, i: int | Tensor) -> Tensor:
        noise = None if fast.noise is None else keys.fold(keys.fold(fast.noise, _NOISE), i)
        objective: TrainingRun = fast.objective

        def apply(x: Any, mask: Tensor | None = None) -> Tensor:
            del mask
            return objective.network(params, {}, x, noise)

        return objective.loss(apply, batch)

    def weight(self, task: Task, step: int | Tensor) -> Float[Tensor, ""]:
        """How much the loss at weights number ``step`` counts; 0 beyond the run's end. The mean over a run is about 1."""
        steps = task.support.steps.to(next(iter(task.support.weights.values())).dtype)
        inside = (step <= task.support.steps).to(steps.dtype)
        if self.goal != "end":
            return inside
        return inside * (_END_POWER + 1) * (step / steps) ** _END_POWER

    def _counted(self, value: Tensor) -> Tensor:
        """A loss as it counts."""
        return value.clamp(min=_LEAST).log() if self.goal == "log" else value

    def segment(
        self, meta: Meta, fast: Run, task: Task, first: int | Tensor, steps: int
    ) -> tuple[Float[Tensor, ""], Run, Float[Tensor, ""]]:
        """(outer loss of a part of a run, the run after it, the last loss), from step number ``first`` on.

        The loss is the weighted mean at the weights after each of the steps.
        """
        losses = []
        for k in range(steps):
            i = first + k
            fast, value = self._step(meta, fast, self.batch(task, i), i)
            if k:
                losses.append(self.weight(task, i) * self._counted(value))
        i = first + steps
        if torch.is_grad_enabled():
            _, last = self._slope(fast, self.batch(task, i), i)
        else:
            last = self._loss(fast, fast.params, self.batch(task, i), i)
        losses.append(self.weight(task, i) * self._counted(last))
        return torch.stack(losses).sum() / steps, fast, last.detach()

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        """Of a whole run, however long the others of the batch are."""
        del outer_step
        loss, _, _ = self.segment(meta, self.init(meta, task), task, 0, self.inner_steps)
        loss = loss * (self.inner_steps / task.support.steps.to(loss.dtype))
        return loss, {"metrics": {"loss": loss.detach()}}

    def predict(self, meta: Meta, fast: Run, x: Any, mask: Tensor | None = None) -> Tensor:
        return self.as_model(meta, fast)(x, mask)

    def as_model(self, meta: Meta, fast: Run) -> Trained:
        del meta
        return Trained(fast)


class Trained:
    """The network at the weights of a run, as an objective calls it.

    Attributes:
        curve: the mean of the losses that its steps saw.
    """

    def __init__(self, fast: Run) -> None:
        self.fast = fast
        self.curve: Tensor = fast.total / fast.taken.clamp(min=1).to(fast.total.dtype)

    def __call__(self, x: Any, mask: Tensor | None = None) -> Tensor:
        del mask
        return self.fast.objective.network(self.fast.params, {}, x, None)
