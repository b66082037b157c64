"""A robot of MuJoCo that is to run forwards or backwards (Finn et al. 2017, section 5.3); extra ``mujoco``."""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import Any

from innerloop.core import TaskFamily
from innerloop.errors import ConfigError, expect_whole, first_line
from innerloop.tasks.worlds.gymnasium_worlds import Pool, family_of, needed

_CONTROL = 0.05  # the authors' weight of the squared action


def _made(direction: float, steps: int) -> Any:
    gymnasium = needed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a robot's file says of itself
        return gymnasium.make(
            "HalfCheetah-v5", forward_reward_weight=direction, ctrl_cost_weight=_CONTROL, max_episode_steps=steps
        )


def half_cheetah(
    *, steps: int = 200, num_envs: int = 16, episodes: int = 1, trials: int = 20, discount: float = 0.99
) -> TaskFamily:
    """Two worlds: the reward of one is the speed forwards, of the other backwards, less 0.05 of the squared action.

    The robot is gymnasium's ``HalfCheetah-v5``, with 17 numbers of an observation and 6 of an action; the authors' was an older
    version of it. Train, validation and test worlds are the same two directions, as in the paper.

    Args:
        steps: of an episode (the paper's 200).
        num_envs: processes in which robots run side by side.
        episodes: in a trial of a policy with a memory.
        trials: of which the mean is measured in each world.
        discount: of a step.

    Raises:
        ConfigError: gymnasium or MuJoCo is not installed, or a number below 1.

    Reference: Finn, Abbeel and Levine 2017, "Model-agnostic meta-learning", arXiv:1703.03400.
    """
    expect_whole("half_cheetah: steps", steps)
    expect_whole("half_cheetah: num_envs", num_envs)
    try:
        importlib.import_module("mujoco")  # by its name: a checker of types need not have it installed
    except ImportError as error:
        raise ConfigError(
            f'half_cheetah expected MuJoCo, got none ({first_line(error)}); pip install "innerloop[mujoco]"'
        ) from None
    make = functools.partial(_made, steps=steps)
    pool = Pool(make, {"direction": [1.0, -1.0]}, num_envs, steps, "half_cheetah")
    options = {"steps": steps, "num_envs": num_envs, "episodes": episodes, "trials": trials, "discount": discount}
    return family_of(pool, "half_cheetah", options)
