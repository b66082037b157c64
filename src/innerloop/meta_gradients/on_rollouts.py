"""Backpropagation through a loss on rollouts, which are made before it where there are none yet."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from innerloop.core import Meta, OuterGradient, Task
from innerloop.meta_gradients.backprop import Backprop
from innerloop.objectives.rollouts import PLAYED, Rollouts
from innerloop.objectives.world import World


@dataclasses.dataclass(eq=False)
class OnRollouts(Backprop):
    """`Backprop` of a learner whose ``experience`` plays in worlds.

    `fit` calls ``experience`` once for all passes over one draw; whoever calls ``backward`` on worlds has them played in here.
    The carry counts what was played: steps in all environments together.
    """

    # Advantages are made to have variance 1 over all tasks of a step.
    shardable = False

    def init(self, meta: Meta) -> dict[str, Tensor]:
        del meta
        return {PLAYED: torch.zeros((), dtype=torch.int64)}

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator
        if isinstance(tasks.query, World):
            assert tasks.noise is not None  # the boundary has seen to it
            with torch.no_grad():
                tasks = self.learner.experience(meta, tasks, tasks.noise[0])
        carry = {PLAYED: carry[PLAYED] + self._steps(tasks).to(carry[PLAYED])}
        return self.of_rollouts(carry, meta, tasks, outer_step)

    def _steps(self, tasks: Task) -> Tensor:
        """How many steps were played; a learner that takes no gradients has played one side, which is then both."""
        sides = (tasks.support, tasks.query) if self.learner.adapts_by_gradients else (tasks.query,)
        return torch.stack([side.playing.sum() for side in sides if isinstance(side, Rollouts)]).sum()

    def of_rollouts(self, carry: dict[str, Tensor], meta: Meta, tasks: Task, outer_step: int) -> OuterGradient:
        """The gradient once all have been played."""
        return super().__call__(carry, meta, tasks, outer_step, None)
