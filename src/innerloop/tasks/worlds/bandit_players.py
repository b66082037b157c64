"""How to play bandits when their chances are known to be uniform: Thompson sampling, UCB, the Gittins index, the optimum.

They stand beside what is learned. A player is a function of a batch of bandits that gives what `roll_out` takes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.objectives.rollouts import Act, Acted, Seen, roll_out
from innerloop.objectives.world import Discrete

_TUNED_ON, _TUNED_BY = 2_000, 7  # bandits, and the seed of these
_BONUSES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
_ROUNDS = 8  # of proposals; a draw that none of them suits has a chance of 1e-9
_MOST_STATES = 300_000  # of the optimum's table, before arms are sorted
_MOST_GITTINS = 200  # pulls
_GRID = 161  # of sure payments that an arm is compared with


def gamma(key: Int64[Tensor, "*batch"], shape: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """Gamma variates of scale 1, a function of the key, for shapes (*batch, ...) of at least 1 (Marsaglia and Tsang 2000)."""
    d = shape - 1 / 3
    found = d.clone()  # where no proposal suits
    open_ = torch.ones_like(shape, dtype=torch.bool)
    size = shape.shape[key.ndim :]
    for i in range(_ROUNDS):
        x = random_keys.normal(key, size, 100 + i, shape.dtype)
        v = (1 + x / (9 * d).sqrt()) ** 3
        u = random_keys.uniform(key, size, 200 + i, shape.dtype)
        bound = 0.5 * x.square() + d - d * v + d * v.clamp(min=1e-30).log()
        taken = open_ & (v > 0) & (torch.log1p(-u) < bound)
        found, open_ = torch.where(taken, d * v, found), open_ & ~taken
    return found


class Counts:
    """Wins and losses of each arm, as a player's memory: (bandits, 2, arms)."""

    def __init__(self, arms: int) -> None:
        self.actions: Discrete = Discrete(arms)

    def begin(self, bandits: Any) -> Tensor:
        return torch.zeros(len(bandits.chances), 2, self.actions.size, dtype=bandits.chances.dtype)

    def after(self, counts: Tensor, seen: Seen) -> Tensor:
        """With what the last pull brought."""
        pulled = self.actions.encoded(seen.action, counts)
        return counts + torch.stack([pulled * seen.reward[:, None], pulled * (1 - seen.reward[:, None])], 1)


def counting(choose: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any], tuple[Act, Any]]:
    """A player that chooses by (wins and losses, keys): (bandits, 2, arms), (bandits,) to (bandits,)."""

    def player(bandits: Any) -> tuple[Act, Any]:
        counts = Counts(bandits.chances.shape[-1])

        def act(carry: Tensor, seen: Seen, keys: Tensor) -> Acted:
            carry = counts.after(carry, seen)
            return Acted(carry, choose(carry, keys), {})

        return act, counts.begin(bandits)

    return player


def _thompson(counts: Tensor, keys: Tensor) -> Tensor:
    wins, losses = (gamma(random_keys.fold(keys, i), 1 + counts[:, i]) for i in (0, 1))
    return (wins / (wins + losses)).argmax(-1)


# The arm that is best in one draw from what the chances may be (Thompson 1933).
thompson: Callable[[Any], tuple[Act, Any]] = counting(_thompson)


def _bonus(weight: float) -> Callable[[Tensor, Tensor], Tensor]:
    def choose(counts: Tensor, keys: Tensor) -> Tensor:
        number = counts.sum(1)
        time = 1 + number.sum(-1, keepdim=True)
        return ((1 + counts[:, 0]) / (2 + number) + weight * (2 * time.log() / (1 + number)).sqrt()).argmax(-1)

    return choose


_tuned: dict[tuple[int, int], float] = {}  # by arms and pulls


def _best_weight(bandits: Any) -> float:
    """The weight of the bonus that earns most on other bandits, neither training's nor a test's."""
    arms = bandits.chances.shape[-1]
    if (arms, bandits.pulls) not in _tuned:
        keys = random_keys.task_keys(_TUNED_BY, "tuning", 0, 0, _TUNED_ON)
        others = dataclasses.replace(bandits, chances=random_keys.uniform(keys, (arms,)))
        earned = {}
        for weight in _BONUSES:
            act, carry = counting(_bonus(weight))(others)
            earned[weight] = float(roll_out(others, act, carry, random_keys.fold(keys, 1))[0].rewards.sum())
        _tuned[arms, bandits.pulls] = max(earned, key=earned.__getitem__)
    return _tuned[arms, bandits.pulls]


def ucb(bandits: Any) -> tuple[Act, Any]:
    """Expected chance plus a bonus for what was seldom tried (Auer 2002), whose weight is chosen on other bandits."""
    return counting(_bonus(_best_weight(bandits)))(bandits)


# ---- the Gittins index -------------------------------------------------------------------------------------------
@functools.cache
def gittins_index(pulls: int) -> Float[Tensor, "left wins losses"]:
    """For each number of pulls left, wins and losses: the sure payment a pull for which one would just as well stop.

    Of the finite horizon: with so many pulls left, each of this arm or of the sure payment, without a way back.
    """
    size = pulls + 1
    wins, losses = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    chance = (wins + 1.0) / (wins + losses + 2)
    sure = np.linspace(0.0, 1.0, _GRID)
    value = np.zeros((_GRID, size + 1, size + 1))
    found = np.zeros((size, size, size), dtype=np.float32)
    for left in range(1, size):
        play = chance * (1 + value[:, 1:, :-1]) + (1 - chance) * value[:, :-1, 1:]
        stop = sure[:, None, None] * left
        ahead = play - stop  # falls with the sure payment
        last = np.clip((ahead >= 0).sum(0) - 1, 0, _GRID - 2)
        low, high = (np.take_along_axis(ahead, (last + i)[None], 0)[0] for i in (0, 1))
        found[left] = sure[last] + (sure[1] - sure[0]) * np.clip(low / np.maximum(low - high, 1e-12), 0, 1)
        value = np.zeros_like(value)
        value[:, :-1, :-1] = np.maximum(play, stop)
    return torch.from_numpy(found)


def gittins(bandits: Any) -> tuple[Act, Any]:
    """The arm of the highest index for the pulls that are left."""
    table = gittins_index(bandits.pulls)

    def choose(counts: Tensor, keys: Tensor) -> Tensor:
        left = bandits.pulls - int(counts[0].sum())
        wins, losses = counts.long().unbind(1)
        return table[left][wins, losses].argmax(-1)

    return counting(choose)(bandits)


# ---- the optimum -------------------------------------------------------------------------------------------------
State = tuple[tuple[int, int], ...]  # (wins, losses) of each arm, sorted


@functools.cache
def _solved(arms: int, pulls: int) -> tuple[float, dict[State, tuple[int, int]]]:
    """(what the best player earns on average, the arm that it pulls in each state) by dynamic programming."""
    choices: dict[State, tuple[int, int]] = {}
    known: dict[State, float] = {}

    def moved(state: State, arm: tuple[int, int], to: tuple[int, int]) -> State:
        rest = list(state)
        rest.remove(arm)
        return tuple(sorted([*rest, to]))

    def value(state: State, left: int) -> float:
        if not left:
            return 0.0
        if state not in known:
            best = -1.0
            for arm in dict.fromkeys(state):
                wins, losses = arm
                chance = (wins + 1) / (wins + losses + 2)
                earned = chance * (1 + value(moved(state, arm, (wins + 1, losses)), left - 1))
                earned += (1 - chance) * value(moved(state, arm, (wins, losses + 1)), left - 1)
                if earned > best:
                    best, choices[state] = earned, arm
            known[state] = best
        return known[state]

    return value(((0, 0),) * arms, pulls), choices


def is_small(arms: int, pulls: int) -> bool:
    """Whether the optimum can be computed in seconds."""
    return math.comb(pulls + 2 * arms, pulls) <= _MOST_STATES


def bayes_value(arms: int, pulls: int) -> float:
    """What the best player earns on average: no one who does not know the chances can earn more."""
    return _solved(arms, pulls)[0]


def bayes_player(bandits: Any) -> tuple[Act, Any]:
    """The best player; see `bayes_value`."""
    arms = bandits.chances.shape[-1]
    _, choices = _solved(arms, bandits.pulls)

    def choose(counts: Tensor, keys: Tensor) -> Tensor:
        found = []
        for pairs in counts.long().movedim(1, 2).tolist():
            state = [tuple(pair) for pair in pairs]
            found.append(state.index(choices[tuple(sorted(state))]))
        return torch.tensor(found)

    return counting(choose)(bandits)


def players(arms: int, pulls: int) -> dict[str, Callable[[Any], Any]]:
    """Those that these bandits can be played with, by name."""
    found: dict[str, Callable[[Any], Any]] = {"thompson": thompson, "ucb": ucb}
    if pulls <= _MOST_GITTINS:
        found["gittins"] = gittins
    if is_small(arms, pulls):
        found["bayes_optimum"] = bayes_player
    return found
