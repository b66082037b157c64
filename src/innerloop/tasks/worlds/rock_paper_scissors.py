"""Rock, paper, scissors against an opponent who has habits."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import TaskFamily
from innerloop.errors import expect_above_zero, expect_whole
from innerloop.objectives.world import Actions, Discrete, Moment, World
from innerloop.records import record, static
from innerloop.tasks.worlds.family import family, random_player
from innerloop.tasks.worlds.game_players import frequencies, frequencies_by_round, known_habits

_HABITS, _FIRST, _MOVE = 1, 2, 3


@record
class Opponent(World):
    """An opponent whose next hand depends on the two hands of the round before: 0 rock, 1 paper, 2 scissors.

    The reward is 1 for a round won, 0 for a draw, -1 for one lost. Seen are both hands of the round before, one 1 among three
    zeros each; before the first round zeros.

    Attributes:
        habits: logits of the next hand, (3, 3, 3): by the opponent's last hand and the player's.
        first: logits of the first hand, (3,).
        rounds: of an episode.
    """

    habits: Tensor
    first: Tensor
    rounds: int = static(50)

    actions: ClassVar[Actions] = Discrete(3)
    observation_size = 6
    ends_early = False

    @property
    def horizon(self) -> int:  # type: ignore[override]
        return self.rounds

    def reset(self, key: Int64[Tensor, ""]) -> tuple[Any, Tensor]:
        return torch.full_like(key, 9), torch.zeros_like(self.habits[0, 0]).repeat(2)

    def step(self, state: Tensor, action: Tensor, key: Int64[Tensor, ""]) -> Moment:
        table = torch.cat([self.habits.flatten(0, 1), self.first[None]])
        theirs = self.actions.sample(table.index_select(0, state[None])[0], key)
        result = (action - theirs) % 3  # 0: a draw, 1: won, 2: lost
        reward = torch.where(result == 2, -1.0, result.to(table.dtype)).to(table.dtype)
        seen = torch.cat([self.actions.encoded(theirs, table), self.actions.encoded(action, table)])
        return Moment(3 * theirs + action, seen, reward, torch.zeros_like(action, dtype=torch.bool))


def rock_paper_scissors(*, rounds: int = 50, habit: float = 2.0) -> TaskFamily:
    """Opponents who draw each hand from a table of their own, by the two hands of the round before.

    Args:
        rounds: of a game; the return is wins minus losses.
        habit: deviation of the tables' logits: 0 is an opponent without habits, against whom nothing can be won.

    Raises:
        ConfigError: fewer than one round, or a habit that is not above 0.
    """
    expect_whole("rock_paper_scissors: rounds", rounds)
    expect_above_zero("rock_paper_scissors: habit", habit)

    def draw(keys: Int64[Tensor, " tasks"]) -> Opponent:
        habits = habit * random_keys.normal(keys, (3, 3, 3), _HABITS)
        return Opponent(habits, habit * random_keys.normal(keys, (3,), _FIRST), rounds)

    known = {
        "random": random_player,
        "frequencies": frequencies,
        "frequencies_by_round": frequencies_by_round,
        "bound_known_habits": known_habits,
    }
    return family("rock_paper_scissors", draw, {"rounds": rounds, "habit": habit}, known=known)
