"""A learner whose fast weights are made from loss gradients by learned networks."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from innerloop import losses
from innerloop.core import Examples, Meta, Task
from innerloop.functional import PureModel, inner_gradient
from innerloop.functional.two_streams import Meeting, fast_weights
from innerloop.learners.embedding import EmbeddingLearner, counted, expect_width, together
from innerloop.learners.gradient import query_metrics
from innerloop.records import record, static

_TINY = 1e-8
_BASE = ("base.first.weight", "base.second.weight")


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
        function = losses.resolve(self.loss or task.objective, task.query.y)
        loss = losses.objective(function, prediction, task.query.y, task.query.mask)
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
