"""MANN, memory-augmented neural networks: a controller that writes examples into a memory and reads them back.

The network, the learner that reads a task as a sequence, and the factory. Santoro, Bartunov, Botvinick, Wierstra and Lillicrap
2016, "One-shot learning with memory-augmented neural networks", arXiv:1605.06065.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from innerloop import keys
from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError, InputError, expect_whole
from innerloop.functional import Parts, PureModel, features_of
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners.embedding import EmbeddingLearner, coded, expect_width, longest_support, together
from innerloop.learners.gradient import query_metrics
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, method
from innerloop.objectives import losses
from innerloop.records import record, static

_SUPPORT_ORDER, _QUERY_ORDER = 52, 53
T = TypeVar("T")
_LAST = torch.iinfo(torch.int64).max
_SHARPNESS = 10.0
_TINY = 1e-8  # under the roots of squared lengths: an empty row is similar to nothing


@record
class MemoryState:
    """What the network carries from one example to the next; any axes may lead.

    Attributes:
        memory: (..., rows, columns).
        read_weights: (..., heads, rows) of the last reading; they sum to 1 for each head, or are 0 before the first.
        usage: (..., rows) how much each row was read and written, with the past counting less and less.
        reads: (..., heads * columns) what the heads read last.
        hidden: (..., units) the controller's output.
        cell: (..., units) its cell.
    """

    memory: Tensor
    read_weights: Tensor
    usage: Tensor
    reads: Tensor
    hidden: Tensor
    cell: Tensor


class ExternalMemory(nn.Module):
    """The network of Santoro et al. 2016 (arXiv:1605.06065): an LSTM, a memory, heads that read it and write to it.

    One step, with the paper's names::

        h, c      = LSTM([x, r], h, c)                                r: what was read in the step before
        k, g      = tanh(W_k h), sigmoid(W_g h)                       a key and a gate for each head
        w_w       = g w_r + (1 - g) w_lu                              w_r of the step before; w_lu: its least used rows
        M         = M with its least used row emptied + w_w^T k
        w_r       = softmax(s cosine(k, M))
        w_u       = usage_decay w_u + sum of w_r + sum of w_w         sums over heads
        r         = w_r M
        output    = W_o [h, r]

    The head number i writes to the i-th least used row. The sharpness ``s`` is 1 in the paper, and is learned here for each
    head and step (``1 + softplus``) where ``sharpen`` says so.

    Args:
        features: of an input, the label shown with it included.
        outputs: of a prediction.
        units: of the controller.
        rows, columns: of the memory.
        heads: how many.
        usage_decay: the paper's gamma.
        sharpen: learn how sharply to read.
    """

    units: int
    rows: int
    columns: int
    heads: int
    usage_decay: float
    sharpen: bool

    def __init__(
        self,
        features: int,
        outputs: int,
        units: int,
        rows: int,
        columns: int,
        heads: int,
        usage_decay: float,
        sharpen: bool,
    ) -> None:
        super().__init__()
        self.units, self.rows, self.columns, self.heads = units, rows, columns, heads
        self.usage_decay, self.sharpen = usage_decay, sharpen
        self.from_input: nn.Linear = nn.Linear(features, 4 * units)
        self.from_state: nn.Linear = nn.Linear(units + heads * columns, 4 * units, bias=False)
        self.to_heads: nn.Linear = nn.Linear(units, heads * (columns + (2 if sharpen else 1)))
        self.head: nn.Linear = nn.Linear(units + heads * columns, outputs)
        bound = 1 / math.sqrt(units)
        for layer in (self.from_input, self.from_state):
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound)
        if sharpen:
            # A softmax over cosines is nearly flat over so many rows; begin where the most similar row stands out.
            with torch.no_grad():
                self.to_heads.bias[-heads:] = _SHARPNESS

    def empty(self, like: Tensor) -> MemoryState:
        """The state before the first example: nothing was written, read or used."""
        return MemoryState(
            like.new_zeros(self.rows, self.columns),
            like.new_zeros(self.heads, self.rows),
            like.new_zeros(self.rows),
            like.new_zeros(self.heads * self.columns),
            like.new_zeros(self.units),
            like.new_zeros(self.units),
        )

    def forward(
        self, x: Float[Tensor, "time *batch features"], state: MemoryState, counts: Bool[Tensor, " time"] | None = None
    ) -> tuple[Float[Tensor, "time *batch outputs"], MemoryState]:
        """Predictions at every moment of a sequence, and the state after it.

        Args:
            x: inputs with the labels that are shown beside them.
            state: where to go on from, with the same axes between time and features.
            counts: which moments there are; at the others nothing happens. None: all.
        """
        seen = []
        for t, gates_in in enumerate(self.from_input(x).unbind(0)):
            after = self.moment(gates_in, state)
            if counts is not None:
                after = _chosen(counts[t], after, state)
            state = after
            seen.append(torch.cat([state.hidden, state.reads], -1))
        return self.head(torch.stack(seen)), state

    def moment(self, gates_in: Tensor, before: MemoryState) -> MemoryState:
        """One step; ``gates_in`` is what the input adds to the controller's gates, (..., 4 * units)."""
        gates = gates_in + self.from_state(torch.cat([before.hidden, before.reads], -1))
        among = torch.sigmoid(gates[..., : 3 * self.units])
        write, keep, show = among.chunk(3, -1)
        cell = keep * before.cell + write * torch.tanh(gates[..., 3 * self.units :])
        hidden = show * torch.tanh(cell)

        controls = self.to_heads(hidden)
        keys = torch.tanh(controls[..., : self.heads * self.columns])
        keys = keys.unflatten(-1, (self.heads, self.columns))
        scalars = controls[..., self.heads * self.columns :, None]
        gate = torch.sigmoid(scalars[..., : self.heads, :])

        least_used = least_used_rows(before.usage, self.heads).to(keys.dtype)
        write_weights = gate * before.read_weights + (1 - gate) * least_used
        memory = before.memory * (1 - least_used[..., 0, :, None]) + write_weights.mT @ keys

        sharpness = 1 + nn.functional.softplus(scalars[..., self.heads :, :]) if self.sharpen else 1.0
        lengths = torch.rsqrt(memory.square().sum(-1) + _TINY)
        scale = sharpness * torch.rsqrt(keys.square().sum(-1, keepdim=True) + _TINY)
        read_weights = torch.softmax((keys * scale) @ memory.mT * lengths[..., None, :], -1)
        usage = self.usage_decay * before.usage + (read_weights.detach() + write_weights.detach()).sum(-2)
        reads = (read_weights @ memory).flatten(-2)
        return MemoryState(memory, read_weights, usage, reads, hidden, cell)


def least_used_rows(usage: Float[Tensor, "*batch rows"], count: int) -> Bool[Tensor, "*batch count rows"]:
    """One row of True for each of the ``count`` least used rows of the memory, the least used first."""
    found = usage.topk(count, dim=-1, largest=False, sorted=True).indices
    return found[..., None] == torch.arange(usage.shape[-1], device=usage.device)


def _chosen(now: Tensor, after: MemoryState, before: MemoryState) -> MemoryState:
    return MemoryState(
        *(torch.where(now, getattr(after, name), getattr(before, name)) for name in MemoryState.__dataclass_fields__)
    )


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
        loss = losses.objective(self.loss or task.objective, prediction, judged.y, judged.mask)
        metrics = query_metrics(loss, prediction, dataclasses.replace(task, query=judged), self.loss)
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


@method(
    classification={"sharpen": True},
    regression={"sharpen": True},
    classification_tasks={"train_shots": 5, "train_queries": 5},
    model={"name": "mlp", "hidden": (), "outputs": None},
    brings_networks=True,
    declares={
        "short_of_names": "300 steps agree on less than half of the queries, 500 on about half",
        "adds_parameters": True,
        "inner_loop": False,
        "order_free": False,
        "nuisance": 0.3,  # it has to learn to bind a label to an input before the embedding gets any signal
        "training": {"steps": 300, "outer_lr": 0.01, "clip_norm": 2.0},
        "options": {"units": 32, "memory_rows": 12, "memory_columns": 12, "heads": 2, "whole_sequence": False},
        "memory": "grows with the sequence",
    },
)
def mann(
    model: nn.Module,
    *,
    outputs: int | None = None,
    units: int = 200,
    memory_rows: int = 128,
    memory_columns: int = 40,
    heads: int = 4,
    usage_decay: float = 0.99,
    sharpen: bool = False,
    whole_sequence: bool = True,
    input_shape: Sequence[int] | None = None,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Memory-augmented neural networks: read a task example by example, each with the label of the one before it.

    A long short-term memory controls an external memory: it writes to the rows that were used least or read last, and reads
    by cosine similarity; a prediction is a linear function of its state and of what was read. The outer loss is taken along a
    whole random sequence of support and query examples. Nothing is adapted by gradients: reading the support set is one step.

    Args:
        model: any nn.Module whose output is what the controller sees of an input; ``il.models.mlp((1, 28, 28), None, hidden=())``
            hands over the flattened input as it is (the paper's). Outputs with more axes are flattened. Copied, not changed.
        outputs: classes, shown one-hot, or target values; None: as many as the model has outputs.
        units: of the controller.
        memory_rows: at least as many as a support set has examples.
        memory_columns: length of a row.
        heads: how many keys read and write at each example.
        usage_decay: what is left of a row's usage from one example to the next.
        sharpen: learn how sharply each head reads, instead of a softmax over plain cosines.
        whole_sequence: the outer loss is the mean along a random sequence of support and query examples; False: of the queries
            alone, each right after the support set, which is what evaluation asks for and is much shorter.
        input_shape: of one example; None: what the model was made for.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: cross-entropy for labels, mean squared error for values.
        batch_norm: policy of BatchNorm layers in the model; "running": in meta-training the statistics of the whole sequence,
            in evaluation their running mean.
        inductive: with ``batch_norm="batch"``: embed queries one at a time beside the support set.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: sizes below 1, fewer rows than heads, a decay outside 0 to 1, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.mann(il.models.mlp((1, 28, 28), None, hidden=()), outputs=5).eval_steps
        1

    Reference: Santoro, Bartunov, Botvinick, Wierstra and Lillicrap 2016, "One-shot learning with memory-augmented neural
    networks", arXiv:1605.06065.
    """
    features = math.prod(features_of(model, input_shape))
    columns = features if outputs is None else outputs
    sizes = {
        "outputs": columns, "units": units, "memory_rows": memory_rows, "memory_columns": memory_columns, "heads": heads,
    }  # fmt: skip
    for name, value in sizes.items():
        expect_whole(name, value)
    if memory_rows < heads:
        raise ConfigError(f"memory_rows expected at least {heads}, one for each head, got {memory_rows}")
    if not 0 <= usage_decay <= 1:
        raise ConfigError(f"usage_decay expected a number from 0 to 1, got {usage_decay!r}")
    network = ExternalMemory(
        features + columns, columns, units, memory_rows, memory_columns, heads, usage_decay, sharpen
    )

    return backprop_method(
        "mann",
        Parts(model, memory=network),
        lambda pure: MemoryLearner(pure, network, columns, loss, whole_sequence),
        outer=Outer(num_tasks=16),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
