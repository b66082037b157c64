"""Transfer learning in the same contract: one model on all tasks pooled, then fine-tuned on a new task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop import losses
from innerloop.core import BaseLearner, Examples, Meta, Task
from innerloop.errors import ConfigError
from innerloop.learners.gradient import GradientFast, GradientLearner, query_metrics

GLOBAL_HEAD = "global_head"


@dataclasses.dataclass(frozen=True, eq=False)
class PooledLearner(BaseLearner):
    """Pretraining on pooled tasks and fine-tuning by ``tuner``.

    For classification the pooled model has one output for each global class (`Task.class_ids`), in a head of its own, and a
    new task starts from a zero head. Without class ids (regression, bare tasks) the model itself is fitted to everything.

    Args:
        tuner: the gradient learner that fine-tunes.
        head: name of the model's last layer, "weight" and "bias" of which are replaced; None: nothing is.
        features: inputs of that layer.
        num_classes: global classes; 0 until a task says it.
    """

    tuner: GradientLearner
    head: str | None
    features: int
    num_classes: int = 0

    @property
    def inner_steps(self) -> int:  # type: ignore[override]
        return self.tuner.inner_steps

    @property
    def eval_steps(self) -> int:  # type: ignore[override]
        return self.tuner.eval_steps

    def init_rule(self, params: Any, generator: torch.Generator | None) -> dict[str, Tensor]:
        if self.head is None:
            return {}
        own = params[self._own("weight")]
        return new_head(self.num_classes or own.shape[0], self.features, own, self._own("bias") in params, generator)

    @property
    def adapted(self) -> tuple[str, ...]:
        """Names of the parameters that fine-tuning changes."""
        return self.tuner.adapted

    def widened_rule(self, rule: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        weight = rule.get(f"{GLOBAL_HEAD}/weight")
        if weight is None or weight.shape[0] >= rows:
            return {}
        return new_head(rows, weight.shape[1], weight, len(rule) > 1, None)

    def _own(self, kind: str) -> str:
        """The full name of the head's own weight or bias; the head may be the whole model."""
        return f"{self.head}.{kind}".lstrip(".")

    def init_buffers(self) -> dict[str, Tensor]:
        return self.tuner.init_buffers()

    def init(self, meta: Meta, task: Task) -> GradientFast:
        fast = self.tuner.init(meta, task)
        if self.head is None or task.support.y.is_floating_point():
            return fast
        own = {self._own("weight"), self._own("bias")}
        zeros = {n: torch.zeros_like(p) for n, p in fast.params.items() if n in own}
        return dataclasses.replace(fast, params={**fast.params, **zeros})

    def step(self, meta: Meta, fast: GradientFast, batch: Examples, i: int) -> GradientFast:
        return self.tuner.step(meta, fast, batch, i)

    def predict(self, meta: Meta, fast: GradientFast, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.tuner.predict(meta, fast, x, mask)

    def in_evaluation(self) -> PooledLearner:
        return dataclasses.replace(self, tuner=self.tuner.in_evaluation())

    def batch(self, task: Task, i: int) -> Examples:
        return self.tuner.batch(task, i)

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        """The loss on a task's pooled examples. ``task`` here is all tasks of the batch as one (see `flatten`)."""
        del outer_step
        both = task.support
        params = dict(meta.params)
        if task.class_ids is not None:
            if self.head is None:
                raise ConfigError(
                    "pretrained expected a model whose last layer is an nn.Linear, to give it one output for every class of the "
                    "pooled tasks; end the model in one, or leave class_ids out to pool by the labels as they are"
                )
            for kind in ("weight", "bias"):
                if f"{GLOBAL_HEAD}/{kind}" in meta.rule:
                    params[self._own(kind)] = meta.rule[f"{GLOBAL_HEAD}/{kind}"]
        prediction, buffers = self.tuner.model.apply(
            params, meta.buffers, both.x, mask=both.mask, training=True, noise=task.noise
        )
        loss = losses.objective(
            losses.resolve(self.tuner.loss or task.objective, both.y), prediction, both.y, both.mask
        )
        judged = dataclasses.replace(task, query=both)
        return loss, {"metrics": query_metrics(loss, prediction, judged, self.tuner.loss), "buffers": buffers}


def new_head(
    classes: int, features: int, like: Tensor, bias: bool, generator: torch.Generator | None
) -> dict[str, Tensor]:
    """A linear head for ``classes`` global classes, as torch initialises one: uniform within 1 / sqrt(features)."""
    bound = features**-0.5
    made = {}
    shapes = {"weight": (classes, features)} | ({"bias": (classes,)} if bias else {})
    for name, shape in shapes.items():
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 * bound - bound
        made[f"{GLOBAL_HEAD}/{name}"] = drawn.to(like.dtype).to(like.device)
    return made


def flatten(tasks: Task) -> Task:
    """All examples of a batch of tasks as the support set of one, with global labels where there are class ids."""

    def side(examples: Examples) -> Examples:
        y = examples.y
        if tasks.class_ids is not None:
            y = torch.gather(tasks.class_ids, 1, y)
        mask = None if examples.mask is None else examples.mask.flatten(0, 1)
        return Examples(examples.x.flatten(0, 1), y.flatten(0, 1), mask)

    a, b = side(tasks.support), side(tasks.query)
    mask = None
    if a.mask is not None or b.mask is not None:
        masks = [torch.ones_like(s.y, dtype=torch.bool) if s.mask is None else s.mask for s in (a, b)]
        mask = torch.cat([m if m.ndim == 1 else m[:, 0] for m in masks])
    both = Examples(torch.cat([a.x, b.x]), torch.cat([a.y, b.y]), mask)
    noise = None if tasks.noise is None else tasks.noise[0]
    return Task(both, both, tasks.objective, tasks.class_ids, tasks.num_classes, noise)
