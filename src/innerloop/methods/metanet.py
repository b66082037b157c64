"""Meta Networks: fast weights, generated from loss gradients by learned networks, beside slow ones.

The networks that make weights, the learner and the factory; how slow and fast weights go through one model is
`functional.two_streams`. Munkhdalai and Yu 2017, "Meta networks", arXiv:1703.00837.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from innerloop.core import Examples, Meta, Task
from innerloop.errors import InnerloopError, expect_whole
from innerloop.functional import Parts, PureModel, features_of, inner_gradient
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import inputs_of
from innerloop.functional.pure import select
from innerloop.functional.two_streams import Meeting, augmentable, fast_weights, prepare
from innerloop.learners.embedding import EmbeddingLearner, counted, expect_width, together
from innerloop.learners.gradient import query_metrics
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, method
from innerloop.objectives import losses
from innerloop.records import record, static

_PRECISION = 7.0  # the authors' p: gradients below exp(-p) go in by value, larger ones by logarithm and sign
# Fast weights begin this much smaller than a fresh layer's outputs, so that they do not drown the slow ones.
_SMALL = 0.1
_TINY = 1e-8
_BASE = ("base.first.weight", "base.second.weight")


def log_and_sign(gradient: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape 2"]:
    """``(log |g| / p, sign g)``, each kept within -1 and 1 for small ``g`` (Andrychowicz et al. 2016, p = 7)."""
    tiny = torch.finfo(gradient.dtype).eps
    size = (torch.log(gradient.abs() + tiny) / _PRECISION).clamp(min=-1.0)
    return torch.stack([size, (gradient * math.exp(_PRECISION)).clamp(-1.0, 1.0)], -1)


class SequenceGenerator(nn.Module):
    """An LSTM over a sequence of gradients of the same weights: (time, weights) to one number a weight."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input: nn.Linear = nn.Linear(2, 4 * hidden)
        self.from_state: nn.Linear = nn.Linear(hidden, 4 * hidden, bias=False)
        self.head: nn.Linear = _small(nn.Linear(hidden, 1))

    def forward(
        self, gradients: Float[Tensor, "time weights"], counts: Bool[Tensor, " time"] | None = None
    ) -> Float[Tensor, " weights"]:
        state = cell = gradients.new_zeros(gradients.shape[1], self.hidden)
        for t, seen in enumerate(log_and_sign(gradients).unbind(0)):
            gates = self.from_input(seen) + self.from_state(state) if t else self.from_input(seen)
            among = torch.sigmoid(gates[:, : 3 * self.hidden])
            write, keep, show = among.chunk(3, -1)
            new_cell = keep * cell + write * torch.tanh(gates[:, 3 * self.hidden :])
            new_state = show * torch.tanh(new_cell)
            if counts is not None:
                new_cell, new_state = (
                    torch.where(counts[t], n, old) for n, old in ((new_cell, cell), (new_state, state))
                )
            state, cell = new_state, new_cell
        return self.head(state)[:, 0]


class Generator(nn.Module):
    """A fully connected net on each gradient alone: (*shape) to one number a weight, (*shape)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body: nn.Sequential = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.head: nn.Linear = _small(nn.Linear(hidden, 1))

    def forward(self, gradient: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.head(self.body(log_and_sign(gradient)))[..., 0]


class AugmentedNet(nn.Module):
    """Two layers, each with slow weights and, where given, a mixture of remembered fast ones; no biases.

    ``y = W2 h + W2* h`` with ``h = relu(W1 r) + relu(W1* r)``.
    """

    def __init__(self, features: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first: nn.Linear = nn.Linear(features, hidden, bias=False)
        self.second: nn.Linear = nn.Linear(hidden, outputs, bias=False)

    def forward(
        self,
        r: Float[Tensor, "examples features"],
        attention: Float[Tensor, "examples rows"] | None = None,
        first: Float[Tensor, "rows hidden features"] | None = None,
        second: Float[Tensor, "rows outputs hidden"] | None = None,
    ) -> Float[Tensor, "examples outputs"]:
        """Outputs for embeddings ``r``.

        Args:
            r: embeddings.
            attention: how much of each row of the memory each example takes.
            first, second: the memory: fast weights of both layers.
        """
        if attention is None or first is None or second is None:
            return self.second(torch.relu(self.first(r)))
        h = torch.relu(self.first(r)) + torch.relu(mixed(r, attention, first))
        return self.second(h) + mixed(h, attention, second)


def mixed(
    x: Float[Tensor, "examples inputs"],
    attention: Float[Tensor, "examples rows"],
    memory: Float[Tensor, "rows outputs inputs"],
) -> Float[Tensor, "examples outputs"]:
    """``(sum over rows of attention x memory) x``: every row's product first, so that no weights are made for each example."""
    each = (x @ memory.flatten(0, 1).mT).unflatten(-1, memory.shape[:2])
    return (attention[..., None] * each).sum(-2)


def _small(layer: nn.Linear) -> nn.Linear:
    with torch.no_grad():
        layer.weight.mul_(_SMALL)
        layer.bias.zero_()
    return layer


@record
class MetaNetFast:
    """What the learner makes of a support set.

    Attributes:
        weights: the task's fast weights of the embedding, by the names of the slow ones; zeros before the first step.
        keys: (support, features) embeddings of the support examples.
        first, second: (support, outputs, inputs) fast weights of the base learner, made from each support example.
        counts: (support,) booleans, False for padding.
        step: how many steps came before.
        objective: the task's, for the support losses.
    """

    weights: dict[str, Tensor]
    keys: Tensor
    first: Tensor
    second: Tensor
    counts: Tensor
    step: int = static(0)
    objective: Any = static(None)


@dataclasses.dataclass(frozen=True, eq=False)
class MetaNetLearner(EmbeddingLearner):
    """Meta Networks: gradients of the support loss are what fast weights are generated from; they are not descended.

    1. The support set, in ``groups`` parts, gives as many gradients of the representation loss by the embedding's weights. An
       LSTM reads them and makes the task's fast weights.
    2. The support examples are embedded with slow and fast weights. Each gives a gradient of its loss in the base learner, and
       from that a network makes fast weights, which a memory keeps under the example's embedding.
    3. A query's embedding looks up its own mixture by cosine similarity, and the base learner predicts with slow and fast
       weights.

    Gradients count as numbers: the outer gradient does not go through them, as in the authors' code.

    Args:
        model: the pure model: the embedding and the parts "label_head", "of_linear", "of_convolution", "of_base" and "base".
        adapted: names of the embedding's weights that have fast ones, ``model.`` in front.
        shapes: of the embedding (flattened), the base learner's hidden layer and a prediction.
        groups: into how many parts the support set is cut.
        meeting: see `functional.two_streams`.
        loss: a loss function or name; None: the task's, else by the targets' dtype.
        training: meta-training (statistics recorded, dropout on) or evaluation.
    """

    held = "the loss gradients that fast weights are made from"

    model: PureModel
    adapted: tuple[str, ...]
    shapes: tuple[int, int, int]
    groups: int
    meeting: Meeting
    loss: str | losses.Loss | None = None
    training: bool = True

    pass_salt = 61

    def admit(self, tasks: Task) -> Task:
        """The batch as it is.

        Raises:
            ShapeError: targets of another width than the outputs.
        """
        expect_width(tasks, self.shapes[2])
        return tasks

    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        del tasks
        return (*of_model[:1], self.shapes[2])

    def init(self, meta: Meta, task: Task) -> MetaNetFast:
        features, hidden, outputs = self.shapes
        rows = task.support.y.shape[0]
        like = next(iter(meta.params.values()))
        return MetaNetFast(
            {name: torch.zeros_like(meta.params[name]) for name in self.adapted},
            like.new_zeros(rows, features),
            like.new_zeros(rows, hidden, features),
            like.new_zeros(rows, outputs, hidden),
            counted(task.support),
            objective=task.objective,
        )

    def step(self, meta: Meta, fast: MetaNetFast, batch: Examples, i: int) -> MetaNetFast:
        if fast.step:
            return fast
        weights = self.task_weights(meta, batch, fast.objective)
        r, _ = self.embed_fast(meta, weights, batch.x, batch.mask)
        return self.remember(meta, weights, r, batch, fast.objective)

    def predict(self, meta: Meta, fast: MetaNetFast, x: Tensor, mask: Tensor | None = None) -> Tensor:
        r, _ = self.embed_fast(meta, fast.weights, x, mask)
        return self.answer(meta, fast, r)

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        x, mask = together(task.support, task.query)
        weights = self.task_weights(meta, task.support, task.objective)
        r, buffers = self.embed_fast(meta, weights, x, mask, task.noise)
        rows = task.support.y.shape[0]
        fast = self.remember(meta, weights, r[:rows], task.support, task.objective)
        prediction = self.answer(meta, fast, r[rows:])
        loss = losses.objective(self.loss or task.objective, prediction, task.query.y, task.query.mask)
        return loss, {"metrics": query_metrics(loss, prediction, task, self.loss), "buffers": buffers}

    # ---- the parts of a step ---------------------------------------------------------------------------------------------
    def embed_fast(
        self,
        meta: Meta,
        weights: dict[str, Tensor],
        x: Tensor,
        mask: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Float[Tensor, "examples features"], dict[str, Tensor]]:
        """Embeddings with slow weights and, where there are any, fast ones; and the running statistics after this pass."""
        if not weights:
            return self.embed(meta, x, mask, noise)
        fast = {name.removeprefix("model."): w for name, w in weights.items()}
        with fast_weights(fast, x.shape[0], self.meeting) as joined:
            z, buffers = self.embed(meta, x, mask, noise)
            return joined(z), buffers

    def task_weights(self, meta: Meta, support: Examples, objective: Any) -> dict[str, Tensor]:
        """The embedding's fast weights for this task."""
        if not self.adapted:
            return {}
        gradients, counts = self.representation_gradients(meta, support, objective)
        found: dict[str, Tensor] = {}
        for part, names in self.by_kind(meta).items():
            if not names:
                continue
            together = torch.cat([gradients[name].flatten(1) for name in names], 1)
            made = self._part(meta, part, together, *([] if counts is None else [counts]))
            sizes = [meta.params[name].numel() for name in names]
            for name, values in zip(names, made.split(sizes), strict=True):
                found[name] = values.reshape(meta.params[name].shape)
        return {name: found[name] for name in self.adapted}

    def by_kind(self, meta: Meta) -> dict[str, list[str]]:
        """The weights that each generator makes: matrices by one, convolution kernels by another (as the authors' code)."""
        flat = {name: meta.params[name].ndim == 2 for name in self.adapted}
        return {
            "of_linear": [name for name in self.adapted if flat[name]],
            "of_convolution": [name for name in self.adapted if not flat[name]],
        }

    def representation_gradients(
        self, meta: Meta, support: Examples, objective: Any
    ) -> tuple[dict[str, Tensor], Bool[Tensor, " groups"] | None]:
        """A gradient for each group of support examples, (groups, *shape) by name; which groups have examples at all.

        Number i is in group ``i % groups``, so that padding at the end changes none. All pass through the network together.
        """
        rows = support.y.shape[0]
        groups = min(self.groups, rows)
        member = (
            torch.arange(rows, device=support.y.device) % groups
            == torch.arange(groups, device=support.y.device)[:, None]
        )
        counts = None
        if support.mask is not None:
            member = member & support.mask
            counts = member.any(1)
        slow = {name: p.detach() for name, p in meta.params.items()}
        function = losses.resolve(self.loss or objective, support.y)

        def each_loss(adapted: dict[str, Tensor]) -> Tensor:
            here = meta._replace(params={**slow, **adapted})
            z, _ = self.embed(here, support.x, support.mask)
            prediction = self._part(here, "label_head", torch.relu(z))
            return torch.vmap(lambda p, t: function(p[None], t[None]))(prediction, support.y)

        values, backward, *_ = torch.func.vjp(each_loss, {name: slow[name] for name in self.adapted})
        shares = member.to(values.dtype)
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1.0)
        gradients = torch.vmap(lambda share: backward(share)[0])(shares.detach())
        return {name: g.detach() for name, g in gradients.items()}, counts

    def remember(
        self, meta: Meta, weights: dict[str, Tensor], r: Tensor, support: Examples, objective: Any
    ) -> MetaNetFast:
        """The memory: fast weights of the base learner from each support example, under its embedding."""
        first, second = self.example_gradients(meta, r, support, objective)
        counts = counted(support)
        hidden, output = (self._part(meta, "of_base", g) * counts[:, None, None] for g in (first, second))
        return MetaNetFast(weights, r, hidden, output, counts, 1, objective)

    def example_gradients(self, meta: Meta, r: Tensor, support: Examples, objective: Any) -> list[Tensor]:
        """Gradients of each example's loss by the base learner's slow weights, (support, outputs, inputs) of both layers."""
        function = losses.resolve(self.loss or objective, support.y)
        slow = {name: p.detach() for name, p in meta.params.items()}

        def gradient(one: Tensor, y: Tensor) -> dict[str, Tensor]:
            def loss(base: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
                here = meta._replace(params={**slow, **base})
                return function(self._part(here, "base", one[None]), y[None]), {}

            return inner_gradient(loss, {name: slow[name] for name in _BASE}, first_order=True)[0]

        found = torch.vmap(gradient)(r.detach(), support.y)
        return [found[name].detach() for name in _BASE]

    def answer(self, meta: Meta, fast: MetaNetFast, r: Tensor) -> Float[Tensor, "examples outputs"]:
        """The base learner's outputs for embeddings, each with its own mixture of remembered weights."""
        attention = soft_attention(r, fast.keys, fast.counts)
        return self._part(meta, "base", r, attention, fast.first, fast.second)

    def _part(self, meta: Meta, part: str, *given: Tensor) -> Tensor:
        return self.model.apply(meta.params, meta.buffers, *given, training=self.training, part=part)[0]


def soft_attention(
    r: Float[Tensor, "examples features"],
    keys: Float[Tensor, "support features"],
    counts: Bool[Tensor, " support"] | None = None,
) -> Float[Tensor, "examples support"]:
    """A softmax over cosine similarities to the keys; padding gets nothing."""
    unit, known = (v * torch.rsqrt(v.square().sum(-1, keepdim=True) + _TINY) for v in (r, keys))
    similarity = unit @ known.mT
    return torch.softmax(similarity if counts is None else similarity.masked_fill(~counts, -math.inf), -1)


def _meeting(model: nn.Module, weights: Sequence[str], input_shape: Sequence[int]) -> Meeting:
    """Whether what slow and fast weights give can go through this model one behind the other, found out on three zeros."""
    if not weights:
        return "streams"
    like = next(model.parameters())
    x = torch.zeros(3, *input_shape, dtype=like.dtype, device=like.device)
    none = {name: torch.zeros_like(model.get_parameter(name)) for name in weights}
    with torch.no_grad(), fast_weights(none, 3, "streams") as joined:
        try:
            return "streams" if joined(model(x)).shape[0] == 3 else "sum"
        except (RuntimeError, ValueError, TypeError, IndexError, InnerloopError):
            return "sum"


@method(
    classification_tasks={"train_queries": 5},
    model={"outputs": None, "downsample": "max_pool", "norm": "none"},
    brings_networks=True,
    declares={
        "adds_parameters": True,
        "inner_loop": False,
        "order_free": False,
        "training": {"steps": 150, "outer_lr": 0.003},
        "options": {"base_hidden": 16, "generator_hidden": 8, "groups": 2},
    },
)
def metanet(
    model: nn.Module,
    *,
    outputs: int | None = None,
    base_hidden: int = 64,
    generator_hidden: int = 20,
    groups: int = 5,
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Meta Networks: weights of a task, and of each query, are generated from the gradients of losses on the support set.

    The embedding network has slow weights and, for each task, fast ones, which an LSTM makes from gradients of a representation
    loss; a layer gives ``relu(W x) + relu(W* x)``. A small base learner predicts from the embedding, with slow weights and with a
    mixture of fast ones that were made from each support example's gradient: the more alike the embeddings, the more of it.

    Args:
        model: any nn.Module whose output is the embedding (``il.models.conv4((1, 28, 28), None, downsample="max_pool",
            norm="none")``); outputs with more axes are flattened. Copied, not changed.
        outputs: classes, or target values; None: as many as the model has outputs.
        base_hidden: width of the base learner's hidden layer.
        generator_hidden: width of the networks that make weights from gradients.
        groups: into how many parts the support set is cut; each gives one gradient of the representation loss.
        adapt, freeze: patterns of the weights of the model that have fast ones beside them; None: those of all linear and
            convolution layers.
        input_shape: of one example; None: what the model was made for.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: cross-entropy for labels, mean squared error for values.
        batch_norm: policy of BatchNorm layers in the model; "running": in meta-training the statistics of the task's support
            and query examples together, with slow and with fast weights; in evaluation their running mean.
        inductive: with ``batch_norm="batch"``: embed queries one at a time beside the support set.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: sizes below 1, a pattern that matches no such weight, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.metanet(il.models.conv4((1, 28, 28), None, norm="none"), outputs=5).eval_steps
        1

    Reference: Munkhdalai and Yu 2017, "Meta networks", arXiv:1703.00837.
    """
    features = math.prod(features_of(model, input_shape))
    columns = features if outputs is None else outputs
    sizes = {"outputs": columns, "base_hidden": base_hidden, "generator_hidden": generator_hidden, "groups": groups}
    for name, value in sizes.items():
        expect_whole(name, value)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    weights = [name for name in augmentable(model) if name in trainable]
    chosen = select(weights, adapt, freeze) if weights or adapt or freeze else ()
    dims = {name: model.get_parameter(name).ndim for name in chosen}
    brought: dict[str, nn.Module] = {
        "label_head": nn.Linear(features, columns),
        "of_base": Generator(generator_hidden),
        "base": AugmentedNet(features, base_hidden, columns),
    }
    for part, wanted in (
        ("of_linear", [d == 2 for d in dims.values()]),
        ("of_convolution", [d > 2 for d in dims.values()]),
    ):
        if any(wanted):
            brought[part] = SequenceGenerator(generator_hidden)
    if not chosen:  # nothing asks for labels of the embedding itself
        del brought["label_head"]
    notes: list[str] = []

    def learner(pure: PureModel) -> MetaNetLearner:
        own = pure.module.get_submodule("model")
        prepare(own, chosen)
        meeting = _meeting(own, chosen, inputs_of(model, input_shape))
        if meeting == "sum":
            notes.append(
                "slow and fast weights are added before the nonlinearity: the model's layers do not follow one another"
            )
        return MetaNetLearner(
            pure, tuple(f"model.{name}" for name in chosen), (features, base_hidden, columns), groups, meeting, loss
        )

    made = backprop_method(
        "metanet",
        Parts(model, **brought),
        learner,
        outer=Outer(num_tasks=1),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
    for text in notes:
        made.note(text)
    return made
