"""A gradient learner whose last layer is made for each task, out of its class means: Proto-MAML."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from innerloop import keys
from innerloop.core import Examples, Meta, Task
from innerloop.learners.gradient import GradientFast, GradientLearner
from innerloop.learners.metric import MetricLearner, class_means, ways_of
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
    """The loss of padding is multiplied by zero; were its label a class without support, that would be 0 * inf."""
    assert isinstance(fast, PrototypeHeadFast) and fast.counts is not None
    if side.mask is None:
        return side
    return Examples(side.x, torch.where(side.mask, side.y, fast.counts.argmax()), side.mask)
