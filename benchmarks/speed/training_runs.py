"""A meta-step of learned optimization: whole training runs whose rates are learned, through them and by PES."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import innerloop as il
from benchmarks.speed.contenders.contender import Contender
from benchmarks.speed.harness import Truth, contest, relative_error
from benchmarks.speed.nets import Mlp
from benchmarks.speed.problem import counted
from benchmarks.speed.rows import Row
from benchmarks.speed.settings import Settings
from innerloop.core import Task, batch_size
from innerloop.meta_gradients.perturbations import noise, trials

_NET = Mlp(64, (32,), 10)
_LR, _BETAS, _EPS = 0.01, (0.9, 0.999), 1e-8
_SIGMA, _PAIRS = 0.1, 2
_BATCHES = 4  # drawn beforehand and taken in turn


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
    """Runs of Adam on a small network, whose rate at each step is learned, as logarithms.

    Attributes:
        case: its name in the rows.
        net: the network.
        estimate: "backprop" through whole runs, or "pes" from pairs of runs (Vicol et al. 2021, arXiv:2112.13835).
        steps: of a run.
        tasks: the runs of successive meta-steps.
    """

    case: str
    net: Mlp
    estimate: Literal["backprop", "pes"]
    steps: int
    tasks: tuple[Task, ...]
    kind: str = "training runs"

    def learner(self) -> Any:
        return il.learned_schedule(
            "adam", learn=["lr"], per=["step"], lr=_LR, estimate=self.estimate, truncation=self.steps,
            sigma=_SIGMA, num_pairs=_PAIRS,
        )  # fmt: skip

    def rows_of(self, task: Task, step: int) -> tuple[Tensor, Tensor]:
        """The batches that all runs of a meta-step see at one step: (runs, batch, inputs), (runs, batch)."""
        objective: Any = task.objective
        seen = torch.vmap(lambda t: objective.examples_at(t, step))(task)
        return seen.x, seen.y


def problem(runs: int, steps: int, estimate: Literal["backprop", "pes"], net: Mlp = _NET, batch: int = 64) -> Runs:
    """Made-up examples of ten classes, 64 numbers each."""
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, net.outputs, 4096))
    middles = torch.from_numpy(rng.standard_normal((net.outputs, net.inputs))).float()
    x = middles[y] + 2 * torch.from_numpy(rng.standard_normal((4096, net.inputs))).float()
    family = il.tasks.training_jobs(net.plain, (x, y), batch=batch, horizon=steps)
    drawn = tuple(family.train.at(0, step, runs) for step in range(_BATCHES))
    how = "through the runs" if estimate == "backprop" else f"PES, {counted(_PAIRS, 'pair')}"
    return Runs(f"{runs} runs, {counted(steps, 'step')}, {how}", net, estimate, steps, drawn)


class _Contender(Contender):
    """One that learns rates of training runs."""

    def refuses(self, problem: Any) -> str | None:
        return None if isinstance(problem, Runs) else f"does not do {problem.kind}"


class Ours(_Contender):
    """As `il.fit` runs it."""

    name, distribution, strategy = "ours", "innerloop", "auto"

    def prepare(self, problem: Any) -> None:
        self.problem: Runs = problem
        self.learner = problem.learner()
        self.learner.strategy = self.strategy
        self.learner.suit(problem.tasks[0].support.weights, problem.steps)
        self.optimizer = torch.optim.Adam(self.learner.model.parameters(), lr=self.learner.outer.lr)
        self.done = 0

    def _gradient(self, batch: int) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.learner.backward(self.problem.tasks[batch])

    def meta_gradient(self, batch: int = 0) -> dict[str, np.ndarray]:
        before = self.learner.carry
        self._gradient(batch)
        self.learner.carry = before
        return {"lr": self.learner.model.get_parameter("lr").grad[:, 0].numpy().copy()}

    def step(self) -> None:
        self._gradient(self.done % _BATCHES)
        self.optimizer.step()
        self.done += 1


class OursLooped(Ours):
    """One run after the other."""

    name, strategy = "ours_looped", "looped"


class PlainLoop(_Contender):
    """PyTorch by hand: one run after the other, weights and moments in lists; the reference in float64."""

    name = "plain_loop"

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def prepare(self, problem: Any) -> None:
        self.problem: Runs = problem
        start = torch.full((problem.steps, 1), math.log(_LR - _floor(problem)), dtype=self.dtype)
        self.rates = start.requires_grad_()
        self.optimizer = torch.optim.Adam([self.rates], lr=problem.learner().outer.lr)
        self.done = 0
        # Which rows a run sees is drawn beforehand; ours draws them in its time.
        self.seen = []
        for task in problem.tasks:
            drawn = [problem.rows_of(task, i) for i in range(problem.steps + 1)]
            self.seen.append([(x.to(self.dtype), y) for x, y in drawn])

    def _run(self, batch: int, run: int, rates: Tensor) -> Tensor:
        """The mean loss of a run at its weights 1, 2, ..., each on the batch that the next step sees."""
        weights = self.problem.tasks[batch].support.weights.values()
        return self._losses([w[run].to(self.dtype) for w in weights], self.seen[batch], run, rates)

    def _losses(self, weights: list[Tensor], seen: list[tuple[Tensor, Tensor]], run: int, rates: Tensor) -> Tensor:
        (b1, b2), graph = _BETAS, rates.requires_grad
        weights = [w.requires_grad_() for w in weights]
        m, v = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
        losses = []
        for i, (x, y) in enumerate(seen):
            loss = F.cross_entropy(self.problem.net.forward(weights, x[run]), y[run])
            if i:
                losses.append(loss if graph else loss.detach())
            if i == self.problem.steps:
                break
            grads = torch.autograd.grad(loss, weights, create_graph=graph)
            m = [b1 * a + (1 - b1) * g for a, g in zip(m, grads, strict=True)]
            v = [b2 * a + (1 - b2) * g * g for a, g in zip(v, grads, strict=True)]
            left1, left2 = 1 - b1 ** (i + 1), 1 - b2 ** (i + 1)
            moved = [(a / left1) / torch.sqrt(s / left2 + _EPS**2) for a, s in zip(m, v, strict=True)]
            weights = [w - rates[i] * step for w, step in zip(weights, moved, strict=True)]
            if not graph:
                weights = [w.detach().requires_grad_() for w in weights]
        return torch.stack(losses).mean()

    def _gradient(self, batch: int) -> None:
        task, floor = self.problem.tasks[batch], _floor(self.problem)
        number = batch_size(task)
        if self.problem.estimate == "backprop":
            for run in range(number):
                (self._run(batch, run, floor + self.rates.exp()) / number).backward()
            return
        pairs, found = trials(task, _PAIRS), torch.zeros_like(self.rates)
        assert pairs.key is not None
        for i, key in enumerate(il.keys.fold(pairs.key, 0)):
            direction = noise(key, {"lr": torch.zeros(self.rates.shape)})["lr"].to(self.dtype)
            up, down = (
                self._run(batch, i // _PAIRS, floor + (self.rates.detach() + by * direction).exp())
                for by in (_SIGMA, -_SIGMA)
            )
            found = found + (up - down) / (2 * _SIGMA) * direction / len(pairs.key)
        self.rates.grad = found.detach()

    def meta_gradient(self, batch: int = 0) -> dict[str, np.ndarray]:
        self.optimizer.zero_grad()
        self._gradient(batch)
        assert self.rates.grad is not None
        return {"lr": self.rates.grad[:, 0].numpy().copy()}

    def step(self) -> None:
        self.optimizer.zero_grad()
        self._gradient(self.done % _BATCHES)
        self.optimizer.step()
        self.done += 1


class TorchOpt(PlainLoop):
    """TorchOpt's MetaAdam (Ren et al. 2022, arXiv:2211.06934) with the rates as its schedule."""

    name, distribution, modules = "torchopt", "torchopt", ("torchopt",)

    def refuses(self, problem: Any) -> str | None:
        if isinstance(problem, Runs) and problem.estimate != "backprop":
            return "does not do PES"
        return super().refuses(problem)

    def prepare(self, problem: Any) -> None:
        super().prepare(problem)
        self.module = problem.net.plain().to(self.dtype)

    def _losses(self, weights: list[Tensor], seen: list[tuple[Tensor, Tensor]], run: int, rates: Tensor) -> Tensor:
        import torchopt  # pyright: ignore[reportMissingImports]

        self.module.load_state_dict(dict(zip(self.module.state_dict(), weights, strict=True)))
        before = torchopt.extract_state_dict(self.module, by="reference")
        inner = torchopt.MetaAdam(self.module, lr=lambda i: rates[i], betas=_BETAS, eps=0.0, eps_root=_EPS**2)
        losses = []
        for i, (x, y) in enumerate(seen):
            loss = F.cross_entropy(self.module(x[run]), y[run])
            if i:
                losses.append(loss)
            if i < self.problem.steps:
                inner.step(loss)
        torchopt.recover_state_dict(self.module, before)
        return torch.stack(losses).mean()


def _floor(problem: Runs) -> float:
    return problem.learner().schedule.floor


def _truth(given: Runs) -> Truth:
    """The meta-gradients of the plain loop in float64, and what rounding to float32 does to it, as `arithmetic.truth`."""
    exact, rounded = PlainLoop(torch.float64), PlainLoop()
    exact.prepare(given)
    rounded.prepare(given)
    right = cache(exact.meta_gradient)
    off = relative_error(rounded.meta_gradient(0), right(0))
    return Truth(right, _BATCHES, min(1e-2, max(1e-4, 5 * off)))


CONTENDERS: Mapping[str, type[_Contender]] = {c.name: c for c in (Ours, OursLooped, PlainLoop, TorchOpt)}


def run(settings: Settings) -> Iterator[list[Row]]:
    """16 runs of 30 steps of Adam, 64-32-10, batches of 64: the gradient through them, and PES over pairs."""
    runs, steps = (2, 2) if settings.tiny else (16, 30)
    estimates: tuple[Literal["backprop", "pes"], ...] = ("backprop", "pes")
    for estimate in estimates:
        given: Any = problem(runs, steps, estimate)
        contenders = [CONTENDERS[name]() for name in settings.chosen(list(CONTENDERS))]
        yield contest("training_runs", given, contenders, settings, truth=_truth(given))
