"""SNAIL, a simple neural attentive meta-learner: causal convolutions and attention read the support set as a sequence.

The network, the learner, for which each query is what comes after the support set, and the factory. Mishra, Rohaninejad, Chen
and Abbeel 2018, "A simple neural attentive meta-learner", arXiv:1707.03141.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop import keys
from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError, InputError, expect_whole
from innerloop.functional import Parts, PureModel, features_of
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners.embedding import EmbeddingLearner, coded, counted, expect_width, longest_support
from innerloop.learners.gradient import query_metrics
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, method
from innerloop.objectives import losses
from innerloop.records import record, static

_ORDER = 42  # keeps the order apart from what else draws from a task's key


class GatedLayer(nn.Module):
    """A causal convolution of two taps, ``tanh(a) * sigmoid(b)``, put beside what comes in.

    Written as two linear layers, one for a position and one for the position ``dilation`` before it: under vmap that is one
    matrix product, and a position to come can be computed from a single row of the past.

    Args:
        channels: of the input.
        filters: new channels.
        dilation: how far back the second tap looks; zeros stand before the beginning.
    """

    channels: int
    dilation: int
    width: int

    def __init__(self, channels: int, filters: int, dilation: int) -> None:
        super().__init__()
        self.channels, self.dilation, self.width = channels, dilation, channels + filters
        self.now: nn.Linear = nn.Linear(channels, 2 * filters)
        self.before: nn.Linear = nn.Linear(channels, 2 * filters, bias=False)
        bound = 1 / math.sqrt(2 * channels)  # both taps are one convolution
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, h: Tensor) -> Tensor:
        """All positions of a sequence, (time, channels) to (time, width)."""
        return self._joined(h, torch.cat([h.new_zeros(self.dilation, self.channels), h])[: h.shape[0]])

    def after(self, h: Tensor, past: Tensor, count: Tensor) -> Tensor:
        """Each row of ``h`` as the position after the first ``count`` rows of ``past``."""
        row = (count - self.dilation).clamp(min=0)
        earlier = past[:, : self.channels].index_select(0, row[None])
        return self._joined(h, torch.where(count >= self.dilation, earlier, torch.zeros_like(earlier)))

    def _joined(self, h: Tensor, earlier: Tensor) -> Tensor:
        value, gate = (self.now(h) + self.before(earlier)).chunk(2, -1)
        return torch.cat([h, torch.tanh(value) * torch.sigmoid(gate)], -1)


class CausalAttention(nn.Module):
    """One head of attention from each position to itself and those before it, put beside what comes in.

    Questions start out as the keys of their own rows, so that before any training a position attends to what is like it. Drawn
    apart, the two have to meet first: SNAIL then stays at chance for hundreds of outer steps.

    Args:
        channels: of the input.
        keys: size of keys and questions.
        values: new channels.
    """

    channels: int
    width: int
    scale: float

    def __init__(self, channels: int, keys: int, values: int) -> None:
        super().__init__()
        self.channels, self.width, self.scale = channels, channels + values, 1 / math.sqrt(keys)
        self.question: nn.Linear = nn.Linear(channels, keys)
        # A bias of the keys would add the same to all scores of a question.
        self.key: nn.Linear = nn.Linear(channels, keys, bias=False)
        self.value: nn.Linear = nn.Linear(channels, values)
        with torch.no_grad():
            self.question.weight.copy_(self.key.weight)
            self.question.bias.zero_()

    def forward(self, h: Tensor) -> Tensor:
        """All positions of a sequence, (time, channels) to (time, width)."""
        place = torch.arange(h.shape[0], device=h.device)
        scores = self.question(h) @ self.key(h).T * self.scale
        weights = torch.where(place[:, None] >= place, scores, -torch.inf).softmax(-1)
        return torch.cat([h, weights @ self.value(h)], -1)

    def after(self, h: Tensor, past: Tensor, count: Tensor) -> Tensor:
        """Each row of ``h`` as the position after the first ``count`` rows of ``past``."""
        past = past[:, : self.channels]
        question = self.question(h)
        known = torch.arange(past.shape[0], device=h.device) < count
        scores = torch.where(known, question @ self.key(past).T * self.scale, -torch.inf)
        own = (question * self.key(h)).sum(-1, keepdim=True) * self.scale
        weights = torch.cat([scores, own], -1).softmax(-1)
        return torch.cat([h, weights[:, :-1] @ self.value(past) + weights[:, -1:] * self.value(h)], -1)


class CausalSequence(nn.Module):
    """Attention, convolutions, attention, convolutions, attention, and a linear layer (Mishra et al. 2018, figure 3).

    Every layer puts its result beside its input, so the last activations of a sequence hold the inputs of all its layers: the
    first channels of a row are what an earlier layer saw there. That is all that a position to come needs of the past.

    Args:
        channels: of the input: the embedding, the label, and whether the label is known.
        outputs: of the last layer.
        time: the longest sequence; ``ceil(log2(time))`` convolutions in a block reach over it.
        filters: new channels of each convolution.
        keys, values: sizes of the three attention layers.
    """

    def __init__(
        self, channels: int, outputs: int, time: int, filters: int, keys: Sequence[int], values: Sequence[int]
    ) -> None:
        super().__init__()
        layers: list[GatedLayer | CausalAttention] = []
        for i, (k, v) in enumerate(zip(keys, values, strict=True)):
            if i:
                for level in range(max(1, math.ceil(math.log2(time)))):
                    layers.append(GatedLayer(channels, filters, 2**level))
                    channels = layers[-1].width
            layers.append(CausalAttention(channels, k, v))
            channels = layers[-1].width
        self.layers: nn.ModuleList = nn.ModuleList(layers)
        self.width = channels
        self.head: nn.Linear = nn.Linear(channels, outputs)

    def forward(
        self, inputs: Float[Tensor, "rows channels"], past: Tensor | None = None, count: Tensor | None = None
    ) -> Float[Tensor, "rows columns"]:
        """A sequence's activations, or what comes after it.

        Args:
            inputs: without ``past`` the rows of one sequence, in order; with it alternatives for the position that comes next,
                none of which sees another.
            past: (time, width) what an earlier call returned.
            count: () how many rows of ``past`` there really are; the rest is padding.

        Returns:
            (rows, width) activations, or (rows, outputs) predictions with ``past``.
        """
        h = inputs
        if past is None:
            for layer in self.layers:
                h = layer(h)
            return h
        for layer in self.layers:
            h = layer.after(h, past, count)  # type: ignore[operator]
        return self.head(h)


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
        model: the pure model: the embedding, and a part "sequence" a `CausalSequence`.
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
        loss = losses.objective(self.loss or task.objective, prediction, query.y, query.mask)
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


@method(
    model={"outputs": None},
    declares={
        "adds_parameters": True,
        "inner_loop": False,
        "order_free": False,
        "training": {"steps": 300, "outer_lr": 0.003},
        "options": {"filters": 16, "keys": (16, 16), "values": (16, 16)},
        "memory": "grows with the sequence",
    },
)
def snail(
    model: nn.Module,
    *,
    outputs: int | None = None,
    max_examples: int = 25,
    filters: int = 128,
    keys: Sequence[int] = (64, 256, 512),
    values: Sequence[int] = (32, 128, 256),
    input_shape: Sequence[int] | None = None,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """SNAIL, a simple neural attentive meta-learner: label a query by what a causal network makes of the support set before it.

    Each support example is its embedding beside its label (one-hot, or the value itself); the query stands at the end without
    one. Attention (64, 32), convolutions, attention (256, 128), convolutions, attention (512, 256) and a linear layer predict it;
    a block of convolutions has dilations 1, 2, 4, ... that reach over the whole sequence, 128 filters each. Nothing is adapted
    by gradients: reading the support set is one step. Queries do not see each other.

    Args:
        model: any nn.Module whose output is the embedding (``il.models.conv4((1, 28, 28), None, downsample="max_pool")``);
            outputs with more axes are flattened. Copied, not changed.
        outputs: classes, or target values; None: as many as the model has outputs.
        max_examples: the largest support set, ways times shots; the paper's T is this and one.
        filters: of each convolution.
        keys, values: sizes of the attention layers' keys and values; a block of convolutions stands between two layers.
        input_shape: of one example; None: what the model was made for.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: cross-entropy for labels, mean squared error for values.
        inductive: with ``batch_norm="batch"``: embed queries one at a time beside the support set.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: sizes below 1, as many ``keys`` as ``values`` not given, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.snail(il.models.mlp(1, None), outputs=1, max_examples=10, filters=16, keys=(8, 8), values=(8, 8)).eval_steps
        1

    Reference: Mishra, Rohaninejad, Chen and Abbeel 2018, "A simple neural attentive meta-learner", arXiv:1707.03141.
    """
    features = math.prod(features_of(model, input_shape))
    columns = features if outputs is None else outputs
    sizes = {"outputs": columns, "max_examples": max_examples, "filters": filters}
    for name, value in [*sizes.items(), *(("keys", k) for k in keys), *(("values", v) for v in values)]:
        expect_whole(name, value)
    if len(keys) != len(values) or not keys:
        raise ConfigError(
            f"keys and values expected one size for each attention layer, got {len(keys)} and {len(values)}"
        )
    # Labels of a support example, and one channel that says that they are known: zero may be a target's value.
    network = CausalSequence(features + columns + 1, columns, max_examples + 1, filters, keys, values)

    return backprop_method(
        "snail",
        Parts(model, sequence=network),
        lambda pure: SequenceLearner(pure, network.width, columns, max_examples, loss),
        outer=Outer(num_tasks=32),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
