"""Elastic weight consolidation: parameters that earlier parts of a stream needed are held near where they were."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from innerloop.errors import expect_whole
from innerloop.lifelong.learner import OnlineLearner, expect_rates
from innerloop.lifelong.memory import Reservoir


class ElasticWeights(OnlineLearner):
    """SGD on the loss plus ``strength / 2 * sum over parts and parameters of F (theta - theta*)^2``; see `ewc`.

    The sum over parts is kept as two numbers a parameter, sum F and sum F theta*, so memory does not grow with parts.
    """

    has_memory = False
    lr: float
    strength: float
    examples: int
    precision: dict[str, Tensor]  # the Fisher information added up, by parameter
    pull: dict[str, Tensor]  # the same times where each part ended

    def __init__(
        self,
        model: nn.Module,
        options: dict[str, float | int],
        *,
        lr: float,
        strength: float,
        examples: int,
        glances: int,
        seed: int,
    ) -> None:
        expect_rates(lr=lr, strength=strength)
        expect_whole("examples", examples)
        super().__init__("ewc", model, options, glances=glances, seed=seed)
        self.lr, self.strength, self.examples = lr, strength, examples
        self.precision = {n: torch.zeros_like(p) for n, p in self.params.items()}
        self.pull = {n: torch.zeros_like(p) for n, p in self.params.items()}
        self.recent: Reservoir = Reservoir(examples, self.generator)  # of the part that is being learned

    def _own_copy(self) -> None:
        self.precision, self.pull = ({n: v.clone() for n, v in of.items()} for of in (self.precision, self.pull))
        recent = Reservoir(self.examples, self.generator)
        recent.restore({n: v.clone() for n, v in self.recent.state().items()})
        self.recent = recent

    def _learn(self, x: Tensor, y: Tensor) -> None:
        for _ in range(self.glances):
            grads = self.gradient(x, y)
            for n, p in self.params.items():
                held = self.strength * (self.precision[n] * p - self.pull[n])
                # The quadratic's step is taken implicitly: with many parts an explicit one overshoots.
                self.params[n] = p - self.lr * (grads[n] + held) / (1 + self.lr * self.strength * self.precision[n])

    def _keep(self, x: Tensor, y: Tensor) -> None:
        self.recent.add(x, y)

    def end_part(self) -> None:
        """Add this part's Fisher information: the mean square of the loss's derivative, an example at a time."""
        if self.recent.x is None or self.recent.y is None or not len(self.recent):
            return
        x, y = (v[: len(self.recent)] for v in (self.recent.x, self.recent.y))
        total = {n: torch.zeros_like(p) for n, p in self.params.items()}
        for i in range(len(x)):
            for n, g in self.gradient(x[i : i + 1], y[i : i + 1]).items():
                total[n] += g**2 / len(x)
        for n, p in self.params.items():
            self.precision[n] = self.precision[n] + total[n]
            self.pull[n] = self.pull[n] + total[n] * p
        self.recent = Reservoir(self.examples, self.generator)

    def _own_tensors(self) -> dict[str, Tensor]:
        groups = {"precision": self.precision, "pull": self.pull, "recent": self.recent.state()}
        return {f"{group}.{n}": v for group, of in groups.items() for n, v in of.items()}

    def _restore_own(self, tensors: Mapping[str, Tensor]) -> None:
        found: dict[str, dict[str, Tensor]] = {"precision": {}, "pull": {}, "recent": {}}
        for n, v in tensors.items():
            group, _, name = n.partition(".")
            found[group][name] = v
        self.precision, self.pull = found["precision"], found["pull"]
        self.recent.restore(found["recent"])


def ewc(
    model: nn.Module,
    *,
    lr: float = 0.03,
    strength: float = 100.0,
    examples: int = 200,
    glances: int = 1,
    seed: int = 0,
) -> OnlineLearner:
    """Elastic weight consolidation; it has to be told where a part ends (`il.learn_stream` does, or call `end_part()`).

    Where we differ: the Fisher information is of examples with their own labels (the "empirical" one, as in common code), and
    the quadratic's part of a step is implicit, so that a high strength holds and does not overshoot.

    Args:
        model: any nn.Module; copied.
        lr: rate of the steps.
        strength: of the hold.
        examples: of each part that its Fisher information is measured on, drawn from all of it.
        glances: steps on each batch.
        seed: of these examples.

    Raises:
        ConfigError: a number out of range, a model with batch norm.

    Reference: Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", arXiv:1612.00796.
    """
    options: dict[str, float | int] = {"lr": lr, "strength": strength, "examples": examples, "glances": glances}
    return ElasticWeights(model, options, lr=lr, strength=strength, examples=examples, glances=glances, seed=seed)
