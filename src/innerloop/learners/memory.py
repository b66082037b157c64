"""A learner that writes what it is shown into an external memory, example by example."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils._pytree import tree_map

from innerloop import keys, losses
from innerloop.core import Examples, Meta, Task
from innerloop.errors import InputError
from innerloop.functional import PureModel
from innerloop.learners.embedding import EmbeddingLearner, coded, expect_width, longest_support, together
from innerloop.models.external_memory import ExternalMemory, MemoryState
from innerloop.records import record, static

_SUPPORT_ORDER, _QUERY_ORDER = 52, 53
T = TypeVar("T")
_LAST = torch.iinfo(torch.int64).max


@record
class MemoryFast:
    """What is kept of a support set.

    Attributes:
        state: the network's, memory included.
        label: (outputs,) the label of the last support example, which is shown together with what comes next.
        step: how many steps came before.
    """

    state: MemoryState
    label: Tensor
    step: int = static(0)


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryLearner(EmbeddingLearner):
    """Reads a task as a sequence in which each example comes together with the label of the one before it.

    Meta-training reads support and query examples as one sequence in random order, and its loss is the mean over the whole of it,
    first presentations included; without ``whole_sequence`` it is that of the queries, each right after the support
    set. On a new task the support set is read first, as one inner step. Each query then continues a copy of that state by one
    moment, in which the last support label is shown: what is bound there is written before the memory is read, as at every
    moment of training, and queries do not see each other.

    Orders come from the task's key.

    Args:
        model: the pure model: the embedding, and a part "memory", an `ExternalMemory`.
        network: that part, for its sizes; its parameters are taken from ``meta``.
        outputs: of a prediction; as many as a label takes.
        loss: a loss function or name; None: the task's, else by the targets' dtype.
        whole_sequence: which loss is the outer one.
        training: meta-training (statistics recorded, dropout on) or evaluation.
    """

    model: PureModel
    network: ExternalMemory
    outputs: int
    loss: str | losses.Loss | None = None
    whole_sequence: bool = True
    training: bool = True

    pass_salt = 51

    def admit(self, tasks: Task) -> Task:
        """The batch as it is.

        Raises:
            InputError: more support examples than the memory has rows.
            ShapeError: targets of another width than the outputs.
        """
        longest = longest_support(tasks)
        if longest > self.network.rows:
            raise InputError(
                f"a support set expected at most {self.network.rows} examples, one for each row of the memory, got {longest}; "
                f"give memory_rows={longest} or more"
            )
        expect_width(tasks, self.outputs)
        return tasks

    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        del tasks
        return (*of_model[:1], self.outputs)

    def batch(self, task: Task, i: int) -> Examples:
        """The support set in an order drawn from the task's key."""
        del i
        return _ordered(task.support, _order(task.noise, (task.support,), (_SUPPORT_ORDER,)))

    def init(self, meta: Meta, task: Task) -> MemoryFast:
        like = meta.params[next(iter(meta.params))]
        return MemoryFast(self.network.empty(like), like.new_zeros(self.outputs))

    def step(self, meta: Meta, fast: MemoryFast, batch: Examples, i: int) -> MemoryFast:
        if fast.step:
            return fast
        z, _ = self.embed(meta, batch.x, batch.mask)
        return self.remember(meta, z, batch, fast.state)

    def predict(self, meta: Meta, fast: MemoryFast, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.answer(meta, fast, self.embed(meta, x, mask)[0])

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        if self.whole_sequence:
            prediction, judged, buffers = self._along(meta, task)
        else:
            together, judged = _together(task), task.query
            z, buffers = self.embed(meta, together.x, together.mask, task.noise)
            rows = task.support.y.shape[0]
            order = _order(task.noise, (task.support,), (_SUPPORT_ORDER,))
            fast = self.remember(meta, _ordered(z[:rows], order), _ordered(task.support, order), self.network.empty(z))
            prediction = self.answer(meta, fast, z[rows:])
        function = losses.resolve(self.loss or task.objective, judged.y)
        loss = losses.objective(function, prediction, judged.y, judged.mask)
        metrics = {"loss": loss.detach()}
        if losses.judges_labels(function, prediction, judged.y):
            metrics["accuracy"] = losses.accuracy(prediction.detach(), judged.y, judged.mask)
        return loss, {"metrics": metrics, "buffers": buffers}

    def along(self, meta: Meta, task: Task) -> tuple[Float[Tensor, "time outputs"], Examples]:
        """Predictions along one random sequence of all examples of a task, each before its own label is shown; the sequence."""
        prediction, sequence, _ = self._along(meta, task)
        return prediction, sequence

    def _along(self, meta: Meta, task: Task) -> tuple[Tensor, Examples, dict[str, Tensor]]:
        order = _order(task.noise, (task.support, task.query), (_SUPPORT_ORDER, _QUERY_ORDER))
        sequence = _ordered(_together(task), order)
        z, buffers = self.embed(meta, sequence.x, sequence.mask, task.noise)
        prediction, _ = self.read(meta, z, self.labels(sequence.y, z), self.network.empty(z), sequence.mask)
        return prediction, sequence, buffers

    def read(
        self, meta: Meta, z: Tensor, labels: Tensor, state: MemoryState, mask: Tensor | None = None
    ) -> tuple[Float[Tensor, "time outputs"], MemoryState]:
        """Predictions along a sequence of embedded examples, each shown with the label before it, and the state after it."""
        before = torch.cat([torch.zeros_like(labels[:1]), labels[:-1]])
        return self._network(meta, torch.cat([z, before], -1), state, mask)

    def remember(self, meta: Meta, z: Tensor, support: Examples, state: MemoryState) -> MemoryFast:
        """What is kept of embedded support examples, read in their order."""
        labels = self.labels(support.y, z)
        _, state = self.read(meta, z, labels, state, support.mask)
        mask = support.mask
        last = labels[-1] if mask is None else (labels * _last(mask)[:, None].to(labels.dtype)).sum(0)
        return MemoryFast(state, last, step=1)

    def answer(self, meta: Meta, fast: MemoryFast, z: Tensor) -> Float[Tensor, "queries outputs"]:
        """Predictions for embedded queries, each the next example after the support set on a copy of the state."""
        queries = z.shape[0]
        state = tree_map(lambda value: _repeated(value, queries), fast.state)
        shown = torch.cat([z, _repeated(fast.label, queries)], -1)
        return self._network(meta, shown[None], state)[0][0]

    def labels(self, y: Tensor, like: Tensor) -> Float[Tensor, "examples outputs"]:
        """One-hot labels, or the target values themselves."""
        return coded(y, self.outputs, like)

    def _network(self, meta: Meta, *given: Any) -> Any:
        return self.model.apply(meta.params, meta.buffers, *given, training=self.training, part="memory")[0]


def _order(
    noise: Tensor | None, sides: tuple[Examples, ...], salts: tuple[int, ...]
) -> Int64[Tensor, " examples"] | None:
    """A random order of the sides' examples together, padding last; the same whatever padding follows on each side."""
    if noise is None and all(s.mask is None for s in sides):
        return None
    drawn = []
    for side, salt in zip(sides, salts, strict=True):
        count = side.y.shape[0]
        # Number i of the drawn ones does not depend on how many there are.
        place = (
            torch.arange(count, device=side.y.device) if noise is None else keys.bits(keys.fold(noise, salt), (count,))
        )
        drawn.append(place if side.mask is None else torch.where(side.mask, place, _LAST))
    return torch.argsort(torch.cat(drawn), stable=True)


def _together(task: Task) -> Examples:
    """Support and query examples, one after the other."""
    sides = (task.support, task.query)
    x, mask = together(*sides)
    return Examples(x, torch.cat([side.y for side in sides]), mask)


def _ordered(value: T, order: Tensor | None) -> T:
    """A tensor or Examples with the rows in this order."""
    return value if order is None else tree_map(lambda v: v[order], value)


def _last(mask: Tensor) -> Tensor:
    """True at the last example that counts; padding stands at the end."""
    return mask & ~torch.cat([mask[1:], torch.zeros_like(mask[:1])])


def _repeated(value: Tensor, times: int) -> Tensor:
    return value.expand(times, *value.shape)
