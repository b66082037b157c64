"""Meta-learned surrogates: one of this library's learners that predict a distribution, trained on past searches.

A task of its training is a past search cut down: some of its trials are shown, others asked for. What the learner is told is
what a search can tell it: scores in units of those shown. Deep kernels as a surrogate are of Wistuba and Grabocka 2021,
"Few-shot Bayesian optimization with deep kernel surrogates", arXiv:2101.07667 (ours is not tuned further on the new task);
prior-fitted networks of Mueller et al. 2023, "PFNs4BO", arXiv:2305.17535 (ours is trained on past searches, theirs on a prior).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core import Examples, Task
from innerloop.data.search_tables import copula_scores
from innerloop.hpo.past import PastTask
from innerloop.hpo.space import Space

if TYPE_CHECKING:
    from innerloop.meta_learner.meta_learner import MetaLearner

LEARNED: dict[str, str] = {
    "dkt": "then a Gaussian process on an embedding that is learned from past tasks (Patacchiola 2020; Wistuba 2021)",
    "anp": "then an attentive neural process that is trained on past tasks (Kim 2019)",
    "pfn": "then a transformer that is trained on past tasks (Mueller 2022)",
}
_STEPS = {"dkt": 200, "anp": 200, "pfn": 200}
_RATE = {"dkt": 3e-3, "anp": 1e-3, "pfn": 1e-3}
_TASKS = 8  # a step
_FEWEST, _MOST = 3, 40  # trials shown
_ASKED = 32
_ROWS = 800  # of a past task
_GREED = (0.0, 1.0, 2.0)  # how much the trials shown are better ones, as those of a search are
_LEAST_SPREAD = 0.1


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
        fitted = self.learner.adapt(rows.float(), told)
        mean, sd = fitted.predict(new.float()), fitted.predict_std(new.float())
        mean, sd = (torch.as_tensor(part).detach().double().reshape(len(new)) for part in (mean, sd))
        return middle + spread * mean, (spread * sd).square()


def train(kind: str, tasks: Sequence[PastTask], space: Space, seed: int = 0) -> Learned:
    """A surrogate of `LEARNED`, trained on past tasks in a space; the same seed gives the same surrogate.

    Args:
        kind: which.
        tasks: what to learn from.
        space: that rows are in.
        seed: of first weights and draws.
    """
    generator = np.random.default_rng([seed, 3])
    tables = [_table(one, space, generator) for one in tasks]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = _learner(kind, len(space.owners))
        optimizer = torch.optim.Adam(learner.parameters(), lr=_RATE[kind])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS[kind])
        with torch.enable_grad():
            for _ in range(_STEPS[kind]):
                learner.backward(_batch(tables, generator))
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
    return Learned(learner)


def _learner(kind: str, columns: int) -> MetaLearner:
    from innerloop.models import mlp

    if kind == "dkt":
        from innerloop.methods.dkt import dkt

        return dkt(mlp(columns, None, hidden=(32, 32)), kernel="matern52")
    inputs = mlp(columns, None, hidden=())  # as they are
    if kind == "anp":
        from innerloop.methods.anp import anp

        return anp(inputs, outputs=1, width=32, heads=4, encoder_layers=2, decoder_layers=2, latent=False)
    from innerloop.methods.pfn import pfn

    return pfn(inputs, outputs=1, width=32, depth=3, heads=4)


def _table(task: PastTask, space: Space, generator: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Rows and scores of a past task, of more some drawn."""
    kept = generator.permutation(len(task.values))[:_ROWS]
    rows = torch.as_tensor(space.rows([task.configs[i] for i in kept])).float()
    return rows, copula_scores(task.values)[kept]


def _batch(tables: Sequence[tuple[Tensor, np.ndarray]], generator: np.random.Generator) -> Task:
    chosen = [tables[i] for i in generator.integers(len(tables), size=_TASKS)]
    fewest = min(len(z) for _, z in chosen)
    shown = int(generator.integers(min(_FEWEST, fewest - 1), min(_MOST, fewest - 1) + 1))
    asked = min(_ASKED, fewest - shown)
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
