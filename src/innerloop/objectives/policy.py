"""The return of a policy in a world: the objective of meta-reinforcement learning.

A side of a task is a `World`, or `Rollouts` where the data of a step are stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import Apply, Objective, Task
from innerloop.errors import ConfigError, InputError, ShapeError
from innerloop.objectives.rollouts import (
    Rollouts,
    advantages,
    discounted,
    linear_baseline,
    memoryless,
    roll_out,
    standardised,
)
from innerloop.objectives.world import Actions, World, one_of


@dataclasses.dataclass(frozen=True)
class Policy(Objective):
    """The sum of rewards in a trial; not discounted.

    Metrics: ``return``, of a whole trial; where a trial has several episodes, ``first_episode`` and ``last_episode`` too.

    Args:
        actions: what an action is, and so what a policy's outputs mean.
        observation_size: numbers in an observation.
        horizon: steps of an episode at most.
        episodes: in a trial.
        trials: how many are measured in each world, side by side; their mean counts.
        discount: of a step, in what is learned from.
        reward_size: about how large a reward is; learners scale by it.
    """

    actions: Actions
    observation_size: int
    horizon: int
    episodes: int = 1
    trials: int = 1
    discount: float = 0.99
    reward_size: float = 1.0

    @property
    def name(self) -> str:
        return "policy"

    @property
    def metrics(self) -> Mapping[str, bool]:  # type: ignore[override]
        return {"return": True, **({"first_episode": True, "last_episode": True} if self.episodes > 1 else {})}

    def check(self, task: Task) -> None:
        for name, side in (("support", task.support), ("query", task.query)):
            if not isinstance(side, World | Rollouts) and not isinstance(getattr(side, "rollouts", None), Rollouts):
                raise InputError(
                    f"a policy's task expected a world or rollouts as its {name} side, got {type(side).__name__}; take the "
                    "tasks of a family such as il.tasks.bandits() as they are"
                )
            if isinstance(side, World):
                self.expect_world(side)

    def expect_world(self, world: World) -> None:
        """Raise an error for a world of other sizes than this one's."""
        if world.actions != self.actions:
            raise InputError(f"expected a world with the actions {self.actions}, got {world.actions}")
        if world.observation_size != self.observation_size:
            raise ShapeError(
                f"expected a world whose observations have {self.observation_size} numbers, as in training, got "
                f"{world.observation_size}; take one of the same family"
            )
        if not isinstance(world.horizon, int) or world.horizon < 1:
            raise ConfigError(
                f"a world expected a horizon, the whole number of steps after which an episode is over, got {world.horizon!r}: "
                "without one an episode may never end"
            )

    def play(
        self, apply: Apply, world: World, key: Int64[Tensor, ""], trials: int, episodes: int | None = None
    ) -> Rollouts:
        """Trials of a policy in ONE world, side by side; no graph.

        Args:
            apply: observations to outputs; or what has a ``player(objective, trials) -> (act, memory, last seen)``, as an adapted
                policy with a memory has.
            world: without a leading axis.
            key: of all that is drawn.
            trials: how many.
            episodes: in each; None: ``self.episodes``.
        """
        keys = trial_keys(key, trials)
        own = getattr(apply, "player", None)
        act, carry, seen = (memoryless(apply, self.actions), (), None) if own is None else own(self, trials)
        return roll_out(one_of(world, trials), act, carry, keys, self.episodes if episodes is None else episodes, seen)[
            0
        ]

    def loss(self, apply: Apply, data: Any, key: Tensor | None) -> Float[Tensor, ""]:
        """REINFORCE: minus the mean of log probability times advantage, over the steps of all episodes.

        Advantages are discounted returns minus the linear baseline, of mean 0 and variance 1; see `surrogate` for others. Of a
        world, after ``trials`` trials in it.
        """
        if isinstance(data, World):
            assert key is not None
            with torch.no_grad():
                data = self.play(apply, data, key, self.trials)
        return surrogate(apply, self.actions, data.by_episode(), self.estimates(data))

    def estimates(self, rollouts: Rollouts, trace: float = 1.0) -> Float[Tensor, "episodes steps"]:
        """`plain_estimates`, made to have mean 0 and variance 1 over one world's episodes."""
        return standardised(self.plain_estimates(rollouts, trace), rollouts.by_episode().playing)

    def plain_estimates(self, rollouts: Rollouts, trace: float = 1.0) -> Float[Tensor, "episodes steps"]:
        """Advantages of each episode's steps by the linear baseline, in the unit of rewards."""
        each = rollouts.by_episode()
        returns = discounted(each.rewards, self.discount)
        values = linear_baseline(each.observations, returns, each.playing)
        return advantages(each.rewards, values, each.playing, self.discount, trace)

    def measure(self, apply: Apply, data: Any, key: Tensor | None) -> dict[str, Tensor]:
        if isinstance(data, World):
            assert key is not None
            data = self.play(apply, data, key, self.trials)
        each = data.returns().mean(0)
        found = {"return": each.sum()}
        return found | ({"first_episode": each[0], "last_episode": each[-1]} if self.episodes > 1 else {})

    def examples(self, data: Any) -> int:
        return 1  # a world: what is played in it is not held


def trial_keys(keys: Int64[Tensor, "*worlds"], trials: int) -> Int64[Tensor, "*worlds trials"]:
    """The keys of so many trials in each world, from one of each world."""
    return random_keys.fold(keys[..., None], torch.arange(trials, device=keys.device))


def surrogate(
    apply: Apply,
    actions: Actions,
    rollouts: Rollouts,
    advantage: Float[Tensor, "trials steps"],
    clip: float | None = None,
) -> Float[Tensor, ""]:
    """A loss whose gradient is minus the policy gradient, of a policy that looks at the observation alone.

    Args:
        apply: observations (..., observation_size) to outputs.
        actions: what these mean.
        rollouts: episodes, with the "log_prob" of their actions noted where ``clip`` is given.
        advantage: of each step; no gradient goes through it.
        clip: how far the ratio of probabilities may be from 1 (PPO, Schulman 2017); None: minus the log probability.
    """
    n, steps = rollouts.rewards.shape
    outputs = apply(rollouts.observations.flatten(0, 1)).unflatten(0, (n, steps))
    logs = actions.log_prob(outputs, rollouts.actions)
    advantage = advantage.detach()
    counts = rollouts.playing.to(logs.dtype)
    gain = logs * advantage if clip is None else clipped(logs, rollouts.noted["log_prob"], advantage, clip)
    return -(gain * counts).sum() / counts.sum().clamp(min=1)


def clipped(new: Tensor, old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """The lesser of ratio times advantage and clipped ratio times advantage, for each step (PPO)."""
    ratio = (new - old.detach()).exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
