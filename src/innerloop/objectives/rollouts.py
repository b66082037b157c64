"""Playing: a policy in a batch of worlds, step by step, without a graph.

One function, `roll_out`, for all methods and all worlds, ours under vmap and gymnasium's alike. All randomness comes from one
key a world, so the same keys give the same rollouts however many worlds are played at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop import keys as random_keys
from innerloop.core import Apply
from innerloop.errors import InputError
from innerloop.objectives.world import Actions, Continuous, World
from innerloop.records import record, static

_RESET, _STEP, _ACT, _WORLD = 71, 72, 73, 74
PLAYED = "environment_steps"  # in the carry of a meta-gradient on rollouts: how many were played so far


@record
class Seen:
    """What a policy is told before it acts, in each of some worlds.

    Attributes:
        observation: (worlds, observation_size).
        action: its last one, (worlds,) or (worlds, size); `Actions.none` before the first of a trial.
        reward: what that brought, (worlds,); 0 before the first.
        done: whether that ended an episode, (worlds,) booleans.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    done: Tensor


class Acted(NamedTuple):
    """What a policy does.

    Attributes:
        carry: its memory after it; any pytree of tensors with a leading axis of worlds, or ().
        action: (worlds,) or (worlds, size).
        noted: what is to be kept of each step beside it, such as {"log_prob": (worlds,)}.
    """

    carry: Any
    action: Tensor
    noted: dict[str, Tensor]


# (memory, what is seen, a key for each world) -> what is done
Act = Callable[[Any, Seen, Tensor], Acted]


@record
class Rollouts:
    """Trials, of one or more episodes each, one after the other; steps = episodes * horizon.

    Where an episode ends early the rest of its steps are padding, not ``playing``: they hold no reward and count nowhere.

    Attributes:
        observations: what was seen before each step, (trials, steps, observation_size).
        actions: (trials, steps) integers or (trials, steps, size).
        rewards: (trials, steps); 0 in padding.
        playing: (trials, steps) booleans.
        done: (trials, steps) booleans: with this step the episode ended by itself.
        noted: what the policy noted, each (trials, steps, ...).
        horizon: steps of an episode.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    playing: Tensor
    done: Tensor
    noted: dict[str, Tensor]
    horizon: int = static(0)

    @property
    def episodes(self) -> int:
        """In each trial."""
        return self.rewards.shape[-1] // self.horizon

    def by_episode(self) -> Rollouts:
        """The episodes as trials of their own: (trials * episodes, horizon, ...)."""
        n = self.rewards.shape[0] * self.episodes
        return pytree.tree_map(lambda v: v.reshape(n, self.horizon, *v.shape[2:]), self)

    def returns(self) -> Float[Tensor, "trials episodes"]:
        """The sum of rewards in each episode; not discounted."""
        return self.rewards.unflatten(-1, (self.episodes, self.horizon)).sum(-1)


def roll_out(
    worlds: World, act: Act, carry: Any, keys: Int64[Tensor, " trials"], episodes: int = 1, seen: Seen | None = None
) -> tuple[Rollouts, Any, Seen]:
    """One trial in each of a batch of worlds.

    The policy keeps its memory over the episodes of a trial, and is told how each ended.

    Args:
        worlds: a batch, ``trials`` worlds; see `world.repeated` and `world.one_of`.
        act: the policy, for all worlds at once; see `memoryless` for a model without a memory.
        carry: its memory at the beginning.
        keys: one for each trial.
        episodes: in a trial.
        seen: what was last seen, where the trial goes on from another; its observation is not looked at.

    Returns:
        What happened, the memory after it, and what was last seen.
    """
    horizon, most = worlds.horizon, worlds.at_once
    if most is not None and len(keys) > most:
        given = (worlds, carry, keys, () if seen is None else seen)
        size: int = most
        parts = [pytree.tree_map(lambda v, a=a: v[a : a + size], given) for a in range(0, len(keys), size)]
        found = [roll_out(some, act, memory, own, episodes, last or None) for some, memory, own, last in parts]
        return pytree.tree_map(lambda *v: torch.cat(v), *found)
    # All keys at once: (trials, steps).
    each = torch.arange(episodes * horizon, device=keys.device)
    of_step = random_keys.fold(random_keys.fold(keys, _STEP)[:, None], each)
    to_act = random_keys.fold(of_step, _ACT).unbind(1)
    of_world = random_keys.fold(of_step, _WORLD).unbind(1)
    rows: list[tuple[Any, ...]] = []
    last: Any = seen
    for episode in range(episodes):
        of_reset = random_keys.fold(random_keys.fold(keys, _RESET), episode)
        state, observation = worlds.reset_many(of_reset)
        if last is None:
            zero = torch.zeros_like(observation[:, 0])
            last = Seen(observation, worlds.actions.none(observation), zero, torch.zeros_like(zero, dtype=torch.bool))
        playing = torch.ones_like(last.done)
        for step in range(horizon):
            i = episode * horizon + step
            now = dataclasses.replace(last, observation=observation)
            acted = act(carry, now, to_act[i])
            moment = worlds.step_many(state, acted.action, of_world[i], playing)
            reward, done = moment.reward.to(observation.dtype), moment.done
            over = done | (step == horizon - 1)
            if worlds.ends_early:
                reward, done = torch.where(playing, reward, 0.0), done & playing
                carry = _where(playing, acted.carry, carry)
                if worlds.in_torch:
                    state = _where(playing, moment.state, state)
                last = _where(playing, Seen(moment.observation, acted.action, reward, over), last)
            else:
                carry, state = acted.carry, moment.state
                last = Seen(moment.observation, acted.action, reward, over)
            rows.append((observation, acted.action, reward, playing, done, acted.noted))
            observation = moment.observation
            if worlds.ends_early:
                playing = playing & ~done
    stacked = pytree.tree_map(lambda *v: torch.stack(v, 1), *rows)
    return Rollouts(*stacked, horizon=horizon), carry, last


def _where(playing: Tensor, new: Any, old: Any) -> Any:
    """Leaf by leaf, the new value where it is still played, else the old."""
    return pytree.tree_map(
        lambda a, b: torch.where(playing.reshape(playing.shape + (1,) * (a.ndim - 1)), a, b), new, old
    )


def memoryless(apply: Apply, actions: Actions, greedy: bool = False) -> Act:
    """A policy that looks at the observation alone.

    Args:
        apply: observations (worlds, observation_size) to outputs (worlds, outputs).
        actions: what the outputs mean.
        greedy: take the likeliest action; False: draw it.

    Returns:
        What `roll_out` takes, with ``carry=()``; it notes "log_prob" and "outputs".
    """

    def act(carry: Any, seen: Seen, keys: Tensor) -> Acted:
        outputs = apply(seen.observation)
        action = actions.mode(outputs) if greedy else actions.sample(outputs, keys)
        return Acted(carry, action, {"log_prob": actions.log_prob(outputs, action), "outputs": outputs})

    return act


def uniform_policy(actions: Actions) -> Act:
    """Random actions: each as likely as the others, or uniform between ``low`` and ``high``; takes ``carry=()``."""

    def act(carry: Any, seen: Seen, keys: Tensor) -> Acted:
        if isinstance(actions, Continuous):
            drawn = random_keys.uniform(keys, (actions.size,), dtype=seen.observation.dtype)
            action = actions.low + (actions.high - actions.low) * drawn
        else:
            action = random_keys.integers(keys, actions.size)
        return Acted(carry, action, {})

    return act


def expect_sound(rollouts: Rollouts, what: str = "the world") -> None:
    """Raise InputError for observations or rewards that are not finite, naming the first."""
    for name, values in (("reward", rollouts.rewards), ("observation", rollouts.observations)):
        bad = ~torch.isfinite(values.flatten(2) if values.ndim > 2 else values[..., None]).all(-1)
        bad = bad & rollouts.playing
        if bool(bad.any()):
            trial, step = (int(v) for v in bad.nonzero()[0])
            raise InputError(
                f"{what} expected finite rewards and observations, got a {name} of "
                f"{values[trial, step].flatten().tolist()[:4]} at step {step} of trial {trial}; mend its step()"
            )


def discounted(rewards: Float[Tensor, "trials steps"], discount: float) -> Float[Tensor, "trials steps"]:
    """The discounted sum of rewards from each step on."""
    found, total = [], torch.zeros_like(rewards[:, 0])
    for reward in reversed(rewards.unbind(1)):
        total = reward + discount * total
        found.append(total)
    return torch.stack(found[::-1], 1)


def advantages(
    rewards: Float[Tensor, "trials steps"],
    values: Float[Tensor, "trials steps"],
    playing: Bool[Tensor, "trials steps"],
    discount: float,
    trace: float,
) -> Float[Tensor, "trials steps"]:
    """Generalised advantage estimates (Schulman 2015, arXiv:1506.02438): sums of discounted temporal differences.

    After the last step there is nothing more to come, and padding is passed over as if it were not there: give trials for the
    sum to run over the episodes of a trial (RL^2), `Rollouts.by_episode` for each episode by itself.

    Args:
        rewards: 0 in padding.
        values: what was expected from each step on, discounted.
        playing: False for padding, where the estimate is 0.
        discount: of a step.
        trace: lambda; 1: returns minus values, 0: one temporal difference.
    """
    found = []
    running = ahead = torch.zeros_like(rewards[:, 0])
    for step in range(rewards.shape[1] - 1, -1, -1):
        value, counts = values[:, step], playing[:, step]
        difference = rewards[:, step] + discount * ahead - value
        estimate = difference + discount * trace * running
        running, ahead = torch.where(counts, estimate, running), torch.where(counts, value, ahead)
        found.append(torch.where(counts, estimate, 0.0))
    return torch.stack(found[::-1], 1)


def linear_baseline(
    observations: Float[Tensor, "trials steps observation"],
    returns: Float[Tensor, "trials steps"],
    playing: Bool[Tensor, "trials steps"],
    penalty: float = 1e-5,
) -> Float[Tensor, "trials steps"]:
    """Values by least squares on features of observation and time, fitted to the returns of these episodes themselves.

    The features are o, o^2, t, t^2, t^3 and 1, with t in hundreds of steps and o clipped to 10 (Duan et al. 2016,
    "Benchmarking deep reinforcement learning for continuous control", arXiv:1604.06778). One world's episodes; vmap over worlds.

    Args:
        observations: of episodes, one world's.
        returns: discounted sums of rewards from each step on.
        playing: False for padding, which is not fitted.
        penalty: of the squared weights.
    """
    wide = observations.to(torch.float64).clamp(-10, 10)
    time = torch.arange(wide.shape[1], dtype=torch.float64, device=wide.device) / 100
    powers = torch.stack([time, time**2, time**3, torch.ones_like(time)], -1).expand(*wide.shape[:2], 4)
    features = torch.cat([wide, wide.square(), powers], -1)
    counted = features * playing[..., None].to(torch.float64)
    flat, targets = counted.flatten(0, 1), returns.to(torch.float64).flatten()
    gram = flat.T @ flat + penalty * torch.eye(flat.shape[-1], dtype=torch.float64, device=flat.device)
    weights = torch.linalg.solve(gram, flat.T @ targets[:, None])
    return (features @ weights).squeeze(-1).to(returns.dtype)


def standardised(values: Tensor, playing: Tensor) -> Tensor:
    """Values of mean 0 and variance 1 where they count, 0 elsewhere; all axes together."""
    counts = playing.to(values.dtype)
    number = counts.sum().clamp(min=1)
    mean = (values * counts).sum() / number
    deviation = ((values - mean).square() * counts).sum().div(number).sqrt()
    return (values - mean) / (deviation + 1e-8) * counts


def horizon_of(discount: float, steps: int) -> float:
    """The discounted sum of a reward of 1 at each of so many steps: the size of values."""
    return float(steps) if math.isclose(discount, 1.0) else (1 - discount**steps) / (1 - discount)
