"""How to play rock, paper, scissors against habits: counting hands, counting them by the round before, and knowing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from innerloop.objectives.rollouts import Act, Acted, Seen

_BEGUN = 9  # stands for the round before the first one


def _counting(by_round: bool) -> Callable[[Any], tuple[Act, Any]]:
    """The hand that wins most on average by the opponent's frequencies so far, each counted one more time than it was."""

    def player(opponents: Any) -> tuple[Act, Any]:
        n = len(opponents.first)

        def act(carry: Any, seen: Seen, keys: Tensor) -> Acted:
            counts, before = carry
            theirs, mine = seen.observation[:, :3], seen.observation[:, 3:]
            begun = theirs.sum(-1) > 0
            now = torch.where(begun, 3 * theirs.argmax(-1) + mine.argmax(-1), _BEGUN)
            at = torch.arange(n)
            counts = counts.clone()
            counts[at, before if by_round else 0] += theirs
            odds = counts[at, now if by_round else 0]
            action = (odds.roll(1, -1) - odds.roll(-1, -1)).argmax(-1)  # what is beaten minus what beats
            return Acted((counts, now), action, {})

        return act, (torch.ones(n, _BEGUN + 1, 3), torch.full((n,), _BEGUN))

    return player


frequencies: Callable[[Any], tuple[Act, Any]] = _counting(False)
frequencies_by_round: Callable[[Any], tuple[Act, Any]] = _counting(True)


def known_habits(opponents: Any) -> Float[Tensor, " opponents"]:
    """What the best player who knows an opponent's habits wins on average: a bound for all who do not."""
    odds = (
        torch.cat([opponents.habits.flatten(1, 2), opponents.first[:, None]], 1).double().softmax(-1)
    )  # (n, 10, theirs)
    wins = odds.roll(1, -1) - odds.roll(-1, -1)  # by the player's hand
    after = (3 * torch.arange(3)[None] + torch.arange(3)[:, None]).flatten()  # by the player's hand, then theirs
    leads = F.one_hot(after, _BEGUN + 1).double().unflatten(0, (3, 3))
    ahead = torch.zeros_like(odds[..., 0])
    for _ in range(opponents.rounds):
        later = torch.einsum("nct,mts,ns->ncm", odds, leads, ahead)
        ahead = (wins + later).amax(-1)
    return ahead[:, _BEGUN]
