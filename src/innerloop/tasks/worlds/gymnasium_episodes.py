"""One gymnasium environment as it runs in a process of its own, made again whenever its parameters change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import utils

# An environment that fails says so here; every other key of `info` is left out.
TROUBLE = "innerloop_trouble"


class Episodes(gymnasium.Env):
    """Episodes of one environment with the parameters that `reset` is given; its observations as one row of numbers.

    Whatever goes wrong in somebody's environment comes back in ``info``, so that the process lives on. Once an episode is over,
    further steps change nothing.

    Args:
        make: gives an environment for some parameters.
        index: which of the parameters in ``options`` are its own.
        size: numbers in an observation.
        action_space: of the environment.
    """

    make: Callable[..., gymnasium.Env]
    index: int
    size: int
    last: np.ndarray
    over: bool
    step_number: int

    def __init__(self, make: Callable[..., gymnasium.Env], index: int, size: int, action_space: Any) -> None:
        self.make, self.index, self.size = make, index, size
        self.observation_space: gymnasium.spaces.Box = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = action_space
        self.env: gymnasium.Env | None = None
        self.parameters: Mapping[str, Any] | None = None
        self.last, self.over, self.step_number = np.zeros(size, np.float32), True, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        given = [{}] if options is None else options["parameters"]
        mine = given[min(self.index, len(given) - 1)]
        own_seed = seed if options is None else options["seeds"][min(self.index, len(given) - 1)]
        self.over, self.step_number = False, 0
        try:
            if self.env is None or mine != self.parameters:
                self.close()
                self.env, self.parameters = self.make(**mine), mine
            self._see(self.env.reset(seed=own_seed)[0])
        except Exception as error:  # somebody's environment may fail in any way
            return self._failed(f"reset with {mine}", error)
        return self.last, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.over or self.env is None:
            return self.last, 0.0, True, False, {}
        try:
            seen, reward, ended, truncated, _ = self.env.step(action)
            self._see(seen)
            reward = float(reward)
            self.over = bool(ended or truncated)
            if not np.isfinite(reward) or not np.isfinite(self.last).all():
                what = "reward" if not np.isfinite(reward) else "observation"
                raise ValueError(f"a {what} that is not finite, {reward if what == 'reward' else self.last[:4]}")
        except Exception as error:
            seen, info = self._failed(f"step {self.step_number}", error)
            return seen, 0.0, True, False, info
        self.step_number += 1
        return self.last, reward, self.over, False, {}

    def _see(self, seen: Any) -> None:
        assert self.env is not None
        row = np.asarray(utils.flatten(self.env.observation_space, seen), np.float32).reshape(-1)
        if row.size != self.size:
            raise ValueError(f"an observation of {row.size} numbers, expected {self.size}")
        self.last = row

    def _failed(self, where: str, error: Exception) -> tuple[Any, dict[str, Any]]:
        self.over = True
        said = " ".join(str(error).split())[:200]
        return self.last, {TROUBLE: f"{where}: {type(error).__name__}: {said}"}

    def close(self) -> None:
        if self.env is not None:
            self.env.close()
            self.env = None
