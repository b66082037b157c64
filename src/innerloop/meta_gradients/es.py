"""Evolution strategies: the gradient of a smoothed outer loss from values of the loss alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Meta, MetaGradient, OuterGradient, Task
from innerloop.engine import Engine
from innerloop.meta_gradients.perturbations import (
    Trial,
    check_settings,
    like_meta,
    moved,
    noise,
    perturbed,
    trials,
    weighted_noise,
)


@dataclasses.dataclass(eq=False)
class ES(MetaGradient):
    """``mean of (L(meta + sigma e) - L(meta - sigma e)) / (2 sigma) e`` over tasks and pairs, e standard normal.

    Unbiased for the gradient of the smoothed loss ``E_e L(meta + sigma e)``; its variance grows with the number of outer
    parameters. Nothing is differentiated but by the inner loop, so the loss may have jumps, and memory does not grow with
    inner steps. Every task has perturbations of its own, drawn from its key, so that they average out over tasks too: the
    estimate is the same in any chunk, by any strategy and number of processes. Give every batch new keys, as
    `TaskDistribution` does. The reported metrics are those of the perturbed learners. Salimans et al. 2017 (arXiv:1703.03864);
    for MAML, Song et al. 2020 (arXiv:1910.01215).

    Args:
        learner: any learner.
        engine: runs the one-task loss over many tasks.
        sigma: standard deviation of the perturbations, above 0.
        num_pairs: pairs of opposite perturbations of each task, at least 1; the cost is twice as many losses.
    """

    learner: BaseLearner
    engine: Engine
    sigma: float = dataclasses.field(default=0.01, kw_only=True)
    num_pairs: int = dataclasses.field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        self.order = "zeroth"
        check_settings(self.sigma, self.num_pairs)

    def phase(self, outer_step: int) -> Any:
        of_learner = getattr(self.learner, "phase", None)
        return of_learner(outer_step) if of_learner else 0

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator
        like = perturbed(meta, self.learner)

        def pair(meta: Meta, trial: Trial) -> tuple[Tensor, dict[str, Any]]:
            assert trial.key is not None
            # Both of the pair see the same task with the same noise (dropout, mini-batches): it cancels in the difference.
            direction = noise(trial.key, like)
            up, seen = self.learner.meta_loss(moved(meta, direction, self.sigma), trial, outer_step)
            down, seen_too = self.learner.meta_loss(moved(meta, direction, -self.sigma), trial, outer_step)
            parts = [{"metrics": s["metrics"], "buffers": s.get("buffers", {})} for s in (seen, seen_too)]
            return up - down, pytree.tree_map(lambda a, b: (a + b) / 2, *parts)

        every = trials(tasks, self.num_pairs)
        difference, aux = self.engine.each(pair, meta, every)
        assert every.key is not None
        # Perturbations are drawn again from their keys: kept, they would take a copy of the model for each pair and task.
        params, rule = like_meta(weighted_noise(difference / (2 * self.sigma), every.key, like), meta)
        aux = pytree.tree_map(lambda v: v.mean(0), aux)
        return OuterGradient(params, rule, aux["buffers"], carry, aux["metrics"])
