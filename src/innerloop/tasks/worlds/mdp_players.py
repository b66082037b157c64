"""How to play small decision processes: with them known (value iteration, the bound), and by posterior sampling."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.objectives.rollouts import Act, Acted, Seen
from innerloop.tasks.worlds.bandit_players import gamma


def action_values(
    means: Float[Tensor, "*batch states actions"],
    transitions: Float[Tensor, "*batch states actions states"],
    steps: int,
) -> Float[Tensor, "steps *batch states actions"]:
    """The best sum of rewards from each of the steps of an episode on, by value iteration."""
    found, ahead = [], torch.zeros_like(means[..., 0])
    for _ in range(steps):
        values = means + (transitions * ahead[..., None, None, :]).sum(-1)
        found.append(values)
        ahead = values.amax(-1)
    return torch.stack(found[::-1])


def value_iteration(processes: Any, episodes: int) -> Float[Tensor, " processes"]:
    """What the best policy for a known process earns on average in a trial: a bound for all who do not know it."""
    means, transitions = processes.means.double(), processes.transitions.double()
    return episodes * action_values(means, transitions, processes.steps)[0, :, 0].amax(-1)


def psrl(processes: Any) -> tuple[Act, Any]:
    """Posterior sampling (Osband 2013): before each episode a process is drawn from what it may be, and played at its best.

    The priors are those that the processes are drawn from: flat Dirichlet, and normal rewards of mean 1 and deviation 1.
    """
    means = processes.means
    n, states, actions = means.shape

    def act(carry: Any, seen: Seen, keys: Tensor) -> Acted:
        moves, paid, before, values, step = carry
        state = seen.observation.argmax(-1)
        at = torch.arange(n)
        moves, paid = moves.clone(), paid.clone()
        if int(step) > 0:
            moves_on = ~seen.done  # an episode's last move leads nowhere that is seen
            moves[at, before, seen.action, state] += moves_on.to(moves.dtype)
            paid[at, before, seen.action, 0] += 1
            paid[at, before, seen.action, 1] += seen.reward
        within = int(step) % processes.steps
        if within == 0:
            shares = gamma(random_keys.fold(keys, 1), 1 + moves)
            spread = random_keys.normal(keys, (states, actions), 2, means.dtype) / (1 + paid[..., 0]).sqrt()
            drawn = (1 + paid[..., 1]) / (1 + paid[..., 0]) + spread
            values = action_values(drawn, shares / shares.sum(-1, keepdim=True), processes.steps)
        action = values[within, at, state].argmax(-1)
        return Acted((moves, paid, state, values, step + 1), action, {})

    blank = means.new_zeros(n, states, actions, states)
    begun = (blank, means.new_zeros(n, states, actions, 2), torch.zeros(n, dtype=torch.int64), blank, torch.zeros(()))
    return act, begun
