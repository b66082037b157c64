"""What learners that know inputs by embeddings share: the embedding, both sides in one pass, targets as networks read them."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop import keys
from innerloop.core import BaseLearner, Examples, Meta, Task
from innerloop.errors import ShapeError
from innerloop.functional import PureModel
from innerloop.learners.metric import members_of


class EmbeddingLearner(BaseLearner):
    """A learner that knows inputs by their embeddings and adapts by one look at the support set's; more steps change nothing.

    Subclasses are dataclasses with the fields below, ``training`` being meta-training (statistics recorded, dropout on) or
    evaluation.
    """

    model: PureModel
    training: bool

    pass_salt: ClassVar[int]  # keeps the noise of the embedding apart from what else draws from a task's key
    flattens: ClassVar[bool] = True  # embeddings to (examples, features)
    inner_steps = 1
    eval_steps = 1

    def init_buffers(self) -> dict[str, Tensor]:
        return self.model.running_buffers()

    def in_evaluation(self) -> Self:
        return dataclasses.replace(self, training=False)  # type: ignore[type-var]

    def embed(
        self, meta: Meta, x: Tensor, mask: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Float[Tensor, "examples ..."], dict[str, Tensor]]:
        """Embeddings of the examples, and the running statistics after this pass."""
        drawn = keys.fold(noise, self.pass_salt) if self.model.draws_noise and noise is not None else None
        z, buffers = self.model.apply(meta.params, meta.buffers, x, mask=mask, training=self.training, noise=drawn)
        return (z.reshape(z.shape[0], -1) if self.flattens else z), buffers

    def embed_both(
        self, meta: Meta, support: Examples, query: Examples, noise: Tensor | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Embeddings of support and query set in one pass, and the running statistics after it."""
        x, mask = together(support, query)
        z, buffers = self.embed(meta, x, mask, noise)
        shots = support.y.shape[0]
        return z[:shots], z[shots:], buffers


def counted(side: Examples) -> Bool[Tensor, " examples"]:
    """Which examples count."""
    return torch.ones(side.y.shape[0], dtype=torch.bool, device=side.y.device) if side.mask is None else side.mask


def first_input(side: Examples) -> Any:
    """The first example's inputs, with their axis of examples."""
    return pytree.tree_map(lambda v: v[:1], side.x)


def together(*sides: Examples) -> tuple[Any, Tensor | None]:
    """The inputs of several sides in one row, and which of them count; None: all."""
    masked = any(side.mask is not None for side in sides)
    x = pytree.tree_map(lambda *parts: torch.cat(parts), *(side.x for side in sides))
    return x, torch.cat([counted(side) for side in sides]) if masked else None


def coded(y: Tensor, outputs: int, like: Tensor) -> Float[Tensor, "examples outputs"]:
    """Targets as networks read them: labels as ones and zeros, values as they are."""
    if y.is_floating_point():
        return y.to(like.dtype).reshape(y.shape[0], -1)
    return members_of(y, outputs).to(like.dtype)


def longest_support(tasks: Task) -> int:
    """Of a batch: the most support examples that count."""
    side = tasks.support
    return side.y.shape[1] if side.mask is None else int(side.mask.sum(1).max())


def expect_width(tasks: Task, outputs: int) -> None:
    """ShapeError for targets of a batch that have another width than the outputs, beside which they stand."""
    y = tasks.support.y
    if y.is_floating_point() and y[0, 0].numel() != outputs:
        raise ShapeError(
            f"targets expected {outputs} numbers an example, one for each output, got {y[0, 0].numel()}; "
            f"give outputs={y[0, 0].numel()}"
        )
