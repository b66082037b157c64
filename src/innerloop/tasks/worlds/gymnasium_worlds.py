"""Worlds of gymnasium: tasks are the parameters that an environment is made with."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import TaskFamily
from innerloop.errors import ConfigError, InputError, expect_whole, first_line
from innerloop.objectives.world import Actions, Continuous, Discrete, Moment, World
from innerloop.records import record, static
from innerloop.tasks.worlds.family import family, random_player

_TIMEOUT = 60.0  # seconds that one step of an environment may take
Range = tuple[float, float]


class Pool:
    """The processes in which environments run; one environment by itself runs in this process.

    Args:
        make: ``make(**parameters)`` gives an environment.
        parameters: of each name a (low, high) tuple, or a list of values.
        num_envs: how many run side by side.
        horizon: steps of an episode at most; None: what the environment says.
        name: what messages call it.
        timeout: seconds that a step may take.
    """

    make: Callable[..., Any]
    names: tuple[str, ...]
    num_envs: int
    name: str
    timeout: float

    def __init__(
        self,
        make: Callable[..., Any],
        parameters: Mapping[str, Sequence[Any]],
        num_envs: int,
        horizon: int | None,
        name: str,
        timeout: float = _TIMEOUT,
    ) -> None:
        gymnasium = needed()
        self.make, self.names, self.num_envs, self.name, self.timeout = make, tuple(parameters), num_envs, name, timeout
        self.parameters: dict[str, Range | list[Any]] = {key: checked(key, given) for key, given in parameters.items()}
        self._envs: Any = None
        try:
            one = make(**self.decoded(torch.full((max(len(self.names), 1),), 0.5)))
        except Exception as error:
            raise InputError(f"{name} expected to make an environment, got {first_line(error, kind=True)}") from error
        if not isinstance(one, gymnasium.Env):
            raise InputError(f"{name} expected to give a gymnasium environment, got {type(one).__name__}")
        try:
            self.actions: Actions = actions_of(one.action_space, name)
            flat = gymnasium.spaces.utils.flatdim(one.observation_space)
            self.observation_size: int = int(flat)
            limit = limit_of(one)
            self.action_space: Any = one.action_space
        finally:
            one.close()
        self.horizon: int | None = limit if horizon is None else horizon
        if self.horizon is None:
            raise ConfigError(
                f"{name} expected a horizon, the steps after which an episode is over, got none, and the environment has no "
                "max_episode_steps: an episode may never end; give horizon=200, say"
            )
        expect_whole(f"{name}: horizon", self.horizon)

    def __deepcopy__(self, memo: Any) -> Pool:
        return self  # processes cannot be copied

    def drawn(self, keys: Int64[Tensor, " tasks"]) -> Tensor:
        """Parameters of worlds, (tasks, parameters): a number within its range, or which of the values."""
        columns = []
        for i, limits in enumerate(self.parameters.values()):
            share = random_keys.uniform(keys, salt=i + 1)
            if isinstance(limits, tuple):
                columns.append(limits[0] + (limits[1] - limits[0]) * share)
            else:
                columns.append((share * len(limits)).floor())
        return torch.stack(columns, -1) if columns else torch.zeros(len(keys), 1)

    def decoded(self, row: Tensor) -> dict[str, Any]:
        """The arguments that a row of `drawn` stands for."""
        values = row.tolist()
        return {
            name: float(value) if isinstance(limits, tuple) else limits[min(int(value), len(limits) - 1)]
            for (name, limits), value in zip(self.parameters.items(), values, strict=False)
        }

    # ---- playing ---------------------------------------------------------------------------------------------------
    def reset(self, rows: Tensor, seeds: list[int]) -> np.ndarray:
        """Observations at the beginning of an episode in each of some worlds, at most ``num_envs``."""
        self._begin()
        options = {"parameters": [self.decoded(row) for row in rows], "seeds": seeds}
        self._playing = len(seeds)
        seen, info = self._called("reset", options=options)
        self._expect_well(info)
        return seen[: len(seeds)]

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observations, rewards and whether the episode is over, after an action in each."""
        missing = self.num_envs - len(actions)
        whole = np.concatenate([actions, np.repeat(actions[:1], missing, 0)]) if missing else actions
        seen, reward, ended, truncated, info = self._called("step", whole)
        self._expect_well(info)
        number = len(actions)
        return seen[:number], reward[:number], (ended | truncated)[:number]

    def _begin(self) -> None:
        if self._envs is not None:
            return
        from innerloop.tasks.worlds.gymnasium_episodes import Episodes

        gymnasium = needed()
        given = (self.observation_size, self.action_space)
        if self.num_envs == 1:
            self._envs = Episodes(self.make, 0, *given)
            return
        made = [lambda i=i: Episodes(self.make, i, *given) for i in range(self.num_envs)]
        off = gymnasium.vector.AutoresetMode.DISABLED
        try:
            self._envs = gymnasium.vector.AsyncVectorEnv(made, autoreset_mode=off)
        except Exception as error:
            raise InputError(f"{self.name} expected to run in processes, got {first_line(error, kind=True)}") from error

    def _called(self, what: str, *given: Any, **named: Any) -> Any:
        if self.num_envs == 1:
            if what == "reset":
                seen, info = self._envs.reset(**named)
                return seen[None].copy(), info
            action = given[0][0]
            seen, reward, ended, truncated, info = self._envs.step(action)
            return seen[None].copy(), np.array([reward]), np.array([ended]), np.array([truncated]), info
        import multiprocessing

        getattr(self._envs, f"{what}_async")(*given, **named)
        try:
            return getattr(self._envs, f"{what}_wait")(timeout=self.timeout)
        except multiprocessing.TimeoutError:
            self.close()
            raise InputError(
                f"{self.name} expected an environment that answers within {self.timeout:g} seconds, got none from its {what}()"
            ) from None

    def _expect_well(self, info: Mapping[str, Any]) -> None:
        from innerloop.tasks.worlds.gymnasium_episodes import TROUBLE

        if TROUBLE not in info:
            return
        said = info[TROUBLE]
        several = not isinstance(said, str)
        told = [text for text in list(said)[: self._playing] if text] if several else [said]
        if told:
            raise InputError(
                f"{self.name}: an environment failed in {told[0]}; mend it and go on from the last checkpoint"
            )

    def close(self) -> None:
        """End the processes; they begin again when needed."""
        if self._envs is not None:
            envs, self._envs = self._envs, None
            envs.close(**({} if self.num_envs == 1 else {"terminate": True}))


@record
class GymnasiumWorld(World):
    """An environment with some parameters.

    Attributes:
        parameters: (parameters,), see `Pool.drawn`.
        pool: where it runs.
    """

    parameters: Tensor
    pool: Any = static(None)

    in_torch = False

    @property
    def actions(self) -> Actions:  # type: ignore[override]
        return self.pool.actions

    @property
    def observation_size(self) -> int:  # type: ignore[override]
        return self.pool.observation_size

    @property
    def horizon(self) -> int:  # type: ignore[override]
        return self.pool.horizon

    @property
    def at_once(self) -> int:  # type: ignore[override]
        return self.pool.num_envs

    def reset(self, key: Tensor) -> Any:
        raise ConfigError("a world of gymnasium expected reset_many, got reset: it is no function in torch")

    def step(self, state: Any, action: Tensor, key: Tensor) -> Moment:
        raise ConfigError("a world of gymnasium expected step_many, got step: it is no function in torch")

    def reset_many(self, keys: Int64[Tensor, " worlds"]) -> tuple[Any, Tensor]:
        seeds = [int(key) & 0x7FFFFFFF for key in keys.tolist()]
        seen = self.pool.reset(self.parameters.cpu(), seeds)
        return (), torch.as_tensor(seen).to(self.parameters)

    def step_many(self, states: Any, actions: Tensor, keys: Tensor, playing: Bool[Tensor, " worlds"]) -> Moment:
        del keys, playing  # each environment knows whether its episode is over
        acts = actions.detach().cpu().numpy()
        space = self.pool.action_space
        if isinstance(self.pool.actions, Continuous):
            acts = np.clip(acts.reshape(len(acts), *space.shape), space.low, space.high).astype(space.dtype)
        else:
            acts = acts + int(getattr(space, "start", 0))
        seen, rewards, done = self.pool.step(acts)
        like = self.parameters
        return Moment(
            states,
            torch.as_tensor(seen).to(like),
            torch.as_tensor(rewards).to(like),
            torch.as_tensor(done).to(like.device),
        )


def limit_of(env: Any) -> int | None:
    """Steps after which an environment cuts an episode off: as it is registered, or by a wrapper; None: no limit is known."""
    registered = None if env.spec is None else env.spec.max_episode_steps
    while registered is None and env is not None:
        registered, env = getattr(env, "_max_episode_steps", None), getattr(env, "env", None)
    return registered


def actions_of(space: Any, name: str) -> Actions:
    """What an action is in a gymnasium space; ConfigError for other spaces than Discrete and Box."""
    gymnasium = needed()
    if isinstance(space, gymnasium.spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, gymnasium.spaces.Box):
        # Bounds are float32 there: 0.1 would come back as another number.
        low, high = (float(f"{float(v):.7g}") for v in (np.min(space.low), np.max(space.high)))
        return Continuous(int(np.prod(space.shape)), low, high)
    raise ConfigError(f"{name} expected actions of a Discrete or Box space, got {type(space).__name__}")


def needed() -> Any:
    """gymnasium; ConfigError where it is not installed."""
    try:
        found = importlib.import_module("gymnasium")
        importlib.import_module("gymnasium.vector")
    except ImportError:
        raise ConfigError(
            'gymnasium worlds expected gymnasium, got none installed; pip install "innerloop[rl]"'
        ) from None
    return found


def checked(name: str, given: Any) -> Range | list[Any]:
    """A parameter's (low, high), or the list of its values."""
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(v, int | float) for v in given):
        low, high = (float(v) for v in given)
        if math.isfinite(low) and math.isfinite(high) and low <= high:
            return low, high
    if isinstance(given, list) and given:
        return given
    raise ConfigError(
        f"parameters: {name} expected (low, high), a tuple of two numbers, or a list of values to choose from, got {given!r}"
    )


def makes(make_env: Any) -> tuple[Callable[..., Any], str]:
    """(what makes an environment, what to call it), of a function or of the name that gymnasium has registered."""
    if isinstance(make_env, str):
        gymnasium = needed()
        return lambda **given: gymnasium.make(make_env, **given), make_env
    if not callable(make_env):
        raise InputError(
            "make_env expected a function that gives a gymnasium environment, or a registered name, got "
            f"{type(make_env).__name__}"
        )
    return make_env, getattr(make_env, "__qualname__", type(make_env).__name__)


def from_gymnasium(
    make_env: Callable[..., Any] | str,
    *,
    parameters: Mapping[str, Sequence[Any]] | None = None,
    num_envs: int = 16,
    horizon: int | None = None,
    episodes: int = 1,
    trials: int = 10,
    discount: float = 0.99,
    timeout: float = _TIMEOUT,
) -> TaskFamily:
    """Tasks are parameters of a gymnasium environment: a mass, a goal, a direction.

    Environments run in processes of their own, by gymnasium's vector environments; one after the other where ``num_envs`` is 1.
    The key of an episode seeds its reset, so the same keys give the same episodes however many run side by side.

    Args:
        make_env: ``make_env(**parameters)`` gives an environment; or the name of a registered one.
        parameters: of each name a (low, high) tuple, uniform between these; or a list, one of its values. None: all worlds are
            alike.
        num_envs: processes; more episodes than that are played in turns.
        horizon: steps of an episode at most; None: the environment's own limit.
        episodes: in a trial of a policy with a memory.
        trials: of which the mean is measured in each world.
        discount: of a step.
        timeout: seconds that a step may take.

    Raises:
        ConfigError: gymnasium is not installed, parameters or spaces of another kind, or no limit of an episode's steps.
        InputError: an environment that cannot be made. In training: one that fails, or gives values that are not finite.
    """
    make, name = makes(make_env)
    expect_whole("num_envs", num_envs)
    pool = Pool(make, parameters or {}, num_envs, horizon, name, timeout)
    options = {
        "make_env": name,
        "parameters": {key: list(limits) for key, limits in pool.parameters.items()},
        "num_envs": num_envs,
        "horizon": pool.horizon,
        "episodes": episodes,
        "trials": trials,
        "discount": discount,
    }
    return family_of(pool, "from_gymnasium", options)


def family_of(pool: Pool, name: str, options: Mapping[str, Any]) -> TaskFamily:
    """Worlds of a pool as a problem; ``options`` has "episodes", "trials" and "discount" too."""

    def draw(keys: Int64[Tensor, " tasks"]) -> GymnasiumWorld:
        return GymnasiumWorld(pool.drawn(keys), pool)

    shared = {key: options[key] for key in ("episodes", "trials", "discount")}
    known = {"random": random_player} if math.isfinite(getattr(pool.actions, "high", 0.0)) else {}
    made = family(name, draw, options, **shared, known=known)
    for split in (made.train, made.valid, made.test):
        split.scaled = True  # type: ignore[attr-defined]
    return made


def world_of(env: Any, num_envs: int = 1, horizon: int | None = None) -> GymnasiumWorld:
    """One world, without a leading axis: a gymnasium environment, or a function that makes one.

    An environment that is there already is played by itself and stays open; of a function ``num_envs`` run in processes.
    """
    gymnasium = needed()
    if isinstance(env, gymnasium.Env):
        name = type(env.unwrapped).__name__
        return GymnasiumWorld(torch.zeros(1), Pool(lambda: _open(env), {}, 1, horizon, name))
    make, name = makes(env)
    return GymnasiumWorld(torch.zeros(1), Pool(make, {}, num_envs, horizon, name))


def _open(env: Any) -> Any:
    """An environment that stays open when its wrapper is closed."""
    gymnasium = needed()

    class Open(gymnasium.Wrapper):
        def close(self) -> None:
            pass

    return Open(env)
