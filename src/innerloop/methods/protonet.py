"""Prototypical networks: each class lies around the mean of its embeddings (Snell et al. 2017, arXiv:1703.05175)."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners.comparing import ComparingLearner
from innerloop.learners.metric import class_means, class_sums, members_of, only_shown, ways_of
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, expect_label_loss, method
from innerloop.records import record, static


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
class PrototypeLearner(ComparingLearner):
    """Logits are minus the squared Euclidean distances to the mean embedding of each class's support examples.

    In meta-training support and query set go through the network together, as in the authors' code.
    """

    absorbs = True

    def absorb(self, meta: Meta, fast: PrototypeFast, data: Examples) -> PrototypeFast:
        """The means of all examples so far: each class's sum is its mean times how many it is of."""
        z, _ = self.embed(meta, data.x, data.mask)
        sums, counts = class_sums(z, data.y, fast.counts.shape[-1], data.mask)
        total = fast.counts + counts
        known = fast.prototypes * fast.counts[:, None]
        return PrototypeFast((known + sums) / total.clamp(min=1.0)[:, None], total, step=1)

    def blank(self, meta: Meta, task: Task, one: Tensor) -> PrototypeFast:
        return PrototypeFast(one.new_zeros(ways_of(task), one.shape[-1]), one.new_zeros(ways_of(task)))

    def read(self, meta: Meta, z: Tensor, support: Examples, ways: int) -> PrototypeFast:
        return PrototypeFast(*class_means(z, support.y, ways, support.mask), step=1)

    def compare(
        self, meta: Meta, fast: PrototypeFast, z: Tensor, mask: Tensor | None
    ) -> tuple[Float[Tensor, "queries ways"], dict[str, Tensor]]:
        return distance_logits(z, fast.prototypes, fast.counts), meta.buffers


@record
class SpreadFast:
    """`PrototypeFast` with each class's own measure of distance.

    Attributes:
        prototypes, counts, step: as there.
        precisions: (ways, features, features) inverses of the classes' covariances; zeros before the first step.
    """

    prototypes: Tensor
    precisions: Tensor
    counts: Tensor
    step: int = static(0)


@dataclasses.dataclass(frozen=True, eq=False)
class MahalanobisLearner(ComparingLearner):
    """Logits are minus half the squared Mahalanobis distances to each class's mean, by a covariance of its own.

    ``Q_k = lambda_k S_k + (1 - lambda_k) S + I``, ``lambda_k = n_k / (n_k + 1)``, with S_k the covariance of the class's support
    examples and S that of all.
    """

    def blank(self, meta: Meta, task: Task, one: Tensor) -> SpreadFast:
        ways, size = ways_of(task), one.shape[-1]
        return SpreadFast(one.new_zeros(ways, size), one.new_zeros(ways, size, size), one.new_zeros(ways))

    def read(self, meta: Meta, z: Tensor, support: Examples, ways: int) -> SpreadFast:
        means, counts = class_means(z, support.y, ways, support.mask)
        members = members_of(support.y, ways, support.mask).to(z.dtype)
        there = members.sum(1)
        total = there.sum().clamp(min=1.0)
        apart = (z - (z * there[:, None]).sum(0) / total) * there[:, None]
        of_all = apart.T @ apart / (total - 1).clamp(min=1.0)
        own = (z[None] - means[:, None]) * members.T[:, :, None]
        of_each = own.transpose(1, 2) @ own / (counts - 1).clamp(min=1.0)[:, None, None]
        share = (counts / (counts + 1))[:, None, None]
        one = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        spread = share * of_each + (1 - share) * of_all + one
        precisions = torch.cholesky_inverse(torch.linalg.cholesky_ex(spread)[0])
        return SpreadFast(means, precisions, counts, step=1)

    def compare(
        self, meta: Meta, fast: SpreadFast, z: Tensor, mask: Tensor | None
    ) -> tuple[Float[Tensor, "queries ways"], dict[str, Tensor]]:
        apart = z[:, None] - fast.prototypes
        square = (torch.einsum("qwf,wfg->qwg", apart, fast.precisions) * apart).sum(-1)
        return only_shown(-0.5 * square, fast.counts), meta.buffers


def distance_logits(
    z: Float[Tensor, "examples features"],
    prototypes: Float[Tensor, "ways features"],
    counts: Float[Tensor, " ways"],
) -> Float[Tensor, "examples ways"]:
    """Minus the squared distances; -inf for a class without support, zeros where no class has any."""
    return only_shown(-(z[:, None] - prototypes).square().sum(-1), counts)


@method(
    classification_tasks={"train_ways": 60, "train_queries": 5},
    model={"outputs": None, "downsample": "max_pool"},
    declares={
        "inner_loop": False,
        "regression": False,
        "any_ways": True,
        "equivariant": True,
        "shift_free": True,
    },
)
def protonet(
    model: nn.Module,
    *,
    distance: Literal["euclidean", "mahalanobis"] = "euclidean",
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Prototypical networks: a query belongs to the class whose mean support embedding is nearest.

    ``p(k | x) = softmax over k of -|f(x) - c_k|^2``, with ``c_k`` the mean of ``f`` over the support examples of class k. There
    is no inner loop and no rate: looking at the support set is one step. A task may have any number of classes, in training,
    in evaluation and in ``adapt``.

    Args:
        model: any nn.Module whose output is the embedding, so without a classification layer (``il.models.conv4((1, 28, 28),
            None, downsample="max_pool")`` is the paper's); outputs with more axes are flattened. Copied, not changed.
        distance: "euclidean", the paper's; or "mahalanobis", by a covariance of each class that is pulled towards that of the
            whole support set and the identity (Bateni et al. 2020, "Improved few-shot visual classification",
            arXiv:1912.03432), as the ProtoNet of FS-Mol has it (Stanley et al. 2021): its cost grows with the cube of the
            features, so an embedding of 64 or so suits it.
        loss: ``loss(logits, y) -> scalar`` on logits (queries, ways) and integer labels, or a name; None: cross-entropy.
        batch_norm: policy of BatchNorm layers; "running": in meta-training the statistics of the task's support and query
            examples together, in evaluation their running mean (as the authors' code, so it is not transductive).

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: a loss that is not for labels, an unknown distance, or an unknown policy.

    Example:
        >>> import innerloop as il
        >>> il.protonet(il.models.conv4((1, 28, 28), None, downsample="max_pool")).eval_steps
        1

    Reference: Snell, Swersky and Zemel 2017, "Prototypical networks for few-shot learning", arXiv:1703.05175.
    """
    expect_label_loss(loss)
    if distance not in ("euclidean", "mahalanobis"):
        raise ConfigError(f"distance expected euclidean or mahalanobis, got {distance!r}")
    kind = PrototypeLearner if distance == "euclidean" else MahalanobisLearner

    return backprop_method(
        "protonet",
        model,
        lambda pure: kind(pure, loss),
        outer=Outer(num_tasks=1, schedule="halving"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
