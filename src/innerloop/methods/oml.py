"""Representations that can be trained on a stream without forgetting: OML and ANML.

`oml` (Javed and White 2019, arXiv:1905.12588): a body is learned such that plain gradient steps of a last layer, one example
after another, do little harm to what was learned before. `anml` (Beaulieu et al. 2020, arXiv:2002.09571): the same, with a
second network that gates the features.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError
from innerloop.functional import PureModel
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import Parts, features_of
from innerloop.learners.embedding import EmbeddingLearner, counted
from innerloop.learners.gradient import query_metrics
from innerloop.learners.metric import MetricLearner, members_of, ways_of
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, expect_choice, expect_label_loss, method
from innerloop.objectives import losses
from innerloop.records import record, static

NewRows = Literal["drawn", "zero"]
HEAD = "head"
_ROWS = 51  # keeps the draw of new rows of the head apart from what else comes from a task's key
_BLOCK = 32  # examples whose inner products are computed together


@record
class StreamFast:
    """The last layer after some of a stream.

    Attributes:
        weights: (classes, features + 1), the last column is the bias.
        step: how many passes over the support set came before.
    """

    weights: Tensor
    step: int = static(0)


def one_pass(
    weights: Float[Tensor, "classes columns"],
    z: Float[Tensor, "examples columns"],
    y: Float[Tensor, "examples classes"],
    rate: float | Tensor,
    counts: Float[Tensor, " examples"] | None = None,
) -> Float[Tensor, "classes columns"]:
    """A linear layer after one gradient step on each example in turn, of the cross-entropy of its softmax.

    The same as ``weights -= rate * (softmax(weights z_t) - y_t) z_t'`` for t = 1, 2, ...; computed with the inner products of
    some examples at a time, so that the layer itself is written once for all of them.

    Args:
        weights: where it begins.
        z: the examples' features.
        y: ones and zeros for each class.
        rate: of the steps.
        counts: 1 for an example that counts, 0 for padding; None: all count.
    """
    for a in range(0, len(z), _BLOCK):
        part = z[a : a + _BLOCK]
        gram = part @ part.T
        logits = part @ weights.T
        moves = []
        for j in range(len(part)):
            move = rate * (logits[j].softmax(-1) - y[a + j])
            if counts is not None:
                move = move * counts[a + j]
            moves.append(move)
            if j + 1 < len(part):  # what the step does to the logits of the others
                logits = logits - gram[:, j, None] * move
        weights = weights - torch.stack(moves).T @ part
    return weights


@dataclasses.dataclass(frozen=True, eq=False)
class StreamLearner(EmbeddingLearner, MetricLearner):
    """One pass of gradient steps over the support set as it lies, one example a step, of the last layer alone.

    Rows of classes that a training stream shows begin anew, the others are learned across tasks; in evaluation all are new.

    Args:
        model: the pure model; its output is the embedding, flattened to (examples, features).
        features: how many.
        rows: of the learned last layer: classes of the training split.
        inner_lr: rate in meta-training.
        eval_lr: on a new stream.
        new_rows: "drawn", normal with deviation sqrt(2 / features), or "zero".
        gated: there is a second network whose sigmoid multiplies the features.
        normalised: the features of each example have mean 0 and variance 1.
        first_order: the outer gradient takes the steps as given.
        loss: of the queries; None: cross-entropy.
        training: meta-training (statistics recorded, dropout on) or evaluation.
    """

    model: PureModel
    features: int
    rows: int
    inner_lr: float
    eval_lr: float
    new_rows: NewRows = "zero"
    gated: bool = False
    normalised: bool = True
    first_order: bool = False
    loss: str | losses.Loss | None = None
    training: bool = True

    pass_salt = 52
    absorbs = True
    at_a_look = False
    asks_unshown = True  # what is to be remembered

    def init_rule(self, params: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        like = next(p for p in params.values() if p.is_floating_point())
        drawn = torch.randn(self.rows, self.features + 1, generator=generator, dtype=torch.float64)
        return {HEAD: self._begun(drawn).to(like)}

    def widened_rule(self, rule: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        own = rule[HEAD]
        if own.shape[0] >= rows:
            return {}
        more = self._begun(torch.randn(rows - own.shape[0], own.shape[1], dtype=torch.float64)).to(own)
        return {HEAD: torch.cat([own.detach(), more])}

    def _begun(self, drawn: Tensor) -> Tensor:
        """New rows, from standard normal numbers: the bias begins at 0."""
        size = math.sqrt(2 / self.features) if self.new_rows == "drawn" else 0.0
        return torch.cat([size * drawn[..., :-1], torch.zeros_like(drawn[..., -1:])], -1)

    def embed(
        self, meta: Meta, x: Tensor, mask: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Float[Tensor, "examples columns"], dict[str, Tensor]]:
        """Features, gated where there is a gate, and a column of ones."""
        z, buffers = super().embed(meta, x, mask, noise)
        if self.gated:
            gate, buffers = self.model.apply(meta.params, buffers, x, mask=mask, training=self.training, part="gate")
            z = z * gate.reshape(z.shape).sigmoid()
        if self.normalised:
            z = F.layer_norm(z, z.shape[1:])
        return torch.cat([z, torch.ones_like(z[:, :1])], 1), buffers

    def blank(self, meta: Meta, task: Task) -> Tensor:
        """The last layer before the stream."""
        ways, like = ways_of(task), meta.rule[HEAD]
        assert task.class_ids is not None
        if not self.training:
            return self._new(task, torch.arange(ways, device=like.device), like)
        y = task.support.y
        begun = like[task.class_ids % like.shape[0]]
        rows = self._new(task, y, like)
        # A row for each example, the same for all of a class, so that their order does not matter.
        hit = members_of(y, ways, task.support.mask).to(like.dtype)
        shown = hit.sum(0).clamp(max=1.0)[:, None]
        return begun * (1 - shown) + (hit / hit.sum(0).clamp(min=1.0)).T @ rows

    def _new(self, task: Task, labels: Tensor, like: Tensor) -> Tensor:
        if task.noise is None or self.new_rows == "zero":
            return like.new_zeros(len(labels), like.shape[1])
        keys = random_keys.fold(random_keys.fold(task.noise, _ROWS), labels)
        return self._begun(random_keys.normal(keys, (like.shape[1],), 0, like.dtype))

    def init(self, meta: Meta, task: Task) -> StreamFast:
        return StreamFast(self.blank(meta, task))

    def step(self, meta: Meta, fast: StreamFast, batch: Examples, i: int) -> StreamFast:
        if fast.step:  # a stream is seen once
            return fast
        return StreamFast(self.absorb(meta, fast, batch).weights, fast.step + 1)

    def absorb(self, meta: Meta, fast: StreamFast, data: Examples) -> StreamFast:
        """The last layer after these examples, too."""
        z, _ = self.embed(meta, data.x, data.mask)
        return StreamFast(self.after(fast.weights, z, data), fast.step)

    def after(self, weights: Tensor, z: Tensor, side: Examples, rate: float | Tensor | None = None) -> Tensor:
        """The last layer after one pass over examples whose features are known."""
        lr = (self.inner_lr if self.training else self.eval_lr) if rate is None else rate
        counts = None if side.mask is None else counted(side).to(z.dtype)
        return one_pass(weights, z, members_of(side.y, len(weights)).to(z.dtype), lr, counts)

    def predict(self, meta: Meta, fast: StreamFast, x: Tensor, mask: Tensor | None = None) -> Tensor:
        z, _ = self.embed(meta, x, mask)
        return z @ fast.weights.T

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        z_support, z_query, buffers = self.embed_both(meta, task.support, task.query, task.noise)
        begun = self.blank(meta, task)
        weights = self.after(begun, z_support, task.support)
        if self.first_order:
            weights = begun + (weights - begun).detach()
        prediction = z_query @ weights.T
        loss = losses.objective(self.loss or task.objective, prediction, task.query.y, task.query.mask)
        return loss, {"metrics": query_metrics(loss, prediction, task, self.loss), "buffers": buffers}


_DECLARES: dict[str, Any] = {
    "regression": False,
    "any_ways": True,
    "adds_parameters": True,
    "inner_loop": False,
    "order_free": False,
    "derivatives": "2",
    "options": {"inner_lr": 1.0},  # few steps of few examples have to go far
    "training": {"steps": 150, "outer_lr": 0.02},
}


def _stream_method(
    name: str,
    parts: nn.Module,
    features: int,
    *,
    inner_lr: float | None,
    eval_lr: float | None,
    new_rows: NewRows,
    normalised: bool,
    first_order: bool,
    loss: LossArgument,
    batch_norm: BatchNormPolicy,
    inductive: bool,
) -> MetaLearner:
    expect_label_loss(loss)
    expect_choice("new_rows", new_rows, ("drawn", "zero"))
    if eval_lr is not None and not (math.isfinite(eval_lr) and eval_lr >= 0):
        raise ConfigError(f"eval_lr expected a finite number of at least 0, got {eval_lr!r}")

    if inner_lr is None:
        inner_lr = 3 / features if normalised else {"oml": 0.03, "anml": 0.1}[name]
    rate = inner_lr

    def learner(pure: PureModel) -> StreamLearner:
        return StreamLearner(
            pure, features, 1, rate, rate if eval_lr is None else eval_lr, new_rows, name == "anml", normalised,
            first_order, loss,
        )  # fmt: skip

    return backprop_method(
        name,
        parts,
        learner,
        outer=Outer(lr=1e-3, num_tasks=1),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )


_MODEL = {"outputs": None, "norm": "none", "spatial": "flatten", "halvings": 3, "last_relu": False}


@method(model=_MODEL, declares=_DECLARES)
def oml(
    model: nn.Module,
    *,
    inner_lr: float | None = None,
    eval_lr: float | None = None,
    new_rows: NewRows = "zero",
    normalised: bool = True,
    first_order: bool = False,
    input_shape: Sequence[int] | None = None,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """OML: a representation on which a last layer can be trained on a stream, one example a step, without forgetting.

    ``W <- W - inner_lr grad CE(W f(x_t), y_t)`` for the examples of the support set in their order; body and last layer are
    learned by the loss on the query side after the last step, back through all of them. On the streams of `omniglot_stream` a
    training task shows pictures of one class, whose row of W begins anew, and asks for these and for pictures of any class.
    On a new task all rows are new; the pictures are seen once, and in order.

    Where we differ: the last layer is one linear layer, the body is whatever model is given (the authors: six convolutions in
    the body and two linear layers that are adapted); the outer gradient goes back through all steps at once, one example each.
    As in the authors' code, not in the paper's pseudo-code, the last layer is learned across tasks, too. Two defaults are ours:
    features are normalised, and new rows begin at zero. With the authors' ways (``normalised=False, new_rows="drawn"``, a body
    that ends with ReLU) all features have a part in common, so that a step for one class moves the scores of all; a minute of
    training then gave 0.36 after 50 classes of Omniglot's validation streams, and 0.76 with ours.

    Args:
        model: any nn.Module whose output is the embedding, so without a last layer; flattened. Copied, not changed.
        inner_lr: rate of the steps in meta-training; None: 3 / features where they are normalised, else the authors' 0.03.
        eval_lr: on a new stream; None: ``inner_lr``. The longer a stream, the lower the best one: `il.evaluate_stream` chooses.
        new_rows: how rows of new classes begin: "zero", or "drawn" (the authors' way: normal, deviation sqrt(2 / features)).
        normalised: the features of each example get mean 0 and variance 1. False: as they are (the authors' way).
        first_order: the outer gradient takes the steps as given.
        loss: ``loss(logits, y) -> scalar`` on the queries, or a name; None: cross-entropy. The steps descend cross-entropy.
        batch_norm: policy of BatchNorm layers; a body without them is the authors'.

    Returns:
        A MetaLearner for classification tasks of any number of classes; ``learn(x, y)`` goes on where the stream stopped.

    Raises:
        ConfigError: a rate out of range, an unknown word, a loss that is not for labels.

    Example:
        >>> import innerloop as il
        >>> il.oml(il.models.conv4(1, None)).eval_steps
        1

    Reference: Javed and White 2019, "Meta-learning representations for continual learning", arXiv:1905.12588.
    """
    features = math.prod(features_of(model, input_shape))
    return _stream_method(
        "oml", model, features, inner_lr=inner_lr, eval_lr=eval_lr, new_rows=new_rows, normalised=normalised,
        first_order=first_order, loss=loss, batch_norm=batch_norm, inductive=inductive,
    )  # fmt: skip


@method(model=_MODEL, declares=_DECLARES)
def anml(
    model: nn.Module,
    *,
    inner_lr: float | None = None,
    eval_lr: float | None = None,
    new_rows: NewRows = "zero",
    normalised: bool = True,
    first_order: bool = False,
    input_shape: Sequence[int] | None = None,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """ANML: OML with a second network that gates the features, ``f(x) * sigmoid(g(x))``, so steps for one input spare others.

    Where we differ: as `oml`; the authors' two networks have three convolutions with batch norm each, ours are what is given.
    Their code tunes the last layer on test streams with Adam at a rate that is chosen on the test characters; here it
    is plain gradient steps, as in meta-training, and the rate is chosen on validation characters (`il.evaluate_stream`).

    Args:
        model: the body f, any nn.Module whose output is the embedding; flattened. Copied, not changed. The gate g is another
            copy, with fresh weights.
        inner_lr: rate of the steps in meta-training; None: 3 / features where they are normalised, else the authors' 0.1.
        eval_lr, new_rows, normalised, first_order, input_shape, loss, batch_norm, inductive: see `oml`.

    Returns:
        A MetaLearner for classification tasks of any number of classes.

    Raises:
        ConfigError: as `oml`.

    Example:
        >>> import innerloop as il
        >>> il.anml(il.models.conv4(1, None)).eval_steps
        1

    Reference: Beaulieu et al. 2020, "Learning to continually learn", arXiv:2002.09571.
    """
    features = math.prod(features_of(model, input_shape))
    return _stream_method(
        "anml", Parts(model, gate=fresh_copy(model)), features, inner_lr=inner_lr, eval_lr=eval_lr, new_rows=new_rows,
        normalised=normalised, first_order=first_order, loss=loss, batch_norm=batch_norm, inductive=inductive,
    )  # fmt: skip


def fresh_copy(model: nn.Module) -> nn.Module:
    """The same network with weights as its layers draw them."""
    made = copy.deepcopy(model)
    for module in made.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    return made
