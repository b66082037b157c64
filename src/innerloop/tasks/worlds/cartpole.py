"""A pole on a cart, to be kept upright (Barto, Sutton and Anderson 1983), of lengths, masses and forces that nobody tells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import TaskFamily
from innerloop.errors import ConfigError, expect_whole
from innerloop.objectives.world import Actions, Discrete, Moment, World
from innerloop.records import record, static
from innerloop.tasks.worlds.family import between, expect_range, family, random_player

_LENGTH, _MASS, _FORCE, _SWAPPED = 1, 2, 3, 4
_CART, _SECONDS = 1.0, 0.02  # kilograms; of a step
_EDGE, _TILT = 2.4, 12 * math.pi / 180  # metres and radians at which the episode ends
_AROUND = 0.05  # where it begins, in all four numbers


@record
class Cartpole(World):
    """Position, speed, angle and angular speed; two actions push the cart one way or the other. 1 for each step.

    The equations and limits are those of gymnasium's CartPole-v1.

    Attributes:
        length: half of the pole's, metres, ().
        mass: of the pole, kilograms, ().
        force: of a push, newton; negative where the two actions are swapped, ().
        steps: of an episode at most.
        gravity: metres a second squared.
    """

    length: Tensor
    mass: Tensor
    force: Tensor
    steps: int = static(200)
    gravity: float = static(9.8)

    actions: ClassVar[Actions] = Discrete(2)
    observation_size = 4

    @property
    def horizon(self) -> int:  # type: ignore[override]
        return self.steps

    def reset(self, key: Int64[Tensor, ""]) -> tuple[Any, Tensor]:
        state = _AROUND * (2 * random_keys.uniform(key, (4,), dtype=self.length.dtype) - 1)
        return state, state

    def step(self, state: Tensor, action: Tensor, key: Int64[Tensor, ""]) -> Moment:
        x, speed, angle, turning = state.unbind(-1)
        push = torch.where(action == 1, self.force, -self.force)
        sine, cosine, total = angle.sin(), angle.cos(), _CART + self.mass
        moment = self.mass * self.length
        pushed = (push + moment * turning.square() * sine) / total
        turned = (self.gravity * sine - cosine * pushed) / (self.length * (4 / 3 - self.mass * cosine.square() / total))
        moved = pushed - moment * turned * cosine / total
        rates = torch.stack([speed, moved, turning, turned], -1)
        state = state + _SECONDS * rates
        done = (state[..., 0].abs() > _EDGE) | (state[..., 2].abs() > _TILT)
        return Moment(state, state, torch.ones_like(x), done)


def cartpole(
    *,
    length: Sequence[float] = (0.25, 1.0),
    mass: Sequence[float] = (0.05, 0.5),
    force: Sequence[float] = (5.0, 15.0),
    swapped: float = 0.5,
    steps: int = 200,
    episodes: int = 1,
    trials: int = 1,
) -> TaskFamily:
    """Poles of many lengths and masses, pushed with many forces; in some worlds the two pushes are swapped.

    Args:
        length: (low, high), half of the pole's length in metres (gymnasium's: 0.5).
        mass: likewise of the pole, kilograms (0.1).
        force: likewise, newton (10).
        swapped: share of the worlds in which action 0 pushes to the right.
        steps: of an episode at most.
        episodes: in a trial of a policy with a memory.
        trials: of which the mean is measured in each world.

    Raises:
        ConfigError: a range that is not (low, high) above 0, a share out of range, or a number below 1.
    """
    expect_whole("cartpole: steps", steps)
    ranges = {
        "length": expect_range("cartpole", "length", length, 0.01),
        "mass": expect_range("cartpole", "mass", mass, 1e-3),
    }
    ranges["force"] = expect_range("cartpole", "force", force, 0.0)
    if isinstance(swapped, bool) or not isinstance(swapped, int | float) or not 0 <= swapped <= 1:
        raise ConfigError(f"cartpole: swapped expected a share from 0 to 1, got {swapped!r}")

    def draw(keys: Int64[Tensor, " tasks"]) -> Cartpole:
        sign = torch.where(random_keys.uniform(keys, salt=_SWAPPED) < swapped, -1.0, 1.0)
        return Cartpole(
            between(keys, ranges["length"], _LENGTH),
            between(keys, ranges["mass"], _MASS),
            sign * between(keys, ranges["force"], _FORCE),
            steps,
        )

    options = {**{name: list(v) for name, v in ranges.items()}, "swapped": swapped, "steps": steps}
    options |= {"episodes": episodes, "trials": trials}
    return family("cartpole", draw, options, episodes=episodes, trials=trials, known={"random": random_player})
