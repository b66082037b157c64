"""innerloop, the way `fit` runs it: the same plan, the same steps."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import torch

import innerloop as il
from benchmarks.speed.contenders.contender import Contender
from innerloop import methods
from innerloop.registry import load
from innerloop.training.distributed import Group
from innerloop.training.optimizer import make_optimizer
from innerloop.training.stepping import Stepper

if TYPE_CHECKING:
    from benchmarks.speed.problem import Problem
    from innerloop.meta_learner.meta_learner import MetaLearner

# The plan is that of a run as long as MAML's sine run (Finn et al. 2017: 70,000 steps), so what takes a while to prepare pays.
_STEPS = 70_000


class Ours(Contender):
    """Whatever the planner finds; the subclasses say it themselves."""

    name = "ours"
    distribution = "innerloop"
    strategy = "auto"
    recompute = False

    def refuses(self, problem: Problem) -> str | None:
        if problem.kind == "prototypes" and "protonet" not in methods.ALGORITHMS:
            return "this version has no prototypical networks"
        return None

    def prepare(self, problem: Problem) -> None:
        self.problem = problem
        self.learner = self._learner()
        self.learner.strategy, self.learner.recompute = self.strategy, self.recompute
        self.given = problem.tasks()
        self.optimizer = make_optimizer("adam", self.learner, problem.outer_lr)
        group = Group()
        self.stepper = Stepper(self.learner, self.optimizer, None, group, group.part(self.given[0].support.y.shape[0]))
        # The harness sets the threads, the same for all.
        self.stepper.decide(lambda: self.given[0], 0, _STEPS, torch.get_num_threads(), lambda _: None)
        self.stepper.settle()
        self.batches = cycle(self.given)
        self.rates = [[problem.outer_lr]] * self.stepper.at_once
        self.done = 0

    @property
    def plan(self) -> str:
        """What the planner found."""
        return str(self.stepper.plan)

    def _learner(self) -> MetaLearner:
        problem = self.problem
        model = problem.load(problem.net.ours())
        if problem.kind == "prototypes":
            return load("algorithm", methods.ALGORITHMS, "protonet")(model)
        return il.maml(model, inner_lr=problem.inner_lr, inner_steps=problem.inner_steps)

    def meta_gradient(self, batch: int = 0) -> dict[str, np.ndarray]:
        # Of the very steps that are timed: after one step at a rate of zero Adam's first moment is a tenth of the gradient.
        self.optimizer.state.clear()
        self.stepper.run(iter([self.given[batch]]), self.done, [[0.0]], lambda: False)
        self.optimizer.zero_grad(set_to_none=True)
        beta = self.optimizer.param_groups[0]["betas"][0]
        moments = [self.optimizer.state[p]["exp_avg"] / (1 - beta) for p in self.learner.model.parameters()]
        self.optimizer.state.clear()
        return self.problem.named(moments)

    def step(self) -> None:
        self.run(1)

    def run(self, steps: int) -> None:
        end = self.done + steps
        while self.done < end:
            self.done += len(self.stepper.run(self.batches, self.done, self.rates[: end - self.done], lambda: False)[0])


class Looped(Ours):
    name = "ours_looped"
    strategy = "looped"


class Vmapped(Ours):
    name = "ours_vmapped"
    strategy = "vmapped"


class PerTask(Ours):
    name = "ours_per_task"
    strategy = "per_task"


class Compiled(Ours):
    name = "ours_compiled"
    strategy = "compiled"


class Recompute(Ours):
    """Inner steps computed again in the backward pass instead of kept in memory."""

    name = "ours_recompute"
    recompute = True


class Implicit(Vmapped):
    """Implicit MAML with its usual 5 steps of conjugate gradients. Its meta-gradient is another one than the others'."""

    name = "ours_implicit"

    def _learner(self) -> MetaLearner:
        problem = self.problem
        model = problem.load(problem.net.ours())
        return il.imaml(model, inner_lr=problem.inner_lr, inner_steps=problem.inner_steps)
