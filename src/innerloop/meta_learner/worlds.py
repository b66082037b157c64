"""What an agent may be put into: a world of ours, or anything of gymnasium's."""

from __future__ import annotations

from typing import Any

from innerloop.errors import InputError
from innerloop.objectives.policy import Policy
from innerloop.objectives.world import World

_TRIALS = 10  # episodes that a mean return is of


def is_environment(given: Any) -> bool:
    """Whether something is a world or can be made one: what has reset and step, or a function."""
    return (
        isinstance(given, World) or callable(given) or all(callable(getattr(given, n, None)) for n in ("reset", "step"))
    )


def as_world(given: Any, num_envs: int = 1, horizon: int | None = None) -> World:
    """One world, without a leading axis.

    Args:
        given: a world; a gymnasium environment, which is played by itself; or a function that makes one.
        num_envs: of a function: how many run side by side, in processes.
        horizon: steps of an episode, where it has no limit of its own.
    """
    if isinstance(given, World):
        return given
    if not is_environment(given):
        raise InputError(
            f"expected a world, such as one of il.worlds.bandits(), or a gymnasium environment, got {type(given).__name__}"
        )
    from innerloop.tasks.worlds.gymnasium_worlds import world_of

    return world_of(given, num_envs, horizon)


def objective_in(world: World) -> Policy:
    """The objective of a world that no family is known of."""
    return Policy(world.actions, world.observation_size, world.horizon, trials=_TRIALS, reward_size=world.reward_size)
