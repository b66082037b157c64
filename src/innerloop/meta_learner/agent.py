"""A policy adapted to one world: what `MetaLearner.adapt` returns for worlds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop import keys as random_keys
from innerloop.core import Objective, Task
from innerloop.data.arrays import as_tensor
from innerloop.engine import take
from innerloop.errors import ConfigError, InputError, ShapeError
from innerloop.meta_learner.boundary import check_finite, expect_adapted, expect_steps
from innerloop.meta_learner.files import TASK, VERSION
from innerloop.meta_learner.fitted import Owner, fast_of
from innerloop.meta_learner.fitted_data import FittedData, as_side
from innerloop.meta_learner.fitted_score import adapted_without_labels
from innerloop.meta_learner.query_predictions import measured
from innerloop.meta_learner.worlds import as_world
from innerloop.objectives.policy import Policy
from innerloop.objectives.rollouts import Rollouts, Seen, memoryless
from innerloop.objectives.world import Continuous, Discrete, World
from innerloop.storage import save_tensors

_SIDE_BY_SIDE = 16  # environments of a function that makes them, at most
_ACTED = 18  # keeps the keys of actions apart from others


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Agent(FittedData):
    """An adapted policy. ``act`` says what it does, step by step; ``score`` is its return in a world; ``learn`` plays on.

    What ``act`` has been told since ``reset`` is all of it that changes.
    """

    now: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        objective: Any = self.objective
        return f"Agent({self.owner.name}, {objective.observation_size} numbers seen, {objective.actions})"

    # ---- acting ----------------------------------------------------------------------------------------------------
    def reset(self, seed: int = 0) -> None:
        """Forget what ``act`` was told, and draw actions by this seed from now on."""
        self.now.clear()
        self.now["seed"] = seed

    def act(self, observation: Any, reward: float = 0.0, done: bool = False, greedy: bool = False) -> Any:
        """The action for what is seen; a whole number, or an array (a tensor for a tensor) of an action's numbers.

        Args:
            observation: (observation_size,).
            reward: what the last action brought: a policy with a memory learns from it. 0 before the first.
            done: whether that ended an episode, and this observation begins another.
            greedy: the likeliest action; False: drawn, as in training.

        Raises:
            ShapeError: an observation of another size.
            InputError: an observation or a reward that is not finite.
        """
        objective: Any = self.objective
        seen = as_tensor(observation, "the observation").to(self.owner.device, self.owner.dtype)
        if tuple(seen.shape) != (objective.observation_size,):
            raise ShapeError(
                f"the observation expected {objective.observation_size} numbers, as in training, got shape {tuple(seen.shape)}; "
                "take a world of the same family"
            )
        check_finite(seen, "the observation")
        paid = seen.new_full((1,), float(reward))
        if not bool(torch.isfinite(paid).all()):
            raise InputError(f"the reward expected a finite number, got {reward!r}; mend the world's step()")
        model = self.learner.as_model(self.meta, self.fast)
        own = getattr(model, "player", None)
        if "act" not in self.now:
            act, carry, last = (memoryless(model, objective.actions), (), None) if own is None else own(objective, 1)
            action = objective.actions.none(seen[None]) if last is None else last.action
            self.now.update(act=act, carry=carry, action=action, last=last, acted=0)
        now = self.now
        begins = now["acted"] == 0
        last = now["last"]
        if begins and last is not None:  # what the episodes of adapting ended with
            paid, over = last.reward, last.done
        else:
            over = torch.full((1,), bool(done), device=seen.device)
        base = random_keys.task_keys(now.get("seed", 0), "acting", 0, now["acted"], 1).to(seen.device)
        with torch.no_grad():
            given = Seen(seen[None], now["action"], paid, over)
            acted = now["act"](now["carry"], given, random_keys.fold(base, _ACTED))
            action = acted.action
            if greedy:
                if own is not None:
                    raise ConfigError("greedy expected a policy without a memory, got one with; leave it out")
                action = objective.actions.mode(model(seen[None]))
        now.update(carry=acted.carry, action=action, acted=now["acted"] + 1)
        if isinstance(objective.actions, Discrete):
            return int(action[0])
        found = action[0].clamp(objective.actions.low, objective.actions.high)
        return found if isinstance(observation, Tensor) else found.cpu().numpy()

    def predict(self, *inputs: Any) -> Any:
        """The actions for observations (examples, observation_size), each by itself; see ``act`` for one after the other."""
        (given,) = inputs if len(inputs) == 1 else ((),)
        rows = as_tensor(given, "the observations")
        if rows.ndim != 2:
            raise ShapeError(f"predict expected observations (examples, numbers), got shape {tuple(rows.shape)}")
        found = []
        for row in rows:
            each = dataclasses.replace(self, now={})
            found.append(each.act(row))
        values = torch.stack([torch.as_tensor(v) for v in found])
        return values if isinstance(given, Tensor) else np.asarray(values)

    # ---- in worlds -------------------------------------------------------------------------------------------------
    def _expected(self, data: Any) -> World:
        """A world that it can act in; gymnasium's too."""
        objective: Any = self.objective
        world = _world(data, horizon=objective.horizon)
        objective.expect_world(world)
        return world

    def policy_expects(self, data: Any) -> None:
        """Raise an error for a world that it cannot act in."""
        self._expected(data)

    def play(self, data: Any, episodes: int = 1, seed: int = 0) -> Rollouts:
        """Episodes in a world, one a trial, each from what it knows now; see `Rollouts`.

        Args:
            data: a world without a leading axis, or a gymnasium environment.
            episodes: side by side.
            seed: of what happens in them.
        """
        objective: Any = self.objective
        world = pytree.tree_map(lambda v: v.to(self.owner.device), self._expected(data))
        key = random_keys.task_keys(seed, "play", 0, 0, 1)[0].to(self.owner.device)
        with torch.no_grad():
            return objective.play(self.learner.as_model(self.meta, self.fast), world, key, episodes, 1)

    def score(self, data: Any, trials: int | None = None, seed: int = 0) -> float:  # type: ignore[override]
        """The mean return in a world, of so many trials; None: as many as its family measures.

        Args:
            data: a world without a leading axis.
            trials: side by side.
            seed: of what happens in them.
        """
        objective: Any = self.objective
        if trials is not None:
            objective = dataclasses.replace(objective, trials=trials)
        side = pytree.tree_map(lambda v: v[None], self._expected(data))
        noise = random_keys.task_keys(seed, "score", 0, 0, 1)
        task = take(self.owner.fitting(Task(side, side, objective, noise=noise)), 0)
        with torch.no_grad():
            found = measured(self.learner, self.meta, self.fast, task)
        value = float(found["return"])
        if not np.isfinite(value):
            raise InputError(f"the world expected finite rewards, got a return of {value}; mend its step()")
        return value

    def learn(self, data: Any, y: None = None, steps: int | None = None) -> Agent:  # type: ignore[override]
        """This agent after more of a world: so many more inner steps in it, from where it is.

        Args:
            data: the world, without a leading axis.
            y: None.
            steps: inner steps; None: one.
        """
        if y is not None:
            raise InputError("learn expected a world alone, got y too; leave it out")
        expect_steps(steps)
        number, before = 1 if steps is None else steps, self.steps or 0
        side = pytree.tree_map(lambda v: v[None], self._expected(data))
        noise = random_keys.task_keys(before, "learn", 0, 0, 1)
        task = take(self.owner.fitting(Task(side, side, self.objective, noise=noise)), 0)
        with torch.no_grad():
            fast = self.learner.adapt(self.meta, task, number, fast=self.fast, first=before)
        expect_adapted(fast, "the new episodes gave values that are not finite; take a lower inner rate")
        return dataclasses.replace(self, fast=fast, steps=before + number, now={})

    # ---- files -----------------------------------------------------------------------------------------------------
    def save(self, path: str | Path, support: bool = False) -> Path:  # type: ignore[override]
        """Write one self-contained file (safetensors and JSON, no pickle), without what ``act`` was told; `il.load` opens it.

        A world of ours goes with it, as ``agent.support``; a gymnasium environment does not.

        Raises:
            ConfigError: ``support``: a world is no data that a file could hold.
        """
        if support:
            raise ConfigError("save expected support=False for an agent: no file holds its world; leave it out")
        owner, path = self.owner, Path(path)
        tensors = {f"fast/{i:04d}": leaf for i, leaf in enumerate(pytree.tree_leaves(self.fast))}
        for part in ("params", "rule", "buffers"):
            tensors |= {f"meta/{part}/{name}": value for name, value in getattr(self.meta, part).items()}
        module: Any = owner.model  # type: ignore[attr-defined]
        kept = module.state_dict().keys() - self.meta.buffers.keys()
        tensors |= {f"module/{name}": b for name, b in module.named_buffers() if name in kept}
        ours = isinstance(self.support, World) and self.support.in_torch
        if ours:
            tensors |= {f"world/{i:04d}": leaf for i, leaf in enumerate(pytree.tree_leaves(self.support))}
        objective: Any = self.objective
        header = {
            "world": ours,
            "algorithm": owner.method_spec,
            **({"meta_gradient": owner.meta_gradient_spec} if owner.meta_gradient_spec else {}),
            "model": owner.model_record,
            "tasks": owner.problem,
            "objective": objective.name,
            "policy": policy_record(objective),
            "steps": self.steps,
            "dtype": str(owner.dtype),
        }
        save_tensors(path, TASK, VERSION, tensors, header)
        return path


def made_of_data(
    owner: Owner, side: Any, objective: Objective, steps: int | None, shared: Any, episodes: int | None
) -> FittedData:
    """A learner adapted to one task that is not labelled examples: of a policy an agent, after so many steps or episodes."""
    learner = owner.learner
    if episodes is not None:
        of_episodes = getattr(learner, "for_episodes", None)
        if of_episodes is None:
            raise ConfigError(
                f"episodes expected a method that acts in worlds, such as il.rl2, got {owner.name}; leave them out"
            )
        learner, steps = of_episodes(episodes, steps)
    number: int = learner.eval_steps if steps is None else steps
    if not isinstance(objective, Policy):
        return adapted_without_labels(owner, side, objective, number, shared)
    world = _world(side, min(getattr(learner, "episodes", 1), _SIDE_BY_SIDE), objective.horizon)
    objective.expect_world(world)
    batch = pytree.tree_map(lambda v: v[None], world)
    task = Task(batch, batch, objective, noise=random_keys.task_keys(0, "adapt", 0, 0, 1))
    learner, one, meta, fast = fast_of(owner, task, None, number, learner=learner)
    return Agent(
        owner, learner, meta, fast, one.support, None, objective, steps=number, holds_support=True, num_examples=1
    )


def _world(given: Any, num_envs: int = 1, horizon: int | None = None) -> World:
    return as_side(as_world(given, num_envs, horizon), "the world")


def policy_record(objective: Policy) -> dict[str, Any]:
    """The objective as a file holds it: JSON values."""
    found = {f.name: getattr(objective, f.name) for f in dataclasses.fields(objective) if f.name != "actions"}
    kind = "discrete" if isinstance(objective.actions, Discrete) else "continuous"
    return {**found, "actions": {"kind": kind, **dataclasses.asdict(objective.actions)}}


def policy_of(record: Mapping[str, Any]) -> Objective:
    """The objective of such a record."""
    found = dict(record)
    actions = dict(found.pop("actions"))
    kind = {"discrete": Discrete, "continuous": Continuous}[actions.pop("kind")]
    return Policy(kind(**actions), **found)
