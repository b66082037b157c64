"""A point that looks for a goal in the plane (Finn et al. 2017, section 5.3)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import TaskFamily
from innerloop.errors import expect_whole
from innerloop.objectives.rollouts import Act, Acted, Seen
from innerloop.objectives.world import Actions, Continuous, Moment, World
from innerloop.records import record, static
from innerloop.tasks.worlds.family import family, random_player

_NEAR = 0.01  # in both coordinates, as in the authors' code
_SPEED = 0.1


@record
class Plane(World):
    """A point at ``state`` (2,), moved by the action, clipped to 0.1 in each coordinate; the reward is minus the distance to
    the goal. The episode ends within 0.01 of it.

    Attributes:
        goal: (2,), not seen.
        steps: of an episode.
    """

    goal: Tensor
    steps: int = static(100)

    actions: ClassVar[Actions] = Continuous(2, -_SPEED, _SPEED)
    observation_size = 2

    @property
    def horizon(self) -> int:  # type: ignore[override]
        return self.steps

    def reset(self, key: Int64[Tensor, ""]) -> tuple[Any, Tensor]:
        return torch.zeros_like(self.goal), torch.zeros_like(self.goal)

    def step(self, state: Tensor, action: Tensor, key: Int64[Tensor, ""]) -> Moment:
        state = state + action.to(state.dtype).clamp(-_SPEED, _SPEED)
        away = state - self.goal
        return Moment(state, state, -away.square().sum(-1).sqrt(), (away.abs() < _NEAR).all(-1))


def straight(planes: Any) -> tuple[Act, Any]:
    """The way of one who knows the goal, as far as a step goes: a bound for all who do not."""

    def act(carry: Any, seen: Seen, keys: Tensor) -> Acted:
        return Acted(carry, planes.goal - seen.observation, {})

    return act, ()


def navigation(*, steps: int = 100, episodes: int = 1, trials: int = 20) -> TaskFamily:
    """Goals uniform on [-0.5, 0.5]^2; a point starts at the origin each time and sees where it is, not the goal.

    As in the authors' code the reward is minus the distance, and the episode ends when both coordinates are within 0.01.

    Args:
        steps: of an episode (the paper's 100).
        episodes: in a trial of a policy with a memory.
        trials: of which the mean is measured in each world (the paper's 20).

    Raises:
        ConfigError: a number below 1.

    Reference: Finn, Abbeel and Levine 2017, "Model-agnostic meta-learning", arXiv:1703.03400.
    """
    expect_whole("navigation: steps", steps)

    def draw(keys: Int64[Tensor, " tasks"]) -> Plane:
        return Plane(random_keys.uniform(keys, (2,)) - 0.5, steps)

    options = {"steps": steps, "episodes": episodes, "trials": trials}
    known = {"random": random_player, "bound_known_goal": straight}
    return family("navigation", draw, options, episodes=episodes, trials=trials, known=known)
