"""Matching networks' learner: attention over the support examples, by cosine."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from innerloop import keys
from innerloop.core import Examples, Meta, Task
from innerloop.learners.comparing import ComparingLearner, SupportFast, one_row_per_support
from innerloop.learners.metric import members_of, only_shown

_ORDER = 41  # keeps the order of the support set apart from what else draws from a task's key
_FAR = -1e30  # far below any similarity, and finite: a logarithm of a sum over nothing but -inf has no derivative
_EPSILON = 1e-8  # added to squared lengths: the cosine with a vector of zeros is 0, and its derivative finite


@dataclasses.dataclass(frozen=True, eq=False)
class MatchingLearner(ComparingLearner):
    """The probability of a class is the attention that a query pays to the class's support examples.

    Args:
        scale: what cosines are multiplied by before the softmax.
        full_context: embeddings of the support set see each other (the part "support_context"), those of queries see the
            support set (the part "query_context").
        order: in which the support set is read where the order matters: "drawn" from the task's key, or as "given".
    """

    scale: float = 1.0
    full_context: bool = False
    order: Literal["drawn", "given"] = "drawn"

    def batch(self, task: Task, i: int) -> Examples:
        del i
        side = task.support
        if not self.full_context or self.order == "given" or task.noise is None:
            return side
        rows = keys.permutation(keys.fold(task.noise, _ORDER), side.y.shape[0])
        return Examples(side.x[rows], side.y[rows], None if side.mask is None else side.mask[rows])

    def blank(self, meta: Meta, task: Task, one: Tensor) -> SupportFast:
        return SupportFast(*one_row_per_support(one, task))

    def read(self, meta: Meta, z: Tensor, support: Examples, ways: int) -> SupportFast:
        members = members_of(support.y, ways, support.mask)
        if self.full_context:
            z, _ = self.model.apply(meta.params, meta.buffers, z, members.any(1), part="support_context")
        return SupportFast(z, members, step=1)

    def compare(
        self, meta: Meta, fast: SupportFast, z: Tensor, mask: Tensor | None
    ) -> tuple[Float[Tensor, "queries ways"], dict[str, Tensor]]:
        if self.full_context:
            z, _ = self.model.apply(meta.params, meta.buffers, z, fast.z, fast.members.any(1), part="query_context")
        return attention_logits(self.scale * cosines(z, fast.z), fast.members), meta.buffers


def cosines(
    a: Float[Tensor, "queries features"], b: Float[Tensor, "support features"]
) -> Float[Tensor, "queries support"]:
    """The cosine of each row of ``a`` with each of ``b``; 0 with a row of zeros."""
    a, b = (v * torch.rsqrt(v.square().sum(-1, keepdim=True) + _EPSILON) for v in (a, b))
    return a @ b.T


def attention_logits(
    similarity: Float[Tensor, "queries support"], members: Bool[Tensor, "support ways"]
) -> Float[Tensor, "queries ways"]:
    """The logarithm of the attention that a query pays to each class, from similarities with the support examples.

    Attention is their softmax over the support set, added up within a class (Vinyals et al. 2016, equation 1). -inf for a class
    without support; zeros where no class has any.

    Args:
        similarity: of each query with each support example.
        members: which example belongs to which class; padding belongs to none.
    """
    inside = torch.where(members, similarity[..., None], _FAR)
    return only_shown(torch.log_softmax(torch.logsumexp(inside, 1), -1), members.sum(0))
