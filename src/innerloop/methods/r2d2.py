"""R2-D2: ridge regression on a learned embedding, solved in each task, differentiated through (Bertinetto et al. 2019)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError, ShapeError, expect_whole
from innerloop.functional import PureModel
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import features_of
from innerloop.learners.embedding import EmbeddingLearner, first_input
from innerloop.learners.gradient import query_metrics
from innerloop.learners.metric import ValuesOrClasses, members_of, shown_labels, ways_of
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, expect_choice, loss_name, method
from innerloop.objectives import losses
from innerloop.records import record, static

Penalty = Literal["mean", "total"]


@record
class RidgeFast:
    """What a ridge learner knows of a task.

    Attributes:
        weights: (features + 1, outputs), the last row is the bias; zeros before the first step.
        counts: (outputs,) how many support examples each class has; ones for regression.
        step: how many steps came before.
        classes: whether the outputs are classes.
    """

    weights: Tensor
    counts: Tensor
    step: int = static(0)
    classes: bool = static(True)


@dataclasses.dataclass(frozen=True, eq=False)
class RidgeLearner(EmbeddingLearner, ValuesOrClasses):
    """Ridge regression of the targets (one-hot for labels) on the embeddings of the support set.

    In meta-training support and query set go through the network together, so batch norm takes its statistics over both.

    Args:
        model: the pure model; its output is the embedding, flattened to (examples, features).
        ridge: the penalty at the beginning of meta-training; its logarithm is learned.
        scale: what classes' regression values are multiplied by to become logits, at the beginning; learned.
        loss: a loss function or name; None: the task's, else by the targets' dtype.
        prior: (features, outputs) of the weights that the ridge draws towards, beside their bias; None: it draws towards zero.
        penalty: whether the ridge is beside the "mean" of the squared errors, or beside their sum, the "total".
        training: meta-training (statistics recorded, dropout on) or evaluation.
    """

    model: PureModel
    ridge: float
    scale: float
    loss: str | losses.Loss | None = None
    prior: tuple[int, int] | None = None
    training: bool = True
    penalty: Penalty = "mean"

    pass_salt = 37

    def init_rule(self, params: Any, generator: torch.Generator | None) -> dict[str, Tensor]:
        del generator
        like = next(p for p in params.values() if p.is_floating_point())
        found = {
            "log_ridge": like.new_tensor(math.log(self.ridge)),
            "logit_scale": like.new_tensor(self.scale),
            "logit_bias": like.new_zeros(()),
        }
        if self.prior is not None:
            features, outputs = self.prior
            found["prior"] = like.new_zeros(features + 1, outputs)
        return found

    def admit(self, tasks: Task) -> Task:
        """Labels as for every method that compares classes; or values, (tasks, examples, outputs)."""
        y = tasks.support.y
        if self.prior is not None and (not y.is_floating_point() or y[0, 0].numel() != self.prior[1]):
            got = f"{y[0, 0].numel()} numbers an example" if y.is_floating_point() else "labels"
            raise ShapeError(
                f"prior={self.prior[1]} expected targets of so many numbers an example, got {got}; give it their number"
            )
        return super().admit(tasks)

    def init(self, meta: Meta, task: Task) -> RidgeFast:
        one, _ = self.embed(meta, first_input(task.support))  # only the model knows how long its embeddings are
        y = task.support.y
        classes = not y.is_floating_point()
        outputs = ways_of(task) if classes else y.shape[-1]
        counts = one.new_zeros(outputs) if classes else one.new_ones(outputs)
        start = one.new_zeros(one.shape[-1] + 1, outputs) if self.prior is None else meta.rule["prior"].to(one)
        return RidgeFast(start, counts, 0, classes)

    def step(self, meta: Meta, fast: RidgeFast, batch: Examples, i: int) -> RidgeFast:
        if fast.step:
            return fast
        z, _ = self.embed(meta, batch.x, batch.mask)
        return self.fitted(meta, fast, z, batch)

    def fitted(self, meta: Meta, fast: RidgeFast, z: Float[Tensor, "examples features"], side: Examples) -> RidgeFast:
        """The regression of the targets of ``side`` on its embeddings."""
        counts = fast.counts
        if fast.classes:
            targets = members_of(side.y, counts.shape[0], side.mask).to(z.dtype)
            counts = targets.sum(0)
        else:
            targets = side.y.to(z.dtype)
        ridge = meta.rule["log_ridge"].exp()
        if self.penalty == "total":
            known = meta.rule["prior"].to(z) if self.prior is not None else None
            weights = total_ridge_weights(z, targets, ridge, side.mask, known)
        elif self.prior is None:
            weights = ridge_weights(z, targets, ridge, side.mask)
        else:  # what the prior does not say, by weights near zero
            known = meta.rule["prior"].to(z)
            weights = known + ridge_weights(z, targets - z @ known[:-1] - known[-1], ridge, side.mask)
        return RidgeFast(weights, counts, 1, fast.classes)

    def predict(self, meta: Meta, fast: RidgeFast, x: Tensor, mask: Tensor | None = None) -> Tensor:
        z, _ = self.embed(meta, x, mask)
        return self.outputs(meta, fast, z)

    def outputs(
        self, meta: Meta, fast: RidgeFast, z: Float[Tensor, "examples features"]
    ) -> Float[Tensor, "examples outputs"]:
        """Values for embeddings; for classes ``scale * value + bias``, -inf for a class without support."""
        values = z @ fast.weights[:-1] + fast.weights[-1]
        if not fast.classes:
            return values
        logits = meta.rule["logit_scale"] * values + meta.rule["logit_bias"]
        found = fast.counts > 0
        return torch.where(found | ~found.any(), logits, -torch.inf)

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        support, query = task.support, task.query
        z_support, z_query, buffers = self.embed_both(meta, support, query, task.noise)
        classes = not support.y.is_floating_point()
        outputs = ways_of(task) if classes else support.y.shape[-1]
        start = RidgeFast(z_query.new_zeros(z_query.shape[-1] + 1, outputs), z_query.new_ones(outputs), 0, classes)
        fast = self.fitted(meta, start, z_support, support)
        prediction = self.outputs(meta, fast, z_query)
        y = shown_labels(query, fast.counts) if classes else query.y
        loss = losses.objective(self.loss or task.objective, prediction, y, query.mask)
        return loss, {"metrics": query_metrics(loss, prediction, task, self.loss), "buffers": buffers}


def ridge_weights(
    z: Float[Tensor, "examples features"],
    y: Float[Tensor, "examples outputs"],
    ridge: Float[Tensor, ""],
    mask: Tensor | None = None,
) -> Float[Tensor, "rows outputs"]:
    """The weights and, in the last row, the bias W that minimise ``mean |[z 1] W - y|^2 + ridge |W|^2``.

    With n examples that count and Z = [z 1], ``W = (Z'Z / n + ridge I)^-1 Z'y / n``; where there are fewer examples than
    rows of W, ``Z' (Z Z' / n + ridge I)^-1 y / n``, the same by Woodbury's identity and a smaller system to solve.

    Args:
        z: embeddings.
        y: targets.
        ridge: the penalty, above 0; on the bias too.
        mask: (examples,) booleans, False for rows that do not count; None: all do.
    """
    design = torch.cat([z, torch.ones_like(z[:, :1])], 1)
    examples, rows = design.shape
    if mask is None:
        count: Tensor | float = float(examples)
    else:
        design, y = (torch.where(mask[:, None], v, 0.0) for v in (design, y))
        count = mask.to(z.dtype).sum().clamp(min=1.0)
    if examples < rows:
        system = design @ design.T / count + ridge * torch.eye(examples, dtype=z.dtype, device=z.device)
        return design.T @ _solve(system, y / count)
    system = design.T @ design / count + ridge * torch.eye(rows, dtype=z.dtype, device=z.device)
    return _solve(system, design.T @ y / count)


def total_ridge_weights(
    z: Float[Tensor, "examples features"],
    y: Float[Tensor, "examples outputs"],
    ridge: Float[Tensor, ""],
    mask: Tensor | None = None,
    known: Float[Tensor, "rows outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """The weights and, in the last row, the bias W that minimise ``sum |[z 1] W - y|^2 + ridge |W - known|^2``.

    The more examples count, the less the penalty weighs. Without ``known`` it is not on the bias.

    Args:
        z, y, ridge, mask: as `ridge_weights`.
        known: what W is drawn towards, its bias too; None: zero, and the bias is free.
    """
    if mask is None:
        counted = z.new_ones(z.shape[0])
    else:
        z, y = (torch.where(mask[:, None], v, 0.0) for v in (z, y))
        counted = mask.to(z.dtype)
    number = counted.sum().clamp(min=1.0)
    if known is not None:
        found = ridge_weights(z, y - z @ known[:-1] - known[-1], ridge / number, mask)
        return known + found
    middle, mean = z.sum(0) / number, y.sum(0) / number
    centred = (z - middle) * counted[:, None]
    targets = (y - mean) * counted[:, None]
    examples, features = z.shape
    if examples < features:
        system = centred @ centred.T + ridge * torch.eye(examples, dtype=z.dtype, device=z.device)
        weights = centred.T @ _solve(system, targets)
    else:
        system = centred.T @ centred + ridge * torch.eye(features, dtype=z.dtype, device=z.device)
        weights = _solve(system, centred.T @ targets)
    return torch.cat([weights, (mean - middle @ weights)[None]])


def _solve(system: Float[Tensor, "n n"], right: Float[Tensor, "n outputs"]) -> Float[Tensor, "n outputs"]:
    # `torch.linalg.solve` waits for the device to say whether the system is singular; with a penalty it never is.
    low = system.dtype in (torch.bfloat16, torch.float16)  # which no solver takes
    return torch.linalg.solve_ex(system.float() if low else system, right.to(torch.float32 if low else system.dtype))[
        0
    ].to(right.dtype)


@method(
    model={"outputs": None, "downsample": "max_pool"},
    regression={"ridge": 0.01},
    newer=("prior", "penalty"),
    declares={
        "adds_parameters": True,
        "inner_loop": False,
        "any_ways": True,
        "equivariant": True,
    },
)
def r2d2(
    model: nn.Module,
    *,
    ridge: float = 1.0,
    scale: float = 10.0,
    prior: int = 0,
    penalty: Penalty = "mean",
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """R2-D2: a linear layer on the embedding, fitted to each task's support set by ridge regression in closed form.

    ``W = argmin mean |[f(x) 1] W - y|^2 + lambda |W|^2``, one-hot labels as y; logits are ``alpha * [f(x) 1] W + beta``.
    Embedding, lambda (its logarithm), alpha and beta are learned across tasks by backprop through the solution. Looking at
    the support set is one step. A task may have any number of classes, in training, in evaluation and in ``adapt``; where
    targets are values the prediction is ``[f(x) 1] W`` itself.

    ``prior`` is ours, not the paper's: the ridge draws W towards learned weights W0 in place of zero, ``W = argmin mean
    |[f(x) 1] W - y|^2 + lambda |W - W0|^2``, so that a task of few examples begins with what all tasks share (the usual
    rating of a film, say), as in Bayesian regression with a learned prior (Harrison, Sharma and Pavone 2018, arXiv:1807.08912).

    Args:
        model: any nn.Module whose output is the embedding, so without a last layer (``outputs=None`` in `il.models`);
            outputs with more axes are flattened. Its parameters may all be frozen. Copied, not changed.
        ridge: lambda at the beginning, above 0, in units of the mean square of the embedding (the authors divide by the
            number of examples too).
        scale: alpha at the beginning (the authors' Omniglot command: 10); beta begins at 0.
        prior: the number of values in a target, each of which gets learned weights to draw towards; 0: none, as in the paper.
        penalty: "mean" as the authors' code, "total" with the sum of the squared errors in place of their mean and a bias that is
            free: the more examples, the less lambda weighs. For tasks of unequal sizes, where ``innerloop train`` takes it.
            With a ``prior`` the bias is drawn towards its own weight.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: cross-entropy for labels, mean squared error for values.

    Returns:
        A MetaLearner for classification and regression tasks.

    Raises:
        ConfigError: a ridge that is not above 0, a scale that is not finite, a binary loss, an unknown policy, or a prior for a
            model whose inputs are not known.
        ShapeError: from the learner, where targets are not the values that ``prior`` says.

    Example:
        >>> import innerloop as il
        >>> il.r2d2(il.models.conv4((1, 28, 28), None, downsample="max_pool")).eval_steps
        1

    Reference: Bertinetto, Henriques, Torr and Vedaldi 2019, "Meta-learning with differentiable closed-form solvers",
        arXiv:1805.08136.
    """
    for name, value, least in (("ridge", ridge, 0.0), ("scale", scale, -math.inf)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= least:
            above = "" if least else " above 0"
            raise ConfigError(f"{name} expected a finite number{above}, got {value!r}; leave it out for the default")
    expect_whole("prior", prior, 0)
    expect_choice("penalty", penalty, ("mean", "total"))
    before = (math.prod(features_of(model)), prior) if prior else None
    if losses.is_binary(loss):
        raise ConfigError(
            f"loss expected one for logits (queries, ways) and integer labels, or for values, got {loss_name(loss)!r}; "
            "leave it out"
        )

    return backprop_method(
        "r2d2",
        model,
        lambda pure: RidgeLearner(pure, float(ridge), float(scale), loss, before, penalty=penalty),
        outer=Outer(num_tasks=1, schedule="halving"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
