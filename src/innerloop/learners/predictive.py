"""Learners that look at the support set once and answer with a distribution for each query, not with a number alone."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError
from innerloop.functional import PureModel
from innerloop.learners.embedding import EmbeddingLearner, coded, together
from innerloop.learners.gradient import query_metrics
from innerloop.objectives import losses


@dataclasses.dataclass(frozen=True, eq=False)
class PredictiveLearner(EmbeddingLearner):
    """What learners with a predictive distribution share; `look` and the four questions to a distribution are theirs.

    Looking at the support set is the one inner step; more steps change nothing.

    Args:
        model: the pure model with the method's networks beside it; its output is the embedding of x, flattened.
        outputs: numbers in a regression target, or classes.
        loss: a loss function or name for the mean (or the logits); None: minus the log density of the targets.
        training: meta-training (statistics recorded, dropout on) or evaluation.
    """

    model: PureModel
    outputs: int
    loss: str | losses.Loss | None = None
    training: bool = True

    pass_salt = 41
    predicts_distribution = True

    # ---- what a method says ----------------------------------------------------------------------------------------
    @abstractmethod
    def look(self, meta: Meta, fast: Any, z: Tensor, y: Tensor, counts: Tensor) -> Any:
        """``fast`` after the support set's embeddings (support, features), coded targets and counts have been seen."""

    @abstractmethod
    def distribution(self, meta: Meta, fast: Any, z: Tensor) -> Any:
        """What is believed of the queries with these embeddings (queries, features)."""

    @abstractmethod
    def outputs_of(self, found: Any, labels: bool) -> Tensor:
        """The mean, or logits, (queries, outputs)."""

    @abstractmethod
    def std_of(self, found: Any) -> Tensor:
        """The standard deviation, (queries, outputs)."""

    @abstractmethod
    def density_of(self, found: Any, y: Tensor) -> Tensor:
        """The log density of floating targets, (queries,), summed over outputs."""

    # ---- what follows ----------------------------------------------------------------------------------------------
    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        return (*of_model[:1], self.outputs)

    def step(self, meta: Meta, fast: Any, batch: Examples, i: int) -> Any:
        if fast.step:
            return fast
        z, _ = self.embed(meta, batch.x, batch.mask)
        return self.look(meta, fast, z, coded(batch.y, self.outputs, z), counts_of(batch, z))

    def predict(self, meta: Meta, fast: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.outputs_of(self.distribution(meta, fast, self.embed(meta, x, mask)[0]), fast.labels)

    def predict_std(self, meta: Meta, fast: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if fast.labels:
            raise ConfigError("predict_std expected a regression task, got classes; use predict_proba")
        if self.loss is not None:
            raise ConfigError(
                "this learner was trained with a loss of its own (loss=...), so its spread was not; leave it out"
            )
        return self.std_of(self.distribution(meta, fast, self.embed(meta, x, mask)[0]))

    def log_density(self, meta: Meta, fast: Any, query: Examples) -> Tensor:
        found = self.distribution(meta, fast, self.embed(meta, query.x, query.mask)[0])
        return self.judged(found, query.y)

    def judged(self, found: Any, y: Tensor) -> Float[Tensor, " examples"]:
        """The log density of floating targets, or the log probability of labels."""
        if y.is_floating_point():
            return self.density_of(found, y)
        chances = torch.log_softmax(self.outputs_of(found, True), -1)
        return chances.gather(-1, y[:, None]).squeeze(-1)

    def score(self, found: Any, task: Task, side: Examples, counts: Tensor) -> Tensor:
        """The loss on some examples: minus the mean log density, unless a loss was given that says otherwise."""
        given = losses.short_form(self.loss or task.objective)
        if (side.y.is_floating_point() and given not in (None, "mse", losses.mse)) or self.loss is not None:
            return losses.objective(given, self.outputs_of(found, not side.y.is_floating_point()), side.y, side.mask)
        return -(self.judged(found, side.y) * counts).sum() / counts.sum().clamp(min=1.0)

    def metrics(self, loss: Tensor, found: Any, task: Task) -> dict[str, Tensor]:
        """The loss, and the accuracy or the log-likelihood of the queries, detached."""
        labels = not task.query.y.is_floating_point()
        seen = query_metrics(loss, self.outputs_of(found, labels).detach(), task, self.loss)
        if not labels:
            seen["log_likelihood"] = losses.masked_mean(self.judged(found, task.query.y).detach(), task.query.mask)
        return seen

    def sides_of(self, meta: Meta, task: Task) -> tuple[Examples, Tensor, dict[str, Tensor]]:
        """Support and query examples as one side, their embeddings, and the running statistics after this pass."""
        sides = (task.support, task.query)
        x, mask = together(*sides)
        z, buffers = self.embed(meta, x, mask, task.noise)
        return Examples(x, torch.cat([side.y for side in sides]), mask), z, buffers

    def net(self, meta: Meta, part: str, *inputs: Tensor) -> Tensor:
        """One of the method's own networks."""
        return self.model.apply(meta.params, meta.buffers, *inputs, part=part, training=self.training)[0]


def counts_of(side: Examples, like: Tensor) -> Float[Tensor, " examples"]:
    """1 for each example that counts, 0 for padding."""
    return like.new_ones(side.y.shape[0]) if side.mask is None else side.mask.to(like.dtype)


def gaussian_log_density(
    y: Float[Tensor, "*any outputs"], mean: Float[Tensor, "*any outputs"], sd: Float[Tensor, "*any outputs"]
) -> Float[Tensor, "*any"]:
    """Of independent normal distributions, summed over the outputs, in nats."""
    return (-0.5 * ((y - mean) / sd).square() - torch.log(sd) - 0.5 * math.log(2 * math.pi)).sum(-1)
