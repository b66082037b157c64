"""Proto-MAML: MAML whose last layer starts, in every task, as the nearest class mean (Triantafillou et al. 2020)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from innerloop import keys
from innerloop.core import Examples, Meta, Task
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners.gradient import GradientFast, GradientLearner
from innerloop.learners.metric import MetricLearner, class_means, shown_labels, ways_of
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import (
    InnerOptimizer,
    LossArgument,
    expect_label_loss,
    gradient_method,
    inner_rule,
    method,
)
from innerloop.records import record

# Names that no parameter of a module can have, since module names hold no slash.
WEIGHT, BIAS = "class_head/weight", "class_head/bias"
_FIRST_LOOK = 41  # keeps the noise of the pass that makes the head apart from those of the inner steps


@record
class PrototypeHeadFast(GradientFast):
    """What is adapted: the body's parameters and, among them, the head's (ways, features) weight and (ways,) bias.

    Attributes:
        counts: (ways,) how many support examples each class has.
    """

    counts: Tensor | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class PrototypeHeadLearner(MetricLearner, GradientLearner):
    """Gradient steps on an embedding and on a linear head that starts where it equals the nearest class mean.

    ``-|z - c_k|^2 = 2 c_k'z - |c_k|^2 - |z|^2``, and the last term is the same for all classes: so the head begins with
    ``w_k = 2 c_k`` and ``b_k = -|c_k|^2``. The outer gradient goes through this beginning.

    Args:
        as those of `GradientLearner`; ``adapted`` names parameters of the embedding, the head is always adapted.
    """

    any_data = False  # its head is made of labels
    at_a_look = False

    def init(self, meta: Meta, task: Task) -> PrototypeHeadFast:
        support = task.support
        noise = None
        if self.training and task.noise is not None and self.model.draws_noise:
            noise = keys.fold(task.noise, _FIRST_LOOK)
        # Statistics of this pass are not kept: the first inner step takes those of the same examples at the same weights.
        z, _ = self.model.apply(
            meta.params, meta.buffers, support.x, mask=support.mask, training=self.training, noise=noise
        )
        means, counts = class_means(z.reshape(z.shape[0], -1), support.y, ways_of(task), support.mask)
        params = {name: meta.params[name] for name in self.adapted}
        params |= {WEIGHT: 2 * means, BIAS: -means.square().sum(-1)}
        state = self.rule.init(meta.rule, params)
        return PrototypeHeadFast(params, state, meta.buffers, task.noise, objective=task.objective, counts=counts)

    def step(self, meta: Meta, fast: GradientFast, batch: Examples, i: int) -> GradientFast:
        return super().step(meta, fast, _with_known_labels(batch, fast), i)

    def query_loss(
        self, meta: Meta, fast: GradientFast, task: Task
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        return super().query_loss(meta, fast, dataclasses.replace(task, query=_with_known_labels(task.query, fast)))

    def forward(
        self,
        meta: Meta,
        fast: GradientFast,
        adapted: dict[str, Tensor],
        *x: Any,
        mask: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits at (shared, adapted) parameters, -inf for a class without support; running statistics after this pass."""
        assert isinstance(fast, PrototypeHeadFast) and fast.counts is not None
        body = {name: p for name, p in adapted.items() if name not in (WEIGHT, BIAS)}
        z, buffers = super().forward(meta, fast, body, *x, mask=mask, noise=noise)
        logits = z.reshape(z.shape[0], -1) @ adapted[WEIGHT].T + adapted[BIAS]
        found = fast.counts > 0
        return torch.where(found | ~found.any(), logits, -torch.inf), buffers


def _with_known_labels(side: Examples, fast: GradientFast) -> Examples:
    assert isinstance(fast, PrototypeHeadFast) and fast.counts is not None
    return Examples(side.x, shown_labels(side, fast.counts), side.mask)


@method(
    model={"outputs": None, "downsample": "max_pool"},
    declares={
        "regression": False,
        "any_ways": True,
        "equivariant": True,
        "starts_adapted": True,
        "derivatives": "2, or 1",
    },
)
def proto_maml(
    model: nn.Module,
    *,
    inner_lr: float = 0.005,
    inner_steps: int = 6,
    eval_steps: int | None = None,
    first_order: bool = False,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "sgd",
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = False,
) -> MetaLearner:
    """Proto-MAML: a linear head made of the task's class means, then gradient steps on embedding and head.

    The head begins with ``w_k = 2 c_k`` and ``b_k = -|c_k|^2``, which classifies as prototypical networks do, and the outer
    gradient goes through this beginning too. So there is no head to learn, and a task may have any number of classes.

    Args:
        model: any nn.Module whose output is the embedding, so without a classification layer (``outputs=None`` in
            `il.models`); outputs with more axes are flattened. Copied, not changed.
        inner_lr: inner rate, at least 0 (the authors' best on ImageNet alone: 0.0054).
        inner_steps: inner steps in meta-training (likewise: 6).
        eval_steps: inner steps on a new task; None: ``inner_steps``. With 0 steps it is the nearest class mean.
        first_order: hold the inner gradients constant in the outer derivative, as the authors' best settings do; the
            derivative through the head's beginning is always there.
        loss: ``loss(logits, y) -> scalar`` on logits (queries, ways) and integer labels, or a name; None: cross-entropy.
        adapt: shell-style patterns of the names of the embedding's parameters to adapt; None: all.
        freeze: shell-style patterns of the names of the embedding's parameters not to adapt; None: none.

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: a value out of range, a loss that is not for labels, a pattern that matches nothing.

    Example:
        >>> import innerloop as il
        >>> il.proto_maml(il.models.mlp(784, None), inner_steps=3).inner_steps
        3

    Reference: Triantafillou et al. 2020, "Meta-Dataset: a dataset of datasets for learning to learn from few examples",
        arXiv:1903.03096, section 3.
    """
    expect_label_loss(loss)
    return gradient_method(
        model,
        rule=inner_rule(inner_optimizer, inner_lr),
        inner_steps=inner_steps,
        eval_steps=eval_steps,
        loss=loss,
        adapt=adapt,
        freeze=freeze,
        batch_norm=batch_norm,
        inductive=inductive,
        estimate=functools.partial(Backprop, first_order=first_order),
        outer=Outer(num_tasks=16),
        learner=PrototypeHeadLearner,
    )
