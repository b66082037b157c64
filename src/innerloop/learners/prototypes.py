"""Prototypical networks' learner: the mean embedding of each class, and squared distances to it."""

from __future__ import annotations

import dataclasses

from jaxtyping import Float
from torch import Tensor

from innerloop.core import Examples, Meta, Task
from innerloop.learners.comparing import ComparingLearner
from innerloop.learners.metric import class_means, only_shown, ways_of
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

    def blank(self, meta: Meta, task: Task, one: Tensor) -> PrototypeFast:
        return PrototypeFast(one.new_zeros(ways_of(task), one.shape[-1]), one.new_zeros(ways_of(task)))

    def read(self, meta: Meta, z: Tensor, support: Examples, ways: int) -> PrototypeFast:
        return PrototypeFast(*class_means(z, support.y, ways, support.mask), step=1)

    def compare(
        self, meta: Meta, fast: PrototypeFast, z: Tensor, mask: Tensor | None
    ) -> tuple[Float[Tensor, "queries ways"], dict[str, Tensor]]:
        return distance_logits(z, fast.prototypes, fast.counts), meta.buffers


def distance_logits(
    z: Float[Tensor, "examples features"],
    prototypes: Float[Tensor, "ways features"],
    counts: Float[Tensor, " ways"],
) -> Float[Tensor, "examples ways"]:
    """Minus the squared distances; -inf for a class without support, zeros where no class has any."""
    return only_shown(-(z[:, None] - prototypes).square().sum(-1), counts)
