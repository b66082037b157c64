"""Bernoulli bandits: arms that pay 1 with a probability nobody tells, and a number of pulls (Duan et al. 2016)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import TaskFamily
from innerloop.errors import ConfigError
from innerloop.objectives.world import Discrete, Moment, World
from innerloop.records import record, static
from innerloop.tasks.worlds.bandit_players import players
from innerloop.tasks.worlds.family import family, random_player

_ARMS, _MOST_PULLS = 1_000, 10_000


@record
class Bandit(World):
    """Arm a pays 1 with probability ``chances[a]``, else 0. There is nothing to see: the observation is a 0.

    Attributes:
        chances: (arms,).
        pulls: steps of an episode.
    """

    chances: Tensor
    pulls: int = static(10)

    observation_size = 1
    ends_early = False

    @property
    def actions(self) -> Discrete:  # type: ignore[override]
        return Discrete(self.chances.shape[-1])

    @property
    def horizon(self) -> int:  # type: ignore[override]
        return self.pulls

    def reset(self, key: Int64[Tensor, ""]) -> tuple[Any, Tensor]:
        return (), torch.zeros_like(self.chances[:1])

    def step(self, state: Any, action: Tensor, key: Int64[Tensor, ""]) -> Moment:
        chance = self.chances.gather(-1, action[..., None]).squeeze(-1)
        reward = (random_keys.uniform(key, dtype=chance.dtype) < chance).to(chance.dtype)
        return Moment((), torch.zeros_like(self.chances[:1]), reward, torch.zeros_like(action, dtype=torch.bool))


def bandits(*, arms: int = 5, pulls: int = 10) -> TaskFamily:
    """Bernoulli bandits, each arm's probability uniform on [0, 1]; the return is the number of payments in all pulls.

    Args:
        arms: 2 to 1,000.
        pulls: 1 to 10,000.

    Raises:
        ConfigError: a number out of range.

    Reference: Duan et al. 2016, "RL^2: fast reinforcement learning via slow reinforcement learning", arXiv:1611.02779.
    """
    for name, value, low, high in (("arms", arms, 2, _ARMS), ("pulls", pulls, 1, _MOST_PULLS)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"bandits: {name} expected a whole number from {low} to {high:,}, got {value!r}")

    def draw(keys: Int64[Tensor, " tasks"]) -> Bandit:
        return Bandit(random_keys.uniform(keys, (arms,)), pulls)

    return family(
        "bandits", draw, {"arms": arms, "pulls": pulls}, known={"random": random_player, **players(arms, pulls)}
    )
