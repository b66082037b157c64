"""What the families of worlds share: tasks whose two sides are one and the same world."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop import keys as random_keys
from innerloop.core import Task, TaskDistribution, TaskFamily
from innerloop.errors import ConfigError, expect_whole
from innerloop.objectives.policy import Policy, trial_keys
from innerloop.objectives.rollouts import Act, roll_out, uniform_policy
from innerloop.objectives.world import Continuous, World, repeated

_NOISE, _WORLD = 81, 82
_HIDDEN = (64, 64)  # of the default model

# Of a batch of worlds: ((policy, its memory) or values (tasks,)); see `WorldTasks.known`.
Known = Mapping[str, Callable[[Any], tuple[Act, Any] | Tensor]]


class WorldTasks(TaskDistribution):
    """Worlds drawn by key. The splits differ in their keys only.

    Args:
        name: of the family.
        split: train, valid or test.
        draw: the worlds of some keys, a batch.
        objective: what is measured in them.
        known: policies and values to stand beside a learner's, by name: a function of a batch of worlds gives either a policy
            and its memory for `roll_out`, or the value of the objective's first metric in each, (worlds,).
    """

    at_once = 600

    scaled = False  # the default model scales observations
    name: str
    split: str
    draw: Callable[[Int64[Tensor, " tasks"]], World]
    objective: Policy

    def __init__(
        self,
        name: str,
        split: str,
        draw: Callable[[Int64[Tensor, " tasks"]], World],
        objective: Policy,
        known: Known | None = None,
    ) -> None:
        self.name, self.split, self.draw, self.objective = name, split, draw, objective
        self.known: Known = dict(known or {})
        self.input_shape: tuple[int, ...] = (objective.observation_size,)
        self.output_size: int = objective.actions.outputs

    @property
    def model_options(self) -> dict[str, Any]:
        """What models by name are told of these worlds, where they ask."""
        return {"actions": self.objective.actions.width}

    def worlds(self, keys: Int64[Tensor, " tasks"]) -> World:
        """The worlds of these keys, a batch."""
        return self.draw(random_keys.fold(keys, _WORLD))

    def world(self, seed: int = 0, number: int = 0) -> World:
        """One world, without a leading axis: number so many of those that an evaluation with this seed meets."""
        return pytree.tree_map(lambda v: v[0], self.at(seed, 0, 1, number).query)

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """Tasks whose support and query side are the same world: what happens in it is drawn by other keys."""
        worlds = self.worlds(keys)
        return Task(worlds, worlds, self.objective, noise=random_keys.fold(keys, _NOISE))

    @property
    def beside(self) -> tuple[str, ...]:
        """Names of the policies and values in ``known``."""
        return tuple(self.known)

    def measure_beside(self, name: str, tasks: Task, keys: Int64[Tensor, " tasks"]) -> Float[Tensor, " tasks"]:
        """The return of what is ``known`` by this name, in each world.

        Args:
            name: of ``known``.
            tasks: of this family.
            keys: from which learners draw what they are measured by: so all meet the same luck.
        """
        trials = self.objective.trials
        worlds = repeated(tasks.query, trials)
        found = self.known[name](worlds)
        if not isinstance(found, Tensor):
            act, carry = found
            found = roll_out(worlds, act, carry, trial_keys(keys, trials).flatten(), self.objective.episodes)[0]
            found = found.rewards.sum(-1)
        return found.unflatten(0, (-1, trials)).mean(1)

    def default_model(self) -> nn.Module:
        """A policy without a memory: two hidden layers of 64, tanh; for continuous actions with learned deviations.

        For worlds whose observations are of any size it scales them by what it has seen.
        """
        from innerloop import models

        if self.scaled:
            gaussian = isinstance(self.objective.actions, Continuous)
            return models.scaled_policy(self.objective.observation_size, self.output_size, gaussian=gaussian)
        make = models.gaussian_policy if isinstance(self.objective.actions, Continuous) else models.mlp
        return make(self.objective.observation_size, self.output_size, hidden=_HIDDEN, activation="tanh")


def family(
    name: str,
    draw: Callable[[Int64[Tensor, " tasks"]], World],
    options: Mapping[str, Any],
    *,
    episodes: int = 1,
    trials: int = 1,
    discount: float = 0.99,
    known: Known | None = None,
) -> TaskFamily:
    """The three splits of a family of worlds.

    Args:
        name: of the family.
        draw: the worlds of some keys.
        options: the factory's arguments.
        episodes, trials, discount: of the objective.
        known: see `WorldTasks`.
    """
    expect_whole("episodes", episodes)
    expect_whole("trials", trials)
    if isinstance(discount, bool) or not isinstance(discount, int | float) or not 0 <= discount <= 1:
        raise ConfigError(f"{name}: discount expected a number from 0 to 1, got {discount!r}")
    one = draw(torch.zeros(1, dtype=torch.int64))
    objective = Policy(
        one.actions, one.observation_size, one.horizon, episodes, trials, float(discount), one.reward_size
    )
    return TaskFamily.by_split(name, lambda split: WorldTasks(name, split, draw, objective, known), options)


def random_player(worlds: Any) -> tuple[Act, Any]:
    """Random actions, in any worlds."""
    return uniform_policy(worlds.actions), ()


def expect_range(name: str, what: str, given: Any, low: float) -> tuple[float, float]:
    """(low, high) as two floats; ConfigError where they are none, or below ``low``."""
    try:
        first, last = (float(v) for v in given)
    except (TypeError, ValueError):
        first = last = math.nan
    if not (math.isfinite(first) and math.isfinite(last) and low <= first <= last):
        raise ConfigError(
            f"{name}: {what} expected (low, high), finite numbers of at least {low:g}, got {given!r}; both alike for one value"
        )
    return first, last


def between(keys: Tensor, limits: tuple[float, float], salt: int) -> Tensor:
    """Uniform numbers (tasks,)."""
    return limits[0] + (limits[1] - limits[0]) * random_keys.uniform(keys, salt=salt)
