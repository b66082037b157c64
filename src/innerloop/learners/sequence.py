"""A learner that reads the support set as a sequence of labelled examples; each query is what comes next."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from innerloop import keys, losses
from innerloop.core import Examples, Meta, Task
from innerloop.errors import InputError
from innerloop.functional import PureModel
from innerloop.learners.embedding import EmbeddingLearner, coded, counted, expect_width, longest_support
from innerloop.learners.gradient import query_metrics
from innerloop.records import record, static

_ORDER = 42  # keeps the order apart from what else draws from a task's key


@record
class SequenceFast:
    """What the sequence network keeps of a support set.

    Attributes:
        past: (support, width) its activations; zeros before the first step.
        count: () how many of these rows are examples.
        step: how many steps came before.
    """

    past: Tensor
    count: Tensor
    step: int = static(0)


@dataclasses.dataclass(frozen=True, eq=False)
class SequenceLearner(EmbeddingLearner):
    """Predictions are a causal network's output at the position after the support set, one query at a time.

    Looking at the support set is its one inner step; more steps change nothing. In meta-training the support set comes in a
    random order, drawn from the task's key, so that the network does not learn by heart in which order classes come.

    Args:
        model: the pure model: the embedding, and a part "sequence" as `models.causal_sequence.CausalSequence`.
        width: of the network's activations.
        outputs: of its last layer; as many as a label takes.
        max_examples: the longest support set.
        loss: a loss function or name; None: the task's, else by the targets' dtype.
        training: meta-training (statistics recorded, dropout on, random order) or evaluation.
    """

    model: PureModel
    width: int
    outputs: int
    max_examples: int
    loss: str | losses.Loss | None = None
    training: bool = True

    pass_salt = 41

    def admit(self, tasks: Task) -> Task:
        """The batch as it is.

        Raises:
            InputError: more support examples than the network was built for.
            ShapeError: targets of another width than the outputs, which stand beside the inputs.
        """
        longest = longest_support(tasks)
        if longest > self.max_examples:
            raise InputError(
                f"a support set expected at most {self.max_examples} examples, which the network was built for, "
                f"got {longest}; give max_examples={longest}"
            )
        expect_width(tasks, self.outputs)
        return tasks

    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        del tasks
        return (*of_model[:1], self.outputs)

    def init(self, meta: Meta, task: Task) -> SequenceFast:
        like = next(p for p in meta.params.values() if p.is_floating_point())
        rows = task.support.y.shape[0]
        return SequenceFast(like.new_zeros(rows, self.width), like.new_zeros((), dtype=torch.int64))

    def step(self, meta: Meta, fast: SequenceFast, batch: Examples, i: int) -> SequenceFast:
        if fast.step:
            return fast
        z, _ = self.embed(meta, batch.x, batch.mask)
        return self.read(meta, z, batch, None)

    def predict(self, meta: Meta, fast: SequenceFast, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.answer(meta, fast, self.embed(meta, x, mask)[0])

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        support, query = task.support, task.query
        z_support, z_query, buffers = self.embed_both(meta, support, query, task.noise)
        fast = self.read(meta, z_support, support, task.noise if self.training else None)
        prediction = self.answer(meta, fast, z_query)
        function = losses.resolve(self.loss or task.objective, query.y)
        loss = losses.objective(function, prediction, query.y, query.mask)
        return loss, {"metrics": query_metrics(loss, prediction, task, self.loss), "buffers": buffers}

    def read(self, meta: Meta, z: Tensor, support: Examples, noise: Tensor | None) -> SequenceFast:
        """The network's activations on embedded support examples; in a random order where there is a key for it."""
        rows = z.shape[0]
        known = counted(support)
        inputs = torch.cat([z, coded(support.y, self.outputs, z), torch.ones_like(z[:, :1])], -1)
        if noise is not None or support.mask is not None:
            place = torch.arange(rows, device=z.device)
            if noise is not None:
                place = keys.permutation(keys.fold(noise, _ORDER), rows)
            # Padding goes to the end, where nothing that counts sees it.
            inputs = inputs[torch.argsort(place + rows * ~known)]
        past, _ = self.model.apply(meta.params, meta.buffers, inputs, training=self.training, part="sequence")
        return SequenceFast(past, known.sum(), step=1)

    def answer(self, meta: Meta, fast: SequenceFast, z: Tensor) -> Tensor:
        """Predictions (queries, outputs) for embedded queries, each alone behind the support set."""
        inputs = torch.cat([z, z.new_zeros(z.shape[0], self.outputs + 1)], -1)
        given = (inputs, fast.past, fast.count)
        return self.model.apply(meta.params, meta.buffers, *given, training=self.training, part="sequence")[0]
