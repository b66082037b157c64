"""Small Markov decision processes with random rewards and transitions (Osband 2013, Duan et al. 2016)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import TaskFamily
from innerloop.errors import expect_whole
from innerloop.objectives.world import Discrete, Moment, World
from innerloop.records import record, static
from innerloop.tasks.worlds.family import family, random_player
from innerloop.tasks.worlds.mdp_players import psrl, value_iteration

_REWARDS, _TRANSITIONS, _PAID, _MOVED = 1, 2, 3, 4


@record
class Mdp(World):
    """States and actions in tables; the observation is the state, one 1 among zeros. An episode begins in state 0.

    Attributes:
        means: of the reward of an action in a state, which is normal with deviation 1, (states, actions).
        transitions: (states, actions, states) probabilities of the next state.
        steps: of an episode.
    """

    means: Tensor
    transitions: Tensor
    steps: int = static(10)

    ends_early = False

    @property
    def actions(self) -> Discrete:  # type: ignore[override]
        return Discrete(self.means.shape[-1])

    @property
    def observation_size(self) -> int:  # type: ignore[override]
        return self.means.shape[-2]

    @property
    def horizon(self) -> int:  # type: ignore[override]
        return self.steps

    def reset(self, key: Int64[Tensor, ""]) -> tuple[Any, Tensor]:
        state = torch.zeros_like(key)
        return state, self._seen(state)

    def _seen(self, state: Tensor) -> Tensor:
        return (state == torch.arange(self.means.shape[-2], device=state.device)).to(self.means.dtype)

    def step(self, state: Tensor, action: Tensor, key: Int64[Tensor, ""]) -> Moment:
        row = (state * self.means.shape[-1] + action)[None]
        mean = self.means.flatten(-2).index_select(0, row)[0]
        reward = mean + random_keys.normal(key, salt=_PAID, dtype=mean.dtype)
        odds = self.transitions.flatten(0, 1).index_select(0, row)[0].cumsum(-1)
        drawn = random_keys.uniform(key, salt=_MOVED, dtype=mean.dtype) * odds[-1]
        state = (odds <= drawn).sum(-1).clamp(max=len(odds) - 1)
        return Moment(state, self._seen(state), reward, torch.zeros_like(state, dtype=torch.bool))


def tabular_mdp(*, states: int = 10, actions: int = 5, steps: int = 10, episodes: int = 10) -> TaskFamily:
    """Decision processes with rewards N(m, 1), m ~ N(1, 1), and transitions uniform over all distributions (flat Dirichlet).

    The return is of a whole trial of ``episodes`` episodes, each of which begins in state 0.

    Args:
        states: in a process.
        actions: in each state.
        steps: of an episode.
        episodes: in a trial.

    Raises:
        ConfigError: a number below 1 (actions: below 2).

    Reference: Duan et al. 2016, arXiv:1611.02779, after Osband, Russo and Van Roy 2013, arXiv:1306.0940.
    """
    for name, value, low in (("states", states, 1), ("actions", actions, 2), ("steps", steps, 1)):
        expect_whole(f"tabular_mdp: {name}", value, low)

    def draw(keys: Int64[Tensor, " tasks"]) -> Mdp:
        means = 1 + random_keys.normal(keys, (states, actions), _REWARDS)
        shares = -torch.log1p(-random_keys.uniform(keys, (states, actions, states), _TRANSITIONS))
        return Mdp(means, shares / shares.sum(-1, keepdim=True), steps)

    options = {"states": states, "actions": actions, "steps": steps, "episodes": episodes}
    known = {
        "random": random_player,
        "psrl": psrl,
        "bound_value_iteration": lambda processes: value_iteration(processes, episodes),
    }
    return family("tabular_mdp", draw, options, episodes=episodes, known=known)
