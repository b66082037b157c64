"""RL^2 (Duan et al. 2016): a policy whose memory is the learner; it is kept over the episodes of a trial."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import BaseLearner, Meta, MetaGradient, Task
from innerloop.engine import Engine
from innerloop.errors import ConfigError, InnerloopError, ShapeError, expect_whole, first_line
from innerloop.functional import PureModel
from innerloop.meta_gradients.on_rollouts import OnRollouts
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import method
from innerloop.objectives.policy import Policy, clipped
from innerloop.objectives.rollouts import (
    Act,
    Acted,
    Rollouts,
    Seen,
    advantages,
    expect_sound,
    horizon_of,
    roll_out,
    standardised,
)
from innerloop.objectives.world import World, one_of
from innerloop.records import record

_PLAYED, _EPISODE = 91, 92


@record
class Remembered:
    """What has been seen of one world.

    Attributes:
        state: the policy's memory, (hidden,).
        action, reward, done: what was seen last; see `Seen`.
        episodes: how many were played, ().
    """

    state: Tensor
    action: Tensor
    reward: Tensor
    done: Tensor
    episodes: Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryLearner(BaseLearner):
    """A policy that is told its last action and reward and whether an episode ended; adapting is playing on.

    An inner step is an episode. The outer loss is that of PPO (Schulman 2017), on trials that `experience` has played.

    Args:
        model: the pure model: (examples, time, features) and a state to (examples, time, outputs + 1) and the state after it.
        discount: of a step, over the whole trial; None: the tasks' own.
        trace: lambda of the advantage estimates.
        clip: how far the ratio of probabilities may be from 1.
        entropy: weight of the distribution's entropy.
        value: weight of the squared error of values.
        inner_steps, eval_steps: episodes before the trial that is judged.
    """

    model: PureModel
    discount: float | None = None
    trace: float = 0.3
    clip: float = 0.2
    entropy: float = 0.01
    value: float = 0.5
    inner_steps: int = 0
    eval_steps: int = 0

    any_data = True

    # ---- the policy ------------------------------------------------------------------------------------------------
    def _run(self, meta: Meta, x: Tensor, state: Tensor | None = None) -> Any:
        given = (x,) if state is None else (x, state)
        return self.model.apply(meta.params, meta.buffers, *given, training=False)[0]

    def _begin(self, trials: int, like: Tensor) -> Tensor:
        """The memory before anything was seen."""
        module: Any = self.model.module
        return module.begin(trials, like)

    def _inputs(self, objective: Policy, seen: Seen) -> Float[Tensor, "trials features"]:
        parts = [
            seen.observation,
            objective.actions.encoded(seen.action, seen.observation),
            seen.reward[..., None] / objective.reward_size,
            seen.done[..., None].to(seen.observation.dtype),
        ]
        return torch.cat(parts, -1)

    def act(self, meta: Meta, objective: Policy) -> Act:
        """The policy as `roll_out` takes it; it notes its inputs, the log probability and the value that it expects."""

        def act(carry: Tensor, seen: Seen, keys: Tensor) -> Acted:
            inputs = self._inputs(objective, seen)
            outputs, carry = self._run(meta, inputs[:, None], carry)
            outputs, value = outputs[:, 0, :-1], outputs[:, 0, -1]
            action = objective.actions.sample(outputs, keys)
            noted = {"inputs": inputs, "log_prob": objective.actions.log_prob(outputs, action), "value": value}
            return Acted(carry, action, noted)

        return act

    def admit(self, tasks: Task) -> Task:
        """Labelled examples never come here rightly."""
        raise ConfigError(
            f"rl2 expected worlds, such as il.tasks.bandits(), got tasks of labelled examples ({tasks.objective})"
        )

    def for_episodes(self, episodes: int, steps: int | None) -> tuple[BaseLearner, int]:
        """An inner step is an episode."""
        expect_whole("episodes", episodes, 0)
        if steps is not None:
            raise ConfigError("expected episodes or steps, which are the same here, got both; leave one out")
        return self, episodes

    def tried(self, meta: Meta, task: Task) -> bool:
        """Try the policy out on what one world shows at first; see `BaseLearner.tried`."""
        module, objective = self.model.module, task.objective
        if not isinstance(objective, Policy):
            raise ConfigError(f"rl2 expected worlds, such as il.tasks.bandits(), got tasks of {objective}")
        if not callable(getattr(module, "begin", None)):
            raise ConfigError(
                "rl2 expected a policy with a memory, such as il.models.gru_policy(inputs, outputs), got "
                f"{type(module).__name__}"
            )
        if not isinstance(task.query, World):
            return True
        like = next(iter(meta.params.values()))
        observation = like.new_zeros(1, objective.observation_size)
        zero = observation[:, 0]
        inputs = self._inputs(objective, Seen(observation, objective.actions.none(observation), zero, zero > 0))
        wanted = (1, 1, objective.actions.outputs + 1)
        try:
            found, _ = self._run(meta, inputs[:, None], self._begin(1, like))
        except Exception as error:  # a stranger's model may fail in any way
            if isinstance(error, InnerloopError) and not isinstance(error, ShapeError):
                raise
            raise ShapeError(
                f"the policy cannot take what it is told in these worlds, {inputs.shape[-1]} numbers: "
                f"{objective.observation_size} of an observation, {objective.actions.width} of the last action, its reward and "
                f"whether an episode ended: {first_line(error)}"
            ) from error
        if tuple(found.shape) != wanted:
            raise ShapeError(
                f"the policy expected to give {wanted[-1]} numbers, {wanted[-1] - 1} for {objective.actions} and a value, got "
                f"{tuple(found.shape)}; build it with outputs={wanted[-1] - 1}"
            )
        return True

    # ---- one world -------------------------------------------------------------------------------------------------
    def init(self, meta: Meta, task: Task) -> Remembered:
        objective: Any = task.objective
        like = next(iter(meta.params.values()))
        observation = like.new_zeros(objective.observation_size)
        zero = like.new_zeros(())
        state = self._begin(1, like)[0]
        none = objective.actions.none(observation)
        return Remembered(state, none, zero, zero > 0, torch.zeros((), dtype=torch.int64, device=like.device))

    def batch(self, task: Task, i: int | Tensor) -> tuple[World, Policy, Tensor]:
        objective: Any = task.objective
        assert task.noise is not None
        return task.support, objective, random_keys.fold(random_keys.fold(task.noise, _EPISODE), i)

    def step(self, meta: Meta, fast: Remembered, batch: Any, i: int | Tensor) -> Remembered:
        """One episode."""
        world, objective, key = batch
        act, carry, seen = self._from(meta, fast, objective, 1)
        _, state, last = roll_out(one_of(world, 1), act, carry, key[None], 1, seen)
        return Remembered(state[0], last.action[0], last.reward[0], last.done[0], fast.episodes + 1)

    def _from(self, meta: Meta, fast: Remembered, objective: Policy, trials: int) -> tuple[Act, Tensor, Seen]:
        """The policy in so many copies of the world, each as it remembers it."""
        blank = fast.state.new_zeros(objective.observation_size)
        seen = one_of(Seen(blank, fast.action, fast.reward, fast.done), trials)
        return self.act(meta, objective), one_of(fast.state, trials), seen

    def predict(self, meta: Meta, fast: Remembered, x: Any, mask: Tensor | None = None) -> Tensor:
        raise ConfigError("a policy with a memory expected agent.act(observation), got predict")

    def as_model(self, meta: Meta, fast: Remembered) -> Any:
        return Remembering(self, meta, fast)

    # ---- the outer step --------------------------------------------------------------------------------------------
    def experience(self, meta: Meta, tasks: Task, key: Tensor) -> Task:
        """The tasks with a trial in each world in place of the world; advantages have variance 1 over all of them."""
        del key
        if not isinstance(tasks.query, World):
            return tasks
        objective: Any = tasks.objective
        assert tasks.noise is not None
        keys: Int64[Tensor, " tasks"] = random_keys.fold(tasks.noise, _PLAYED)
        like = next(iter(meta.params.values()))
        carry = self._begin(len(keys), like)
        played = roll_out(tasks.query, self.act(meta, objective), carry, keys, objective.episodes)[0]
        expect_sound(played)
        size = self._size(objective)
        values = played.noted["value"] * size
        discount = objective.discount if self.discount is None else self.discount
        found = advantages(played.rewards, values, played.playing, discount, self.trace)
        noted = {
            "inputs": played.noted["inputs"],
            "log_prob": played.noted["log_prob"],
            "advantage": standardised(found, played.playing),
            "target": (found + values) / size,
        }
        stored = dataclasses.replace(played, noted=noted)
        return dataclasses.replace(tasks, support=stored, query=stored)

    def _size(self, objective: Policy) -> float:
        """Of the discounted returns of a trial, so that values are about 1."""
        discount = objective.discount if self.discount is None else self.discount
        return objective.reward_size * horizon_of(discount, objective.horizon * objective.episodes)

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        """PPO's loss on one trial."""
        del outer_step
        objective: Any = task.objective
        played: Rollouts = task.query
        outputs = self._run(meta, played.noted["inputs"][None])[0]
        outputs, values = outputs[:, :-1], outputs[:, -1]
        counts = played.playing.to(values.dtype)
        counts = counts / counts.sum().clamp(min=1)
        new = objective.actions.log_prob(outputs, played.actions)
        gain = (clipped(new, played.noted["log_prob"], played.noted["advantage"], self.clip) * counts).sum()
        error = ((values - played.noted["target"]).square() * counts).sum()
        entropy = (objective.actions.entropy(outputs) * counts).sum()
        loss = self.value * error - gain - self.entropy * entropy
        found = {"loss": loss, "value_error": error, "entropy": entropy, "return": played.rewards.sum()}
        return loss, {"metrics": {name: value.detach() for name, value in found.items()}}


class Remembering:
    """A policy with what it remembers of a world; `Policy` plays it."""

    learner: MemoryLearner
    meta: Meta
    fast: Remembered

    def __init__(self, learner: MemoryLearner, meta: Meta, fast: Remembered) -> None:
        self.learner, self.meta, self.fast = learner, meta, fast

    def player(self, objective: Policy, trials: int) -> tuple[Act, Any, Seen]:
        """What acts in so many copies of the world, its memory, and what was last seen."""
        return self.learner._from(self.meta, self.fast, objective, trials)


@method(
    model={"name": "gru_policy"},
    declares={
        "regression": False,
        "inner_loop": False,
    },
)
def rl2(
    model: nn.Module,
    *,
    discount: float | None = None,
    trace: float = 0.3,
    clip: float = 0.2,
    entropy: float = 0.01,
    value: float = 0.5,
) -> MetaLearner:
    """RL^2: a recurrent policy, trained on trials in many worlds, learns a new world by remembering what happened in it.

    It is told the observation, its last action, what that brought and whether an episode ended with it. Its memory is kept over
    the episodes of a trial, and it is trained for the return of the whole trial, so it explores where that pays later.

    Where we differ: PPO with several passes over each draw of worlds (the paper: TRPO); a GRU of 64 units by default (256);
    the policy and the value that it expects share the GRU.

    Args:
        model: the policy, a module with a memory, such as `il.models.gru_policy`. Copied, not changed.
        discount: of a step, over the whole trial; None: the tasks' own (0.99, the paper's).
        trace: lambda of the generalised advantage estimates (the paper's 0.3).
        clip: how far the ratio of new and old probability counts: up to 1 + clip.
        entropy: weight of the entropy of actions.
        value: weight of the squared error of values.

    Returns:
        A MetaLearner for worlds. An inner step is an episode: ``adapt(world, steps=20)`` plays 20 and gives an agent.

    Raises:
        ConfigError: a number out of range, or a policy without a memory.

    Example:
        >>> import innerloop as il
        >>> il.rl2(il.models.gru_policy(1, 5)).eval_steps
        0

    Reference: Duan, Schulman, Chen, Bartlett, Sutskever and Abbeel 2016, "RL^2: fast reinforcement learning via slow
    reinforcement learning", arXiv:1611.02779.
    """
    given: Mapping[str, Any] = {"discount": discount, "trace": trace, "clip": clip, "entropy": entropy, "value": value}
    for name, number in given.items():
        most = math.inf if name in ("entropy", "value", "clip") else 1.0
        if number is not None and not (
            isinstance(number, int | float) and math.isfinite(number) and 0 <= number <= most
        ):
            limits = "of at least 0" if most == math.inf else "from 0 to 1"
            raise ConfigError(f"{name} expected a number {limits}, got {number!r}")

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = MemoryLearner(pure, discount, trace, clip, entropy, value)
        return learner, OnRollouts(learner, engine)

    outer = Outer(lr=5e-3, num_tasks=1024, schedule="linear", clip_norm=1.0, passes=4)
    return MetaLearner("rl2", {}, model, pair, outer=outer)
