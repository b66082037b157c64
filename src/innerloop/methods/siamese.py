"""Siamese networks: are two examples of the same class? Trained on pairs, used on N classes (Koch et al. 2015)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from innerloop import keys
from innerloop.core import Examples, Meta, Task
from innerloop.errors import expect_whole
from innerloop.functional import Parts, features_of
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners.comparing import ComparingLearner, SupportFast, one_row_per_support
from innerloop.learners.gradient import query_metrics
from innerloop.learners.metric import members_of, only_shown, ways_of
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, expect_choice, expect_label_loss, method

_ANCHORS, _PARTNERS = 51, 52  # keep the two ends of the pairs apart from what else draws from a task's key
_FAR = -1e30  # far below any logit, and finite


class Pairs(NamedTuple):
    """Pairs of one task's examples; the first half were drawn from one class each, the second half from two.

    Attributes:
        first, second: positions of the two examples.
        same: whether they are of the same class.
        weight: 1, or 0 where the task has no such pair.
    """

    first: Int64[Tensor, " pairs"]
    second: Int64[Tensor, " pairs"]
    same: Bool[Tensor, " pairs"]
    weight: Float[Tensor, " pairs"]


@dataclasses.dataclass(frozen=True, eq=False)
class SiameseLearner(ComparingLearner):
    """The logit of "the same class" is a learned weighting of the two embeddings' distance in each component.

    In meta-training it judges pairs of the task's examples, support and query together, half of them of one class; with a
    ``loss`` it judges the queries among the classes instead. On a new task a query's logit for a class is that with the most
    similar of its support examples, or the mean over them.

    Args:
        pairs: how many are drawn in each task.
        combine: "max" or "mean", over a class's support examples.
    """

    pairs: int = 128
    combine: Literal["max", "mean"] = "max"

    def blank(self, meta: Meta, task: Task, one: Tensor) -> SupportFast:
        return SupportFast(*one_row_per_support(one, task))

    def read(self, meta: Meta, z: Tensor, support: Examples, ways: int) -> SupportFast:
        return SupportFast(z, members_of(support.y, ways, support.mask), step=1)

    def compare(
        self, meta: Meta, fast: SupportFast, z: Tensor, mask: Tensor | None
    ) -> tuple[Float[Tensor, "queries ways"], dict[str, Tensor]]:
        logits = self.similarity(meta, z[:, None], fast.z)
        if self.combine == "mean":
            members = fast.members.to(z.dtype)
            by_class = logits @ members / members.sum(0).clamp(min=1.0)
        else:
            by_class = torch.where(fast.members, logits[..., None], _FAR).amax(1)
        # Before the support set is read all classes have to be alike to the last bit, which _FAR would not be.
        shown = fast.counts > 0
        return only_shown(torch.where(shown, by_class, 0.0), fast.counts), meta.buffers

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        if self.loss is not None or task.noise is None:
            return super().meta_loss(meta, task, outer_step)
        support, query = task.support, task.query
        z_support, z_query, buffers = self.embed_both(meta, support, query, task.noise)
        z = torch.cat([z_support, z_query])
        drawn = draw_pairs(task.noise, support, query, self.pairs, z.dtype)
        logits = self.similarity(meta, z[drawn.first], z[drawn.second])
        each = F.binary_cross_entropy_with_logits(logits, drawn.same.to(z.dtype), reduction="none")
        loss = (drawn.weight * each).sum() / drawn.weight.sum().clamp(min=1.0)
        fast = self.read(meta, z_support.detach(), support, ways_of(task))
        by_class, _ = self.compare(meta, fast, z_query.detach(), query.mask)
        return loss, {"metrics": query_metrics(loss, by_class, task, self.loss), "buffers": buffers}

    def similarity(
        self, meta: Meta, a: Float[Tensor, "*#leading features"], b: Float[Tensor, "*#leading features"]
    ) -> Float[Tensor, "*found"]:
        """The logit of "the same class" for embeddings; leading axes broadcast."""
        return self.model.apply(meta.params, meta.buffers, (a - b).abs(), part="similarity")[0].squeeze(-1)


def draw_pairs(
    key: Int64[Tensor, ""], support: Examples, query: Examples, pairs: int, dtype: torch.dtype | None = None
) -> Pairs:
    """Pairs of a task's examples, numbered support first: half of one class, half of two, each end uniform.

    First an example is drawn that has a partner of the kind, then the partner. Padding is never drawn and changes nothing else.

    Args:
        key: what they are a function of.
        support, query: of one task.
        pairs: how many; an odd number has one pair of one class more.
        dtype: of the weights.
    """
    sides = (support, query)
    y = torch.cat([s.y for s in sides])
    counts = torch.cat([torch.ones_like(s.y, dtype=torch.bool) if s.mask is None else s.mask for s in sides])
    alike = y[:, None] == y
    others = ~torch.eye(len(y), dtype=torch.bool, device=y.device) & counts & counts[:, None]
    partners = torch.stack([~alike & others, alike & others])  # (of two classes or of one, first, second)
    same = torch.arange(pairs, device=y.device) < (pairs + 1) // 2
    first = _draw(key, _ANCHORS, partners.any(-1)[same.long()], sides)
    allowed = partners[same.long(), first]
    second = _draw(key, _PARTNERS, allowed, sides)
    return Pairs(first, second, same, allowed.any(-1).to(dtype or torch.get_default_dtype()))


def _draw(key: Tensor, salt: int, allowed: Bool[Tensor, "pairs examples"], sides: tuple[Examples, ...]) -> Tensor:
    """One of the allowed examples for each pair, all equally likely.

    An example's number depends on its position within its side alone, so padding at the end of a side moves nothing.
    """
    rows = keys.fold(keys.fold(key, salt), torch.arange(len(allowed), device=allowed.device))
    drawn = torch.cat([keys.uniform(rows, (s.y.shape[0],), i, torch.float64) for i, s in enumerate(sides)], -1)
    return torch.where(allowed, drawn, -1.0).argmax(-1)


@method(
    classification_tasks={"train_ways": 20, "train_queries": 5},
    model={"outputs": None, "downsample": "max_pool"},
    declares={
        "inner_loop": False,
        "regression": False,
        "any_ways": True,
        "equivariant": True,
        "shift_free": True,
        "adds_parameters": True,
    },
)
def siamese(
    model: nn.Module,
    *,
    pairs: int = 128,
    combine: Literal["max", "mean"] = "max",
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
    input_shape: Sequence[int] | None = None,
) -> MetaLearner:
    """Siamese networks: two examples are of one class with probability ``sigmoid(a . |f(x1) - f(x2)| + b)``.

    Trained to verify: pairs of a task's examples (support and query together), half of them of one class, with binary
    cross-entropy. A new task takes no gradients: a query goes to the class of the support example that it is most probably the
    same as. A task may have any number of classes, in training, in evaluation and in ``adapt``.

    Args:
        model: any nn.Module whose output is the embedding, so without a classification layer; outputs with more axes are
            flattened. Copied, not changed. The weights ``a`` and ``b`` come after its parameters.
        pairs: how many are drawn in each task; the paper's minibatch is 128.
        combine: a query's logit for a class is the "max" or the "mean" over the class's support examples; the paper has one.
        loss: None: verification of pairs. ``loss(logits, y) -> scalar`` on logits (queries, ways) and integer labels, or a name:
            the queries are judged among the task's classes instead, and no pairs are drawn.
        input_shape: of one example, where the model does not tell: the size of its embedding has to be known.

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: a loss that is not for labels, an unknown option, fewer than two pairs, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.siamese(il.models.conv4((1, 28, 28), None, downsample="max_pool")).eval_steps
        1

    Reference: Koch, Zemel and Salakhutdinov 2015, "Siamese neural networks for one-shot image recognition", ICML deep learning
    workshop. The network, its layer-wise rates and its distorted training pictures are the paper's own and not here.
    """
    expect_label_loss(loss)
    expect_whole("pairs", pairs, 2)
    expect_choice("combine", combine, ("max", "mean"))

    similarity = nn.Linear(math.prod(features_of(model, input_shape)), 1)
    return backprop_method(
        "siamese",
        Parts(model, similarity=similarity),
        lambda pure: SiameseLearner(pure, loss, pairs=pairs, combine=combine),
        outer=Outer(num_tasks=1),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
