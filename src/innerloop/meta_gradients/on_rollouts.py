"""Backpropagation through a loss on rollouts, which are made before it where there are none yet."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from innerloop.core import Meta, OuterGradient, Task
from innerloop.meta_gradients.backprop import Backprop
from innerloop.objectives.world import World


@dataclasses.dataclass(eq=False)
class OnRollouts(Backprop):
    """`Backprop` of a learner whose ``experience`` plays in worlds.

    `fit` calls ``experience`` once for all passes over one draw; whoever calls ``backward`` on worlds has them played in here.
    """

    # Advantages are made to have variance 1 over all tasks of a step.
    shardable = False
    # Compiling a policy over the many steps of a trial takes longer than it saves.
    compilable = False

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
        return self.of_rollouts(carry, meta, tasks, outer_step)

    def of_rollouts(self, carry: dict[str, Tensor], meta: Meta, tasks: Task, outer_step: int) -> OuterGradient:
        """The gradient once all have been played."""
        return super().__call__(carry, meta, tasks, outer_step, None)
