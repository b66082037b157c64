"""What all contenders of a case are given: the net, its initial weights, the tasks and the settings of the outer step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.nets import ConvNet, Mlp, Net
from innerloop import tasks
from innerloop.core import Examples, Task

_BATCHES = 4  # drawn beforehand and taken in turn, so that no contender can reuse what it computed a step ago


class Batch(NamedTuple):
    """The tasks of one outer step: x (tasks, examples, *input_shape), y (tasks, examples[, outputs])."""

    support_x: np.ndarray
    support_y: np.ndarray
    query_x: np.ndarray
    query_y: np.ndarray

    def tensors(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same as tensors; labels stay integers."""
        found = [torch.from_numpy(array) for array in self]
        found = [t.to(dtype) if t.is_floating_point() else t for t in found]
        return found[0], found[1], found[2], found[3]


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """One case of a benchmark.

    Attributes:
        case: its name in the rows.
        net: the architecture.
        weights: initial values by the name that the plain module gives them, in torch's layout and order.
        batches: the tasks of successive outer steps; the meta-gradient is compared on the first.
        loss: "mse" or "cross_entropy".
        kind: "gradient" (adapt by inner steps) or "prototypes" (compare with class means; no inner steps).
        inner_steps, inner_lr: of the inner loop, plain SGD.
        outer_lr: of the outer Adam.
    """

    case: str
    net: Net
    weights: dict[str, np.ndarray]
    batches: tuple[Batch, ...]
    loss: Literal["mse", "cross_entropy"]
    kind: Literal["gradient", "prototypes"] = "gradient"
    inner_steps: int = 1
    inner_lr: float = 0.01
    outer_lr: float = 1e-3

    @property
    def num_tasks(self) -> int:
        return self.batches[0].support_y.shape[0]

    def loss_function(self) -> Callable[[Tensor, Tensor], Tensor]:
        return F.mse_loss if self.loss == "mse" else F.cross_entropy

    def plain_module(self) -> torch.nn.Module:
        """The plain torch module at the initial weights."""
        return self.load(self.net.plain())

    def load(self, module: torch.nn.Module) -> torch.nn.Module:
        """``module`` with the initial weights, parameter by parameter in order."""
        with torch.no_grad():
            for p, value in zip(module.parameters(), self.weights.values(), strict=True):
                p.copy_(torch.from_numpy(value))
        return module

    def named(self, grads: list[Tensor]) -> dict[str, np.ndarray]:
        """Gradients in the order of the parameters, by name."""
        return {name: g.detach().numpy() for name, g in zip(self.weights, grads, strict=True)}

    def tasks(self) -> list[Task]:
        """The batches as innerloop's own records."""
        made = []
        for batch in self.batches:
            sx, sy, qx, qy = batch.tensors()
            made.append(Task(Examples(sx, sy), Examples(qx, qy), objective=self.loss))
        return made


def counted(number: int, what: str) -> str:
    """1 step, 5 steps."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def initial_weights(net: Net, seed: int = 0) -> dict[str, np.ndarray]:
    """torch's default initialisation at this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: p.detach().numpy().copy() for name, p in net.plain().named_parameters()}


def sine_problem(
    num_tasks: int = 25,
    inner_steps: int = 5,
    hidden: tuple[int, ...] = (40, 40),
    *,
    shots: int = 10,
    queries: int = 10,
    case: str | None = None,
) -> Problem:
    """Sine curves (Finn et al. 2017, arXiv:1703.03400), inner rate 0.01.

    With more than about 10,000 parameters the rate is lowered in proportion, as wide nets would diverge.
    """
    family = tasks.sinusoid(shots=shots, queries=queries)
    batches = []
    for step in range(_BATCHES):
        drawn = family.train.at(0, step, num_tasks)
        sides = (drawn.support.x, drawn.support.y, drawn.query.x, drawn.query.y)
        batches.append(Batch(*(t.numpy() for t in sides)))
    net = Mlp(1, hidden, 1)
    return Problem(
        case or f"{num_tasks} tasks, {counted(inner_steps, 'step')}",
        net,
        initial_weights(net),
        tuple(batches),
        "mse",
        inner_steps=inner_steps,
        inner_lr=0.01 * min(1.0, 100 / max(hidden)),
    )


def _pictures(rng: np.random.Generator, num_tasks: int, ways: int, shots: int, queries: int, size: int) -> Batch:
    """Few-shot tasks of made-up pictures: a random blot for each class, another noise on each example.

    How fast a step is does not depend on what the pictures show.
    """
    blots = rng.random((num_tasks, ways, 1, size, size)) > 0.7

    def side(examples: int) -> tuple[np.ndarray, np.ndarray]:
        noise = rng.normal(0, 0.3, (num_tasks, ways, examples, size, size))
        x = (blots + noise).astype(np.float32).reshape(num_tasks, ways * examples, 1, size, size)
        return x, np.tile(np.repeat(np.arange(ways), examples), (num_tasks, 1))

    return Batch(*side(shots), *side(queries))


def picture_problem(
    case: str,
    net: ConvNet,
    *,
    num_tasks: int,
    ways: int,
    shots: int,
    queries: int,
    inner_steps: int = 1,
    inner_lr: float = 0.4,
    kind: Literal["gradient", "prototypes"] = "gradient",
) -> Problem:
    """``ways``-way classification of pictures; ``queries`` examples a class; the inner rate of Finn et al. on Omniglot."""
    rng = np.random.default_rng(0)
    batches = tuple(_pictures(rng, num_tasks, ways, shots, queries, net.size) for _ in range(_BATCHES))
    return Problem(
        case,
        net,
        initial_weights(net),
        batches,
        "cross_entropy",
        kind=kind,
        inner_steps=inner_steps,
        inner_lr=inner_lr,
    )
