"""What a policy acts in: worlds, what an action may be, and what a policy's outputs then mean.

A world is a frozen record whose ``reset`` and ``step`` are pure functions of (state, action, key) for ONE world; vmap runs
thousands at once. A batch of worlds is the same record with a leading axis on every tensor. Worlds outside of torch, such as
gymnasium's, are records too: they override `World.reset_many` and `World.step_many` and say ``in_torch = False``.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop import keys as random_keys
from innerloop.errors import expect_whole

_LEAST_LOG_STD, _MOST_LOG_STD = math.log(1e-6), 2.0  # of a Gaussian policy


@dataclasses.dataclass(frozen=True)
class Discrete:
    """One of ``size`` actions, 0 to size - 1. A policy's outputs (..., size) are logits."""

    size: int

    def __post_init__(self) -> None:
        expect_whole("actions", self.size)

    @property
    def outputs(self) -> int:
        """Numbers that a policy gives."""
        return self.size

    @property
    def width(self) -> int:
        """Numbers in `encoded`."""
        return self.size

    def sample(self, outputs: Float[Tensor, "*batch outputs"], key: Int64[Tensor, "*batch"]) -> Int64[Tensor, "*batch"]:
        """An action drawn from the distribution, a function of the key (by Gumbel's noise)."""
        drawn = random_keys.uniform(key, (self.size,), dtype=outputs.dtype)
        return (outputs - torch.log(-torch.log(drawn))).argmax(-1)

    def mode(self, outputs: Float[Tensor, "*batch outputs"]) -> Int64[Tensor, "*batch"]:
        """The likeliest action."""
        return outputs.argmax(-1)

    def log_prob(
        self, outputs: Float[Tensor, "*batch outputs"], action: Int64[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """The logarithm of an action's probability, in nats."""
        return outputs.log_softmax(-1).gather(-1, action[..., None]).squeeze(-1)

    def entropy(self, outputs: Float[Tensor, "*batch outputs"]) -> Float[Tensor, "*batch"]:
        """Of the distribution, in nats."""
        logs = outputs.log_softmax(-1)
        return -(logs.exp() * logs).sum(-1)

    def divergence(
        self, old: Float[Tensor, "*batch outputs"], new: Float[Tensor, "*batch outputs"]
    ) -> Float[Tensor, "*batch"]:
        """Kullback and Leibler's KL(old | new), in nats."""
        a, b = old.log_softmax(-1), new.log_softmax(-1)
        return (a.exp() * (a - b)).sum(-1)

    def encoded(self, action: Int64[Tensor, "*batch"], like: Tensor) -> Float[Tensor, "*batch width"]:
        """An action as a network is told of it: one 1 among zeros; of `none` zeros alone."""
        return (action[..., None] == torch.arange(self.size, device=like.device)).to(like.dtype)

    def none(self, like: Float[Tensor, "*batch observation"]) -> Int64[Tensor, "*batch"]:
        """What stands for the action before the first one."""
        return torch.full_like(like[..., 0], -1, dtype=torch.int64)


@dataclasses.dataclass(frozen=True)
class Continuous:
    """``size`` real numbers. A policy's outputs (..., 2 size) are means and logarithms of standard deviations of a Gaussian.

    ``low`` and ``high`` are what a world clips an action to; the distribution is that of the action before it.
    """

    size: int
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        expect_whole("actions", self.size)

    @property
    def outputs(self) -> int:
        """Numbers that a policy gives."""
        return 2 * self.size

    @property
    def width(self) -> int:
        """Numbers in `encoded`."""
        return self.size

    def _parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means, and logarithms of standard deviations, which stay between 1e-6 and e^2."""
        return outputs[..., : self.size], outputs[..., self.size :].clamp(_LEAST_LOG_STD, _MOST_LOG_STD)

    def sample(
        self, outputs: Float[Tensor, "*batch outputs"], key: Int64[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch size"]:
        """An action drawn from the distribution, a function of the key; not clipped."""
        mean, log_std = self._parts(outputs)
        return mean + log_std.exp() * random_keys.normal(key, (self.size,), dtype=outputs.dtype)

    def mode(self, outputs: Float[Tensor, "*batch outputs"]) -> Float[Tensor, "*batch size"]:
        """The likeliest action: the mean."""
        return self._parts(outputs)[0]

    def log_prob(
        self, outputs: Float[Tensor, "*batch outputs"], action: Float[Tensor, "*batch size"]
    ) -> Float[Tensor, "*batch"]:
        """The logarithm of an action's density, in nats."""
        mean, log_std = self._parts(outputs)
        z = (action - mean) * (-log_std).exp()
        return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, outputs: Float[Tensor, "*batch outputs"]) -> Float[Tensor, "*batch"]:
        """Of the distribution, in nats."""
        return (self._parts(outputs)[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def divergence(
        self, old: Float[Tensor, "*batch outputs"], new: Float[Tensor, "*batch outputs"]
    ) -> Float[Tensor, "*batch"]:
        """Kullback and Leibler's KL(old | new), in nats."""
        (a, s), (b, r) = self._parts(old), self._parts(new)
        return (r - s + 0.5 * ((2 * (s - r)).exp() + ((a - b) * (-r).exp()).square() - 1)).sum(-1)

    def encoded(self, action: Float[Tensor, "*batch size"], like: Tensor) -> Float[Tensor, "*batch width"]:
        """An action as a network is told of it: its numbers within ``low`` and ``high``."""
        return action.to(like.dtype).clamp(self.low, self.high)

    def none(self, like: Float[Tensor, "*batch observation"]) -> Float[Tensor, "*batch size"]:
        """What stands for the action before the first one."""
        return torch.zeros_like(like[..., :1]).expand(*like.shape[:-1], self.size)


Actions = Discrete | Continuous


class Moment(NamedTuple):
    """What a step leads to.

    Attributes:
        state: any pytree of tensors.
        observation: (observation_size,).
        reward: (), for this step.
        done: (), booleans: the episode is over by itself. That a world's ``horizon`` is reached is not said here.
    """

    state: Any
    observation: Tensor
    reward: Tensor
    done: Tensor


class World(ABC):
    """One world, a record (`records.record`) of the tensors that tell it from others; with a leading axis, many.

    Attributes:
        actions: what an action is; the same for all worlds of a batch, as are the following.
        observation_size: numbers in an observation.
        horizon: steps after which an episode is over in any case.
        ends_early: an episode may end before; False where it never does, which saves the masks.
        in_torch: `reset` and `step` are functions in torch, so that they may run under vmap; else only `reset_many` and
            `step_many` are called, outside of any vmap.
        reward_size: about how large a reward is.
        at_once: how many can be played side by side; None: any number.
    """

    actions: Actions
    observation_size: int
    horizon: int
    ends_early: bool = True
    in_torch: bool = True
    reward_size: float = 1.0
    at_once: int | None = None

    @abstractmethod
    def reset(self, key: Int64[Tensor, ""]) -> tuple[Any, Float[Tensor, " observation"]]:
        """(state, observation) at the beginning of an episode."""

    @abstractmethod
    def step(self, state: Any, action: Tensor, key: Int64[Tensor, ""]) -> Moment:
        """What an action leads to."""

    def reset_many(self, keys: Int64[Tensor, " worlds"]) -> tuple[Any, Float[Tensor, "worlds observation"]]:
        """`reset` for a batch of worlds."""
        return torch.vmap(lambda world, key: world.reset(key))(self, keys)

    def step_many(
        self, states: Any, actions: Tensor, keys: Int64[Tensor, " worlds"], playing: Bool[Tensor, " worlds"]
    ) -> Moment:
        """`step` for a batch of worlds; what is returned where an episode is over (not ``playing``) does not count."""
        del playing
        return torch.vmap(lambda world, *given: world.step(*given))(self, states, actions, keys)


def repeated(worlds: Any, times: int) -> Any:
    """A batch in which each of these worlds is there so often, one beside the other: (worlds, ...) to (worlds * times, ...)."""
    return pytree.tree_map(lambda v: v.repeat_interleave(times, 0), worlds)


def one_of(world: Any, times: int) -> Any:
    """A batch of one and the same world."""
    return pytree.tree_map(lambda v: v.expand(times, *v.shape), world)
