"""What learners that compare embeddings share: one look at the support set, one pass over both sides in meta-training."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from innerloop.core import Examples, Meta, Task
from innerloop.functional import PureModel
from innerloop.learners.embedding import EmbeddingLearner, first_input
from innerloop.learners.gradient import query_metrics
from innerloop.learners.metric import MetricLearner, shown_labels, ways_of
from innerloop.objectives import losses
from innerloop.records import record, static


class ComparingFast(Protocol):
    """What a metric learner knows of a task, whatever else it keeps."""

    @property
    def counts(self) -> Tensor:
        """How many support examples each class has, (ways,); zeros before the first step."""
        ...

    @property
    def step(self) -> int: ...


@dataclasses.dataclass(frozen=True, eq=False)
class ComparingLearner(EmbeddingLearner, MetricLearner):
    """A learner that compares embeddings of queries with what it keeps of the support set; nothing of its model is adapted.

    Looking at the support set is its one inner step; more steps change nothing. In meta-training support and query set go
    through the network together, so batch norm takes its statistics over both.

    A method says three things: what is known before the support set (`blank`), what its embeddings become (`read`), and how
    embeddings of queries are compared with that (`compare`).

    Args:
        model: the pure model; its output is the embedding, flattened to (examples, features) where ``flattens``.
        loss: a loss function or name, of logits (queries, ways) and labels; None: the task's, else cross-entropy.
        training: meta-training (statistics recorded, dropout on) or evaluation.
    """

    model: PureModel
    loss: str | losses.Loss | None = None
    training: bool = True

    pass_salt = 31

    @abstractmethod
    def blank(self, meta: Meta, task: Task, one: Tensor) -> Any:
        """A `ComparingFast` that knows nothing of the support set; ``one`` is an embedding, (1, ...), for its shape and dtype."""

    @abstractmethod
    def read(self, meta: Meta, z: Tensor, support: Examples, ways: int) -> Any:
        """A `ComparingFast` (step 1) from the embeddings ``z`` of the support set."""

    @abstractmethod
    def compare(
        self, meta: Meta, fast: Any, z: Tensor, mask: Tensor | None
    ) -> tuple[Float[Tensor, "queries ways"], dict[str, Tensor]]:
        """Logits of queries from their embeddings ``z``, and the running statistics after this pass."""

    def init(self, meta: Meta, task: Task) -> Any:
        one, _ = self.embed(meta, first_input(task.support))  # only the model knows how long its embeddings are
        return self.blank(meta, task, one)

    def step(self, meta: Meta, fast: Any, batch: Examples, i: int) -> Any:
        if fast.step:
            return fast
        z, _ = self.embed(meta, batch.x, batch.mask)
        return self.read(meta, z, batch, fast.counts.shape[-1])

    def predict(self, meta: Meta, fast: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
        z, _ = self.embed(meta, x, mask)
        return self.compare(meta, fast, z, mask)[0]

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        support = self.batch(task, 0)
        z_support, z_query, buffers = self.embed_both(meta, support, task.query, task.noise)
        fast = self.read(meta, z_support, support, ways_of(task))
        logits, buffers = self.compare(
            meta._replace(buffers={**meta.buffers, **buffers}), fast, z_query, task.query.mask
        )
        loss = self.query_loss(logits, fast, task)
        return loss, {"metrics": query_metrics(loss, logits, task, self.loss), "buffers": buffers}

    def query_loss(self, logits: Tensor, fast: ComparingFast, task: Task) -> Tensor:
        """The loss of one task over the queries that count."""
        y = shown_labels(task.query, fast.counts)
        return losses.objective(self.loss or task.objective, logits, y, task.query.mask)


def one_row_per_support(one: Tensor, task: Task) -> tuple[Tensor, Bool[Tensor, "support ways"]]:
    """Zeros for each support example in the shape of one embedding (1, ...), and members of no class."""
    rows = task.support.y.shape[0]
    return one.new_zeros(rows, *one.shape[1:]), one.new_zeros(rows, ways_of(task), dtype=torch.bool)


@record
class SupportFast:
    """What a learner keeps that compares queries with every support example.

    Attributes:
        z: (support, features) their embeddings; zeros before the first step.
        members: (support, ways) booleans, which example belongs to which class, padding to none; all False before the first step.
        step: how many steps came before.
    """

    z: Tensor
    members: Tensor
    step: int = static(0)

    @property
    def counts(self) -> Tensor:
        return self.members.sum(0)
