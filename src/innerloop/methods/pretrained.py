"""Transfer learning, honestly trained: one model on all tasks pooled, fine-tuned on a new one.

The "pretrained" baseline of Finn et al. 2017 (arXiv:1703.03400) and the "Baseline" of Chen et al. 2019 (arXiv:1904.04232).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.core import BaseLearner, Examples, Meta, MetaGradient, OuterGradient, Task
from innerloop.engine import Engine, gradient
from innerloop.errors import ConfigError
from innerloop.functional import PureModel
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.pure import head_module, select
from innerloop.learners.gradient import GradientFast, GradientLearner, query_metrics
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import InnerOptimizer, LossArgument, head_patterns, inner_rule, method
from innerloop.objectives import losses

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
        names = self.tuner.model.names
        own = params[names[self._own("weight")]]
        return new_head(self.num_classes or own.shape[0], self.features, own, self._own("bias") in names, generator)

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
        loss = losses.objective(self.tuner.loss or task.objective, prediction, both.y, both.mask)
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
    return dataclasses.replace(tasks, support=both, query=both, noise=noise)


@dataclasses.dataclass(eq=False)
class Pooled(MetaGradient):
    """One forward and backward pass over all examples of all tasks; there is no inner loop in training.

    Batch norm takes its statistics, and dropout its noise, for the whole pool at once, so processes cannot share it out.
    """

    learner: PooledLearner
    engine: Engine
    of_outer_loss = False
    says = "none: the ordinary gradient of the loss on all tasks pooled; no inner loop in training"
    definition = "the pooled loss"
    order: str = "none"
    shardable: bool = False

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator
        params, rule, aux = gradient(self.learner, meta, flatten(tasks), outer_step)
        return OuterGradient(params, rule, aux["buffers"], carry, aux["metrics"])

    def minimised(self, meta: Meta, tasks: Task, outer_step: int) -> Tensor:
        """The loss whose gradient this is."""
        return self.learner.meta_loss(meta, flatten(tasks), outer_step)[0]


@method(
    classification={"inner_lr": 1.0, "inner_steps": 10, "adapt": "head"},
    regression={"inner_lr": 0.01, "inner_steps": 1, "adapt": "all"},
    declares={"adds_parameters": True, "equivariant": True, "memory": "one pass", "derivatives": "1"},
)
def pretrained(
    model: nn.Module,
    *,
    inner_lr: float = 0.01,
    inner_steps: int = 10,
    eval_steps: int | None = None,
    num_classes: int | None = None,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "sgd",
    adapt: Sequence[str] | str = "all",
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """One model fitted to the examples of all tasks together, then fine-tuned.

    In classification the pooled model has one output for each global class of the training split (`Task.class_ids`), and a
    new task gets a new head that starts at zero. In regression the model itself is fitted to all tasks, so it learns their
    average. Bare tasks without class ids are pooled by the labels that they carry.

    Args:
        model: any nn.Module; in classification its last layer must be an nn.Linear.
        inner_lr: fine-tuning rate, at least 0.
        inner_steps: fine-tuning steps (also the default on a new task).
        eval_steps: fine-tuning steps on a new task; None: ``inner_steps``.
        num_classes: global classes; None: the training tasks say it.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: by the targets.
        adapt: "all", "head", or patterns of parameter names to fine-tune.
        batch_norm: policy of BatchNorm layers; "running": as usual in supervised learning, so fine-tuning and evaluation use
            the statistics of pretraining.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing.

    Reference: the "pretrained" baseline of Finn et al. 2017, arXiv:1703.03400, and for classification the "Baseline" of Chen et
        al. 2019, "A closer look at few-shot classification", arXiv:1904.04232.
    """
    if num_classes is not None and num_classes < 1:
        raise ConfigError(f"num_classes expected at least 1, got {num_classes}")
    head = head_module(model)
    layer = model.get_submodule(head)
    linear = isinstance(layer, nn.Linear)
    patterns = (
        None
        if adapt == "all"
        else head_patterns(model)
        if adapt == "head"
        else [adapt]
        if isinstance(adapt, str)
        else adapt
    )

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        tuner = GradientLearner(
            model=pure,
            rule=inner_rule(inner_optimizer, inner_lr),
            adapted=select(
                [n for n, p in pure.module.named_parameters() if p.requires_grad], patterns, None, pure.names
            ),
            inner_steps=inner_steps,
            eval_steps=inner_steps if eval_steps is None else eval_steps,
            loss=loss,
        )
        features = layer.in_features if isinstance(layer, nn.Linear) else 0
        learner = PooledLearner(tuner, head if linear else None, features, num_classes or 0)
        return learner, Pooled(learner, engine)

    return MetaLearner(
        "pretrained",
        {},
        model,
        pair,
        outer=Outer(num_tasks=16),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
