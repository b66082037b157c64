"""Meta-learned surrogates: one of this library's learners that predict a distribution, trained on past searches.

A task of its training is a past search cut down: some of its trials are shown, others asked for. What the learner is told is
what a search can tell it: scores in units of those shown. Deep kernels as a surrogate are of Wistuba and Grabocka 2021,
"Few-shot Bayesian optimization with deep kernel surrogates", arXiv:2101.07667 (ours is not tuned further on the new task);
prior-fitted networks of Mueller et al. 2023, "PFNs4BO", arXiv:2305.17535 (ours is trained on past searches, theirs on a prior).
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core import Examples, Task
from innerloop.data.search_tables import copula_scores
from innerloop.errors import ConfigError
from innerloop.hpo.past import PastTask
from innerloop.hpo.space import Space
from innerloop.methods import ALGORITHMS, make
from innerloop.methods.traits import Traits
from innerloop.models import mlp
from innerloop.registry import load

if TYPE_CHECKING:
    from innerloop.meta_learner.meta_learner import MetaLearner

_HIDDEN = (32, 32)  # of the embedding of a row
_TASKS = 12  # a step
_FEWEST, _MOST = 5, 40  # trials shown
_ASKED = 32
_ROWS = 800  # of a past task
_GREED = (0.0, 1.0, 2.0)  # how much the trials shown are better ones, as those of a search are
_LEAST_SPREAD = 0.3


@dataclasses.dataclass(frozen=True)
class Learned:
    """A surrogate that was trained on past searches.

    Attributes:
        learner: regression from rows of a space to scores.
    """

    learner: MetaLearner

    @torch.enable_grad()  # where the caller has switched it off, a learner adapts all the same
    def believed(
        self, rows: Float[Tensor, "tried columns"], z: Float[Tensor, " tried"], new: Float[Tensor, "new columns"]
    ) -> tuple[Float[Tensor, " new"], Float[Tensor, " new"]]:
        """Mean and variance of the scores at new rows, after scores ``z`` at ``rows``."""
        middle, spread = _units(z)
        told = ((z - middle) / spread)[:, None].float()
        fitted, asked = self.learner.adapt(_inputs(rows), told), _inputs(new)
        mean, sd = fitted.predict(asked), fitted.predict_std(asked)
        mean, sd = (torch.as_tensor(part).detach().double().reshape(len(new)) for part in (mean, sd))
        return middle + spread * mean, (spread * sd).square()


def train(method: str, tasks: Sequence[PastTask], space: Space, seed: int = 0, *, steps: int | None = None) -> Learned:
    """A surrogate that was trained on past tasks in a space; the same seed gives the same surrogate.

    Sizes and steps are those of the method's traits: small, since a surrogate has to be there in seconds.

    Args:
        method: a name of `innerloop.methods.ALGORITHMS` whose learner predicts a distribution.
        tasks: what to learn from.
        space: that rows are in.
        seed: of first weights and draws.
        steps: of meta-training; None: as many as the method's traits say.

    Raises:
        ConfigError: a method that predicts no distribution.
    """
    generator = np.random.default_rng([seed, 3])
    tables = [_table(one, space, generator) for one in tasks]
    traits = method_traits(method)
    count: int = steps or traits.training["steps"]
    rate: float = traits.training["outer_lr"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = untrained(method, len(space.owners))
        optimizer = torch.optim.Adam(learner.parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, count)
        with torch.enable_grad():
            for _ in range(count):
                learner.backward(_batch(tables, generator))
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
    return Learned(learner)


def untrained(method: str, columns: int) -> MetaLearner:
    """The learner of `train` before its first step.

    Raises:
        ConfigError: a method that predicts no distribution, or none of this name.
    """
    options: dict[str, Any] = dict(method_traits(method).options)
    if "outputs" in inspect.signature(load("algorithm", ALGORITHMS, method)).parameters:
        options["outputs"] = 1
    learner = make(method, mlp(columns, None, hidden=_HIDDEN), options)
    if not learner.learner.predicts_distribution:
        raise ConfigError(
            f"a surrogate expected a method that predicts a distribution, got {method}, which predicts values alone; take dkt, "
            "anp or pfn"
        )
    return learner


def method_traits(method: str) -> Traits:
    """What the method says of itself."""
    found: Traits = load("algorithm", ALGORITHMS, method).traits
    return found


def _table(task: PastTask, space: Space, generator: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Rows and scores of a past task, of more some drawn."""
    kept = generator.permutation(len(task.values))[:_ROWS]
    rows = torch.as_tensor(space.rows([task.configs[i] for i in kept]))
    return _inputs(rows), copula_scores(task.values)[kept]


def _inputs(rows: Tensor) -> Tensor:
    """Rows of 0 to 1 as a network likes them: about 0, of spread 1."""
    return (math.sqrt(12.0) * (rows - 0.5)).float()


def _batch(tables: Sequence[tuple[Tensor, np.ndarray]], generator: np.random.Generator) -> Task:
    most = min(_MOST, max(len(z) for _, z in tables) // 2)
    shown = int(generator.integers(min(_FEWEST, most), most + 1))
    large = [
        table for table in tables if len(table[1]) >= 2 * shown
    ]  # a task of few trials takes part where few are shown
    chosen = [large[i] for i in generator.integers(len(large), size=_TASKS)]
    asked = min(_ASKED, min(len(z) for _, z in chosen) - shown)
    sides: list[list[Tensor]] = [[], [], [], []]
    for rows, z in chosen:
        greed = float(generator.choice(_GREED))
        order = np.argsort(greed * z - generator.gumbel(size=len(z)))[: shown + asked]
        order = torch.as_tensor(generator.permutation(order))
        scores = torch.as_tensor(z)[order]
        middle, spread = _units(scores[:shown])
        y = ((scores - middle) / spread)[:, None].float()
        x = rows[order]
        for side, part in zip(sides, (x[:shown], y[:shown], x[shown:], y[shown:]), strict=True):
            side.append(part)
    a, b, c, d = (torch.stack(side) for side in sides)
    return Task(support=Examples(a, b), query=Examples(c, d))


def _units(z: Tensor) -> tuple[Tensor, Tensor]:
    """Level and spread of scores that are shown, in which those that are asked for are told."""
    return z.mean(), z.std(unbiased=False).clamp(min=_LEAST_SPREAD)
