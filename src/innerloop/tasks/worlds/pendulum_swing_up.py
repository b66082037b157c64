"""A pendulum to be swung up and held, of lengths, masses and gravity that nobody tells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import TaskFamily
from innerloop.errors import expect_whole
from innerloop.objectives.world import Actions, Continuous, Moment, World
from innerloop.records import record, static
from innerloop.tasks.worlds.family import between, expect_range, family, random_player

_LENGTH, _MASS, _GRAVITY = 1, 2, 3
_TORQUE, _FASTEST, _SECONDS = 2.0, 8.0, 0.05  # newton metres; radians a second; of a step


@record
class SwingUp(World):
    """Angle (0 is up) and angular speed; seen as cosine, sine and speed. The action is a torque, clipped to 2 newton metres.

    The reward is minus (angle^2 + 0.1 speed^2 + 0.001 torque^2), of the state before the step. The equations are those of
    gymnasium's Pendulum-v1.

    Attributes:
        length: metres, ().
        mass: kilograms, ().
        gravity: metres a second squared, ().
        steps: of an episode.
    """

    length: Tensor
    mass: Tensor
    gravity: Tensor
    steps: int = static(200)

    actions: ClassVar[Actions] = Continuous(1, -_TORQUE, _TORQUE)
    observation_size = 3
    ends_early = False
    reward_size: ClassVar[float] = 5.0

    @property
    def horizon(self) -> int:  # type: ignore[override]
        return self.steps

    def reset(self, key: Int64[Tensor, ""]) -> tuple[Any, Tensor]:
        drawn = 2 * random_keys.uniform(key, (2,), dtype=self.length.dtype) - 1
        state = drawn * torch.tensor([math.pi, 1.0], dtype=drawn.dtype, device=drawn.device)
        return state, self._seen(state)

    def _seen(self, state: Tensor) -> Tensor:
        angle, speed = state.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), speed], -1)

    def step(self, state: Tensor, action: Tensor, key: Int64[Tensor, ""]) -> Moment:
        angle, speed = state.unbind(-1)
        torque = action[..., 0].to(state.dtype).clamp(-_TORQUE, _TORQUE)
        upright = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
        cost = upright.square() + 0.1 * speed.square() + 0.001 * torque.square()
        pull = 3 * self.gravity / (2 * self.length) * angle.sin() + 3 * torque / (self.mass * self.length.square())
        speed = (speed + _SECONDS * pull).clamp(-_FASTEST, _FASTEST)
        state = torch.stack([angle + _SECONDS * speed, speed], -1)
        return Moment(state, self._seen(state), -cost, torch.zeros_like(angle, dtype=torch.bool))


def pendulum_swing_up(
    *,
    length: Sequence[float] = (0.7, 1.3),
    mass: Sequence[float] = (0.7, 1.3),
    gravity: Sequence[float] = (10.0, 10.0),
    steps: int = 200,
    episodes: int = 1,
    trials: int = 1,
) -> TaskFamily:
    """Pendulums of many lengths and masses; `il.worlds.pendulum` is the same.

    `il.tasks.pendulum` is something else: a driven pendulum whose motion is to be predicted.

    Args:
        length: (low, high), metres (gymnasium's: 1).
        mass: likewise, kilograms (1).
        gravity: likewise, metres a second squared (10).
        steps: of an episode.
        episodes: in a trial of a policy with a memory.
        trials: of which the mean is measured in each world.

    Raises:
        ConfigError: a range that is not (low, high) above 0, or a number below 1.
    """
    name = "pendulum_swing_up"
    expect_whole(f"{name}: steps", steps)
    given = (("length", length, 0.01), ("mass", mass, 0.01), ("gravity", gravity, 0.0))
    ranges = {what: expect_range(name, what, limits, low) for what, limits, low in given}

    def draw(keys: Int64[Tensor, " tasks"]) -> SwingUp:
        salts = {"length": _LENGTH, "mass": _MASS, "gravity": _GRAVITY}
        return SwingUp(**{what: between(keys, limits, salts[what]) for what, limits in ranges.items()}, steps=steps)

    options = {**{what: list(v) for what, v in ranges.items()}, "steps": steps, "episodes": episodes, "trials": trials}
    return family(name, draw, options, episodes=episodes, trials=trials, known={"random": random_player})
