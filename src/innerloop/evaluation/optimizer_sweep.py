"""Known optimizers on training jobs: swept over rates on validation jobs, all at once, and judged on held-out ones."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Meta, Task, TaskDistribution, TaskFamily, UpdateRule, batch_size
from innerloop.errors import ConfigError, InputError, expect_whole, nearest
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.learners.training_runs import Run, TrainingRuns
from innerloop.meta_learner.learned_optimizer import LearnedOptimizer
from innerloop.meta_learner.outer import Outer
from innerloop.meta_learner.query_predictions import measured
from innerloop.objectives.training_run import TrainingRun
from innerloop.rules.hypergradient_descent import HypergradientDescent
from innerloop.rules.tuned import BASES, Tuned
from innerloop.waiting import waiting

LOWEST, HIGHEST, NUMBER = 1e-4, 10.0, 14  # of the rates that are tried at first
_WIDENED = 2  # how often a grid grows where its best rate is at its edge, by half of its rates each time
_VALID_SEED = 12345  # of the validation jobs, as `fit` draws them
_NUMBERS = 1 << 27  # of weights and activations held at once, roughly

HYPERGRADIENT = "hypergradient_descent"
OURS = (*BASES, HYPERGRADIENT)
# Optimizers of other packages: (package, what makes one).
PACKAGES: dict[str, tuple[str, str]] = {
    "schedule_free": ("schedulefree", "AdamWScheduleFree"),
    "prodigy": ("prodigyopt", "Prodigy"),
}


@dataclasses.dataclass(frozen=True)
class Curves:
    """Training runs by one optimizer at one rate.

    Attributes:
        losses: what each step saw, (jobs, steps).
        end, curve, accuracy: of each job, (jobs,), as `TrainingRun` measures them; accuracy None where there are no labels.
    """

    losses: Float[Tensor, "jobs steps"]
    end: Float[Tensor, " jobs"]
    curve: Float[Tensor, " jobs"]
    accuracy: Float[Tensor, " jobs"] | None = None

    def of(self, goal: str) -> Float[Tensor, " jobs"]:
        """The metric of each job by its name."""
        return self.end if goal == "end" else self.curve


@dataclasses.dataclass(frozen=True)
class Swept:
    """One optimizer at its best rate.

    Attributes:
        rates: those tried, ascending.
        valid: the goal's mean over the validation jobs at each, infinite where some job diverged.
        rate: the best.
        test: held-out jobs at that rate.
    """

    rates: tuple[float, ...]
    valid: tuple[float, ...]
    rate: float
    test: Curves


@dataclasses.dataclass(frozen=True)
class WhichOptimizer:
    """What `which_optimizer` found.

    Attributes:
        optimizer, rate: the best by the validation jobs.
        goal: "end" or "curve", what they were chosen by.
        mean, ci95: the goal on the held-out jobs, and the half-width of its 95 % interval.
        swept: every optimizer, in order of merit on the validation jobs.
        lead: by name, how much better the best is than each other one on the same held-out jobs: (mean, half-width).
        left_out: optimizers that are not here, and why.
    """

    optimizer: str
    rate: float
    goal: str
    mean: float
    ci95: float
    swept: Mapping[str, Swept]
    lead: Mapping[str, tuple[float, float]]
    left_out: Mapping[str, str]

    @property
    def curves(self) -> dict[str, list[float]]:
        """The mean loss that each step saw on the held-out jobs, by optimizer."""
        return {name: one.test.losses.mean(0).tolist() for name, one in self.swept.items()}

    @property
    def sentence(self) -> str:
        jobs = len(next(iter(self.swept.values())).test.end)
        said = f"use {self.optimizer} at a rate of {self.rate:.2g}: {self.goal} {self.mean:.3f} ± {self.ci95:.3f}"
        said += f" on {jobs} held-out jobs"
        tied = [name for name, (mean, ci95) in self.lead.items() if not mean > ci95]
        worse = [name for name, (mean, ci95) in self.lead.items() if mean > ci95]
        parts = [f"clearly better than {', '.join(worse)}"] if worse else []
        parts += [f"not clearly better than {', '.join(tied)}"] if tied else []
        return f"{said}; {' and '.join(parts)}" if parts else said

    def __repr__(self) -> str:
        return self.sentence


def _rule(name: str, lr: float = 0.01) -> UpdateRule:
    """Of an optimizer of ours."""
    return HypergradientDescent(lr) if name == HYPERGRADIENT else Tuned(name, lr)


def tuned_optimizer(base: str, lr: float) -> LearnedOptimizer:
    """A known optimizer at a rate as something that `evaluate` and `compare` take beside learned ones."""
    made = LearnedOptimizer(_rule(base, lr), "backprop", {}, first_order=True, goal="curve", outer=Outer())
    made.made_by(base, {"lr": lr})
    return made


@waiting("running the training jobs")
def run_jobs(
    learner: BaseLearner,
    meta: Meta,
    jobs: TaskDistribution,
    *,
    num_jobs: int,
    seed: int,
    steps: int,
    several: int | None = None,
) -> list[Curves]:
    """The jobs by one optimizer, all at once.

    Args:
        learner: of training runs.
        meta: its parameters; with ``several`` each with a leading axis of so many.
        jobs: one split.
        num_jobs, seed: which.
        steps: of each run.
        several: how many sets of parameters are tried; None: there is one.

    Returns:
        The curves by each set of parameters.
    """

    def one(meta: Meta, task: Task) -> tuple[Tensor, dict[str, Tensor]]:
        fast: Run = learner.init(meta, task)
        losses = []
        for i in range(steps):
            before = fast.total
            fast = learner.step(meta, fast, learner.batch(task, i), i)
            losses.append(fast.total - before)
        return torch.stack(losses), measured(learner, meta, fast, task)

    found = []
    for tasks in _in_batches(jobs, num_jobs, seed, several or 1):
        with torch.no_grad():
            each = meta if several else Meta(*({n: v[None] for n, v in part.items()} for part in meta))
            found.append(torch.vmap(lambda m, tasks=tasks: torch.vmap(lambda t: one(m, t))(tasks))(each))
    losses, metrics = pytree.tree_map(lambda *v: torch.cat(v, 1), found[0], *found[1:])
    return [
        Curves(
            losses[i], metrics["end"][i], metrics["curve"][i], metrics["accuracy"][i] if "accuracy" in metrics else None
        )
        for i in range(len(losses))
    ]


def _in_batches(jobs: TaskDistribution, num_jobs: int, seed: int, several: int) -> list[Task]:
    """The jobs, as many at a time as fit and are of one network."""
    found: list[Task] = []
    start = 0
    while start < num_jobs:
        one = jobs.at(seed, 0, 1, start)
        objective: Any = one.objective
        numbers = sum(leaf.numel() for leaf in pytree.tree_leaves(one)) + 1000 * (objective.batch or 100)
        number = max(1, min(num_jobs - start, _NUMBERS // max(1, 8 * numbers * several)))
        number = min(number, jobs.alike - start % jobs.alike if jobs.alike else number)
        found.append(jobs.at(seed, 0, number, start))
        start += number
    return found


def run_torch(
    make: Callable[[list[Tensor]], torch.optim.Optimizer],
    jobs: TaskDistribution,
    *,
    num_jobs: int,
    seed: int,
    steps: int,
) -> Curves:
    """The jobs by an optimizer of torch's kind, one for each job; the gradients of all jobs are computed at once."""
    found = [_run_together(make, tasks, steps) for tasks in _in_batches(jobs, num_jobs, seed, 1)]
    losses, end, curve = (torch.cat([getattr(one, name) for one in found]) for name in ("losses", "end", "curve"))
    accuracy = [one.accuracy for one in found if one.accuracy is not None]
    return Curves(losses, end, curve, torch.cat(accuracy) if accuracy else None)


def _run_together(make: Callable[[list[Tensor]], torch.optim.Optimizer], tasks: Task, steps: int) -> Curves:
    """The jobs of one batch."""
    num_jobs = batch_size(tasks)
    learner = TrainingRuns(Tuned("sgd", 0.0))
    weights = {name: value.clone() for name, value in tasks.support.weights.items()}
    own = [[torch.nn.Parameter(value[j].clone()) for value in weights.values()] for j in range(num_jobs)]
    optimizers = [make(params) for params in own]  # type: ignore[arg-type]
    meta = Meta({"lr": torch.zeros(())}, {}, {})
    losses = []

    def slope(params: dict[str, Tensor], task: Task, i: int) -> tuple[dict[str, Tensor], Tensor]:
        fast = dataclasses.replace(learner.init(meta, task), params=params)
        return learner._slope(fast, learner.batch(task, i), i)

    def at_hand() -> dict[str, Tensor]:
        return {name: torch.stack([params[k].detach() for params in own]) for k, name in enumerate(weights)}

    _mode(optimizers, "train")
    for i in range(steps):
        with torch.no_grad():
            grads, seen = torch.vmap(lambda p, t, i=i: slope(p, t, i))(at_hand(), tasks)
        losses.append(seen)
        for j, (params, optimizer) in enumerate(zip(own, optimizers, strict=True)):
            for p, name in zip(params, weights, strict=True):
                p.grad = grads[name][j]
            optimizer.step()
    _mode(optimizers, "eval")

    def judge(params: dict[str, Tensor], task: Task) -> dict[str, Tensor]:
        return measured(learner, meta, dataclasses.replace(learner.init(meta, task), params=params), task)

    with torch.no_grad():
        metrics = torch.vmap(judge)(at_hand(), tasks)
    together = torch.stack(losses, 1)
    return Curves(together, metrics["end"], together.mean(1), metrics.get("accuracy"))


def _mode(optimizers: Sequence[Any], word: str) -> None:
    """Schedule-free optimizers are told when weights are trained and when they are judged."""
    for optimizer in optimizers:
        if callable(getattr(optimizer, word, None)):
            getattr(optimizer, word)()


def curves_at(name: str, rates: Sequence[float], jobs: TaskDistribution, **which: int) -> list[Curves]:
    """The jobs by a known optimizer at each of these rates."""
    if name in OURS:
        lr = torch.tensor(list(rates), dtype=torch.get_default_dtype())
        return run_jobs(TrainingRuns(_rule(name)), Meta({"lr": lr}, {}, {}), jobs, several=len(lr), **which)
    package, kind = PACKAGES[name]
    make = getattr(importlib.import_module(package), kind)
    return [run_torch(lambda params, lr=lr: make(params, lr=lr), jobs, **which) for lr in rates]


def best_rate(
    name: str,
    jobs: TaskDistribution,
    *,
    goal: str = "end",
    num_jobs: int = 32,
    rates: Sequence[float] | None = None,
    seed: int = _VALID_SEED,
    steps: int | None = None,
    known: dict[float, Curves] | None = None,
) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """(rates tried, the goal's mean at each, the best rate) on validation jobs.

    Where the best rate is at the edge of the grid, the grid is widened on that side, twice at most. ``known`` are runs that were
    made already, by rate, as for another goal; those made here are added.

    Raises:
        ConfigError: the best rate is still at the edge; or no rate at which no job diverges.
    """
    steps = _steps_of(jobs) if steps is None else steps
    tried = sorted(rates) if rates else logarithmic(LOWEST, HIGHEST, NUMBER)
    factor = (tried[-1] / tried[0]) ** (1 / max(1, len(tried) - 1))
    more = max(1, len(tried) // 2)
    runs: dict[float, Curves] = {} if known is None else known
    for turn in range(_WIDENED + 1):
        new = [rate for rate in tried if rate not in runs]
        if new:
            each = curves_at(name, new, jobs, num_jobs=num_jobs, seed=seed, steps=steps)
            runs |= dict(zip(new, each, strict=True))
        values = {rate: float(runs[rate].of(goal).double().mean()) for rate in tried}
        found = {rate: value if math.isfinite(value) else math.inf for rate, value in values.items()}
        best = min(tried, key=lambda rate: found[rate])
        if not math.isfinite(found[best]):
            raise ConfigError(
                f"{name}: expected a rate at which the jobs do not diverge, got none of {_range(tried)}; give rates"
            )
        if len(tried) > 2 and best not in (tried[0], tried[-1]):
            return tuple(tried), tuple(found[rate] for rate in tried), best
        if turn < _WIDENED:
            low = best == tried[0]
            added = [best / factor ** (k + 1) if low else best * factor ** (k + 1) for k in range(more)]
            tried = sorted([*tried, *added])
    raise ConfigError(
        f"{name}: expected the best rate inside the grid, got {best:.2g} at the edge of {_range(tried)}; give other rates, or "
        "more steps"
    )


def which_optimizer(
    jobs: TaskFamily,
    *,
    optimizers: Sequence[str] | None = None,
    rates: Sequence[float] | None = None,
    goal: str = "end",
    num_valid: int = 32,
    num_test: int = 64,
    seed: int = 0,
) -> WhichOptimizer:
    """Which known optimizer, at which rate, trains these jobs best?

    Every optimizer is tried at 14 log-spaced rates on validation jobs; the best rate of each is judged on held-out jobs. A best
    rate at the edge of the grid widens the grid, twice at most.

    Args:
        jobs: as `il.tasks.training_jobs` makes them.
        optimizers: of "sgd", "momentum" (0.9), "adam", "rmsprop", "hypergradient_descent" (SGD that moves its rate, see
            `rules.HypergradientDescent`), "schedule_free" (the package schedulefree) and "prodigy" (the
            package prodigyopt); None: all that are here.
        rates: to try; None: 14 from 1e-4 to 10.
        goal: "end": the loss at the end on rows that were not trained on; "curve": the mean of the losses along the run.
        num_valid, num_test: jobs to choose on, and held-out ones.
        seed: of the held-out jobs.

    Raises:
        InputError: no training jobs.
        ConfigError: an unknown optimizer or one that is not installed; a best rate that stays at the edge of the grid.
    """
    if not isinstance(jobs, TaskFamily) or not isinstance(jobs.train.objective, TrainingRun):
        raise InputError(
            f"which_optimizer expected training jobs, such as il.tasks.training_jobs(make_model, (x, y)), got "
            f"{getattr(jobs, 'name', type(jobs).__name__)}"
        )
    if goal not in ("end", "curve"):
        raise ConfigError(f"goal expected 'end' or 'curve', got {goal!r}: {nearest(str(goal), ('end', 'curve'))}")
    for name, value in (("num_valid", num_valid), ("num_test", num_test)):
        expect_whole(name, value, 2)
    absent = {
        n: f"the package {p} is not installed" for n, (p, _) in PACKAGES.items() if importlib.util.find_spec(p) is None
    }
    names = [*OURS, *(n for n in PACKAGES if n not in absent)] if optimizers is None else list(optimizers)
    for name in names:
        expect_known(name)
    swept: dict[str, Swept] = {}
    for name in dict.fromkeys(names):
        tried, valid, rate = best_rate(name, jobs.valid, goal=goal, num_jobs=num_valid, rates=rates)
        test = curves_at(name, [rate], jobs.test, num_jobs=num_test, seed=seed, steps=_steps_of(jobs.test))[0]
        swept[name] = Swept(tried, valid, rate, test)
    swept = dict(sorted(swept.items(), key=lambda item: min(item[1].valid)))
    best, first = next(iter(swept.items()))
    own = first.test.of(goal)
    lead = {name: mean_ci95((one.test.of(goal) - own).tolist()) for name, one in swept.items() if name != best}
    mean, ci95 = mean_ci95(own.tolist())
    left = absent if optimizers is None else {}
    return WhichOptimizer(best, first.rate, goal, mean, ci95, swept, lead, left)


def expect_known(name: str) -> None:
    """ConfigError for an optimizer that there is not, or whose package is not installed."""
    if name not in OURS and name not in PACKAGES:
        raise ConfigError(f"unknown optimizer {name!r}: {nearest(str(name), [*OURS, *PACKAGES])}")
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name][0]) is None:
        raise ConfigError(
            f"the optimizer {name!r} needs the package {PACKAGES[name][0]}: pip install {PACKAGES[name][0]}"
        )


def logarithmic(low: float, high: float, number: int) -> list[float]:
    """So many rates from ``low`` to ``high``, each the same times the one before."""
    return [low * (high / low) ** (i / (number - 1)) for i in range(number)]


def _steps_of(jobs: TaskDistribution) -> int:
    return int(jobs.objective.steps)


def _range(rates: Sequence[float]) -> str:
    return f"{rates[0]:.2g} to {rates[-1]:.2g}"
