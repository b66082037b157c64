"""MAML for reinforcement learning (Finn et al. 2017): a policy that one policy gradient turns into one for a new world."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop import keys as random_keys
from innerloop.core import BaseLearner, Meta, MetaGradient, Task
from innerloop.engine import Engine
from innerloop.errors import ConfigError, InnerloopError, ShapeError, expect_whole, first_line
from innerloop.functional import PureModel
from innerloop.learners.gradient import GradientFast, GradientLearner
from innerloop.meta_gradients.on_rollouts import OnRollouts
from innerloop.meta_gradients.trust_region import TrustRegion
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import expect_choice, method
from innerloop.models.observation_scale import scales_of
from innerloop.objectives.policy import Policy, clipped
from innerloop.objectives.rollouts import Act, Acted, Rollouts, Seen, expect_sound, memoryless, roll_out, standardised
from innerloop.objectives.world import World, repeated
from innerloop.rules import SGD

_PLAYED = 93

Credit = Literal["ratio", "sampled", "none"]
OuterStep = Literal["ppo", "trpo", "promp"]


@dataclasses.dataclass(frozen=True)
class FirstThenLater(SGD):
    """Gradient descent whose steps after the first have a rate of their own, as Finn et al. take 0.1 and then 0.05."""

    later: float = 0.1

    def update(self, meta: Any, grads: Any, state: Any, params: Any, *, loss: Tensor, step: int | Tensor) -> Any:
        rate = torch.where(step == 0, self.lr, self.later) if isinstance(step, Tensor) else self.lr
        rate = rate if isinstance(step, Tensor) or step == 0 else self.later
        return {name: p - rate * grads[name] for name, p in params.items()}, state


@dataclasses.dataclass(frozen=True, eq=False)
class PolicyLearner(GradientLearner):
    """Inner steps are policy gradients, each on episodes that the policy as it is then has played.

    A side of a task is a world; or, once `experience` has played in it, the episodes: those of all inner steps one after the
    other as the support side, those of the adapted policy as the query side. ``noted`` holds of each step of these "log_prob"
    and "outputs" of the policy that played it, the "advantage" and, for ``credit="sampled"``, its "credit".

    Args:
        engine: runs inner steps over many tasks before there is something to differentiate.
        episodes: for each inner step, and of the adapted policy.
        trace: lambda of the advantage estimates.
        credit: see `maml_rl`.
        clip: how far the ratio of the adapted policy's probabilities may be from 1; None: any.
        penalty: weight of the divergence of the policies that played the inner steps (ProMP).
    """

    engine: Engine = dataclasses.field(default_factory=Engine)
    episodes: int = 20
    trace: float = 1.0
    credit: Credit = "ratio"
    clip: float | None = 0.2
    penalty: float = 0.0

    def admit(self, tasks: Task) -> Task:
        """Worlds alone; labelled examples come by here."""
        _expect_policy(tasks.objective)
        return tasks

    # ---- one world -------------------------------------------------------------------------------------------------
    def tried(self, meta: Meta, task: Task) -> bool:
        """Try the policy out on what one world shows at first; see `BaseLearner.tried`."""
        objective: Any = task.objective
        _expect_policy(objective)
        if not isinstance(task.query, World):
            return True
        like = next(iter(meta.params.values()))
        seen = like.new_zeros(2, objective.observation_size)
        told = f"{objective.observation_size} numbers of an observation"
        try:
            found = self.model.apply(meta.params, meta.buffers, seen, training=False)[0]
        except Exception as error:  # a stranger's model may fail in any way
            if isinstance(error, InnerloopError) and not isinstance(error, ShapeError):
                raise
            raise ShapeError(f"the policy cannot take {told} in these worlds: {first_line(error)}") from error
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if shape != (2, objective.actions.outputs):
            raise ShapeError(
                f"the policy expected to give {objective.actions.outputs} numbers for {objective.actions}, got {shape} for 2 "
                "observations; for continuous actions take il.models.gaussian_policy"
            )
        return True

    def for_episodes(self, episodes: int, steps: int | None) -> tuple[BaseLearner, int]:
        """As many inner steps as there are `episodes` for, each after as many of them; of ``steps`` so many each."""
        expect_whole("episodes", episodes)
        number = max(1, episodes // self.episodes) if steps is None else steps
        if number < 1 or episodes // number < 1:
            raise ConfigError(f"episodes expected at least one for each of {number} inner steps, got {episodes}")
        return dataclasses.replace(self, episodes=episodes // number), number

    def batch(self, task: Task, i: int | Tensor) -> Any:
        """The episodes of inner step ``i``; of a world, (world, objective, key), in which `step` plays them."""
        if isinstance(task.support, World):
            assert task.noise is not None
            return task.support, task.objective, self._key_of(task.noise, i)
        rows = i * self.episodes + torch.arange(self.episodes, device=task.support.rewards.device)
        return pytree.tree_map(lambda v: v[rows], task.support)

    @staticmethod
    def _key_of(noise: Tensor, i: int | Tensor) -> Tensor:
        return random_keys.fold(random_keys.fold(noise, _PLAYED), i)

    def step(self, meta: Meta, fast: GradientFast, batch: Any, i: int | Tensor) -> GradientFast:
        if not isinstance(batch, Rollouts):
            world, objective, key = batch
            with torch.no_grad():
                played = objective.play(self.as_model(meta, fast), world, key, self.episodes, 1)
                batch = self._estimated(objective, played)
        return super().step(meta, fast, batch, i)

    def _estimated(self, objective: Policy, played: Rollouts) -> Rollouts:
        """With the advantage of each step noted, of one world's episodes; and what they were divided by."""
        plain = objective.plain_estimates(played, self.trace)
        found = standardised(plain, played.playing)
        counts = played.playing.to(plain.dtype)
        mean = (plain * counts).sum() / counts.sum()
        unit = (((plain - mean).square() * counts).sum() / counts.sum()).sqrt().expand_as(plain)
        return dataclasses.replace(played, noted={**played.noted, "advantage": found, "unit": unit})

    def support_loss(
        self, meta: Meta, fast: GradientFast, adapted: dict[str, Tensor], batch: Rollouts
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Minus the mean of ratio (or of log probability) times advantage: its gradient is minus the policy gradient."""
        logs = self._logs(meta, fast, adapted, batch, fast.objective)[0]
        if self.credit == "ratio":
            logs = (logs - batch.noted["log_prob"]).exp()
        return -_mean(logs * batch.noted["advantage"], batch), fast.buffers

    def _logs(
        self, meta: Meta, fast: GradientFast, adapted: dict[str, Tensor], played: Rollouts, objective: Policy
    ) -> tuple[Float[Tensor, "trials steps"], Tensor]:
        """Log probabilities of what was done, and the outputs that say so, by the policy with these parameters."""
        seen = played.observations
        params = {**meta.params, **adapted}
        outputs = self.model.apply(params, fast.buffers, seen.flatten(0, 1), training=False)[0]
        outputs = outputs.unflatten(0, seen.shape[:2])
        return objective.actions.log_prob(outputs, played.actions), outputs

    # ---- the outer step --------------------------------------------------------------------------------------------
    def experience(self, meta: Meta, tasks: Task, key: Tensor) -> Task:
        """The tasks with episodes in place of worlds: before each inner step, and after the last."""
        del key
        if not isinstance(tasks.query, World):
            return tasks
        objective: Any = tasks.objective
        assert tasks.noise is not None
        scales = scales_of(self.model.module)
        for scale in scales:
            scale.settle()
        parts: list[Rollouts] = []
        adapted: dict[str, Tensor] | None = None  # (tasks, ...) of each; None: meta's for all
        stored = tasks
        for i in range(self.inner_steps + 1):
            act = self._act(meta, adapted, len(tasks.noise), objective)
            from_key = self._key_of(tasks.noise, i)
            of_trials = random_keys.fold(from_key[:, None], torch.arange(self.episodes, device=from_key.device))
            worlds = repeated(tasks.query, self.episodes)
            rows = (
                () if worlds.at_once is None else torch.arange(len(of_trials) * self.episodes, device=from_key.device)
            )
            played = roll_out(worlds, act, rows, of_trials.flatten())[0]
            expect_sound(played)
            played = pytree.tree_map(lambda v: v.unflatten(0, (-1, self.episodes)), played)
            for scale in scales:
                scale.observe(played.observations[played.playing])
            parts.append(torch.vmap(lambda one: self._estimated(objective, one))(played))
            if i < self.inner_steps:
                support = pytree.tree_map(lambda *v: torch.cat(v, 1), *parts)
                stored = dataclasses.replace(tasks, support=support, query=support)

                def after(meta: Meta, task: Task, steps: int = i + 1) -> dict[str, Tensor]:
                    return self.adapt(meta, task, steps).params

                adapted = self.engine.map(after, meta, stored)
        found = dataclasses.replace(stored if self.inner_steps else tasks, query=parts[-1])
        if not self.inner_steps:  # nothing was played before
            none = dataclasses.replace(parts[-1], playing=torch.zeros_like(parts[-1].playing))
            found = dataclasses.replace(found, support=none)
        return self._credited(found) if self.credit == "sampled" and self.inner_steps else found

    def _act(self, meta: Meta, adapted: dict[str, Tensor] | None, num_tasks: int, objective: Policy) -> Act:
        """The policy for the episodes of all tasks: (tasks * episodes) rows at once, or the rows that its memory names."""

        def of_one(params: dict[str, Tensor], seen: Tensor) -> Tensor:
            return self.model.apply({**meta.params, **params}, meta.buffers, seen, training=False)[0]

        def of_all(seen: Tensor) -> Tensor:
            if adapted is None:
                return of_one({}, seen)
            each = seen.unflatten(0, (num_tasks, -1))
            if self.engine.needs_loop:
                rows = [of_one({k: v[j] for k, v in adapted.items()}, each[j]) for j in range(num_tasks)]
                return torch.cat(rows)
            return torch.vmap(of_one)(adapted, each).flatten(0, 1)

        def act(rows: Any, seen: Seen, keys: Tensor) -> Acted:
            def of_rows(seen: Tensor) -> Tensor:
                if adapted is None or isinstance(rows, tuple) or len(rows) == num_tasks * self.episodes:
                    return of_all(seen)
                task = rows // self.episodes
                found = seen.new_empty(len(seen), objective.actions.outputs)
                for j in task.unique().tolist():
                    own = task == j
                    found[own] = of_one({k: v[j] for k, v in adapted.items()}, seen[own])
                return found

            return memoryless(of_rows, objective.actions)((), seen, keys)._replace(carry=rows)

        return act

    def _credited(self, tasks: Task) -> Task:
        """With what the adapted policy's episodes brought noted for each step of the inner ones: how much more than in the other
        worlds, a step, in the unit of the outer loss."""
        worth = tasks.query.rewards.sum((1, 2)) / tasks.query.playing.sum((1, 2)).clamp(min=1)
        others = (worth.sum() - worth) / max(len(worth) - 1, 1)  # no world's own, which depends on its episodes
        credit = (worth - others) / (tasks.query.noted["unit"][:, 0, 0] + 1e-8)
        credit = credit[:, None, None].expand_as(tasks.support.rewards)
        support = dataclasses.replace(tasks.support, noted={**tasks.support.noted, "credit": credit})
        return dataclasses.replace(tasks, support=support)

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        """Minus the gain of the adapted policy on the episodes that were played with it."""
        del outer_step
        loss, divergence, return_ = self.judged(meta, task)
        found = {"loss": loss, "divergence": divergence, "return": return_}
        return loss, {"metrics": {name: value.detach() for name, value in found.items()}}

    def judged(self, meta: Meta, task: Task) -> tuple[Tensor, Tensor, Tensor]:
        """(outer loss, divergence of the adapted policy from the one that played, mean return), of one task's episodes."""
        objective: Any = task.objective
        extra: list[Tensor] = []

        def observe(fast: GradientFast, i: int) -> None:
            if i == self.inner_steps:
                return
            played = self.batch(task, i)
            logs, outputs = self._logs(meta, fast, fast.params, played, objective)
            if (
                self.credit == "sampled"
            ):  # the sum over all of the step's episodes: they led to these parameters together
                extra.append(-(logs * played.noted["credit"] * played.playing).sum())
            if self.penalty:
                apart = objective.actions.divergence(played.noted["outputs"], outputs)
                extra.append(self.penalty * _mean(apart, played) / self.inner_steps)

        looks = self.credit == "sampled" or self.penalty
        fast = self.adapt(meta, task, self.inner_steps, observe if looks and self.inner_steps else None)
        played: Rollouts = task.query
        logs, outputs = self._logs(meta, fast, fast.params, played, objective)
        advantage, old = played.noted["advantage"], played.noted["log_prob"]
        gain = (logs - old).exp() * advantage if self.clip is None else clipped(logs, old, advantage, self.clip)
        apart = _mean(objective.actions.divergence(played.noted["outputs"], outputs), played)
        return sum(extra, -_mean(gain, played)), apart, played.rewards.sum(-1).mean()

    def query_loss(self, meta: Meta, fast: GradientFast, task: Task) -> Any:
        raise ConfigError("maml_rl expected episodes of the adapted policy, which `judged` takes, got query_loss")


def _expect_policy(objective: Any) -> None:
    if not isinstance(objective, Policy):
        raise ConfigError(f"maml_rl expected worlds, such as il.tasks.navigation(), got tasks of {objective}")


def _mean(values: Tensor, played: Rollouts) -> Tensor:
    """Over the steps that count."""
    counts = played.playing.to(values.dtype)
    return (values * counts).sum() / counts.sum().clamp(min=1)


@method(
    model={"hidden": [100, 100], "activation": "relu"},
    declares={"regression": False},
)
def maml_rl(
    model: nn.Module,
    *,
    inner_lr: float = 0.1,
    later_lr: float | None = None,
    inner_steps: int = 1,
    eval_steps: int | None = None,
    episodes: int = 20,
    outer: OuterStep = "ppo",
    credit: Credit = "ratio",
    first_order: bool = False,
    trace: float = 1.0,
    clip: float = 0.2,
    divergence: float = 0.01,
    penalty: float = 5e-4,
) -> MetaLearner:
    """MAML for policies: episodes are played, one policy gradient is taken on them, and the result is what is learned for.

    The inner gradient is REINFORCE with a linear baseline of observation and time, fitted to each world's own episodes, and
    advantages of variance 1. The first episodes are played by the policy that is being learned, so which ones there are depends
    on its parameters too; ``credit`` says how the outer gradient heeds that. Each way is exact for what it says, with the
    episodes' baseline and scale held constant:

    - "ratio": the inner loss is the ratio of the policy's probability to that at which it played, times the advantage. Its
      second derivative is that of the EXPECTED inner return, so the outer gradient is that of
      J(theta + rate * gradient of the expected return) (Foerster 2018, arXiv:1802.05098; Rothfuss 2019, who call it LVC).
    - "sampled": the inner loss has the log probability, whose derivative is that at fixed episodes, and the outer loss has
      another term: the log probability of all first episodes times what the adapted policy gained over the other worlds. The
      outer gradient is that of the expected return after SAMPLED episodes (Stadie 2018, E-MAML, arXiv:1803.01118). More noise.
    - "none": the log probability, without that term, as Finn's code does: no gradient of either; a bias that was left out.

    Where we differ from the paper: PPO outside by default, with several passes over a draw (the paper: TRPO, ``outer="trpo"``);
    credit by "ratio"; advantages are those of a discount of 0.99.

    Args:
        model: the policy, observations (examples, observation_size) to what actions need: logits, or means and logarithms of
            deviations, such as `il.models.gaussian_policy`. Copied, not changed.
        inner_lr: inner rate (the paper's 0.1).
        later_lr: of the inner steps after the first; None: the same (the paper's test: 0.05).
        inner_steps: in meta-training (the paper's 1).
        eval_steps: in a new world; None: ``inner_steps``.
        episodes: for each inner step, and of the adapted policy (the paper's 20).
        outer: "ppo" (Schulman 2017), "trpo" (Schulman 2015, arXiv:1502.05477: conjugate gradients and a line search) or "promp":
            PPO with a penalty for how far the policies that played the first episodes have moved (Rothfuss 2019).
        credit: see above.
        first_order: stop the outer gradient at the inner gradients (Finn 2017, section 5.2).
        trace: lambda of the generalised advantage estimates; 1: returns minus the baseline.
        clip: how far the adapted policy's ratio counts, for "ppo" and "promp": from 1 - clip to 1 + clip.
        divergence: largest mean divergence of a "trpo" step, nats (0.01).
        penalty: weight of "promp"'s divergence (the authors' 5e-4).

    Returns:
        A MetaLearner for worlds: ``adapt(world, episodes=20)`` gives an agent, ``agent.act(observation)``.

    Raises:
        ConfigError: a value out of range, or another word.

    Example:
        >>> import innerloop as il
        >>> il.maml_rl(il.models.gaussian_policy(2, 4), later_lr=0.05, eval_steps=3).eval_steps
        3

    Reference: Finn, Abbeel and Levine 2017, "Model-agnostic meta-learning", arXiv:1703.03400, section 5.3; Rothfuss, Lee,
    Clavera, Asfour and Abbeel 2019, "ProMP: Proximal meta-policy search", arXiv:1810.06784.
    """
    expect_choice("outer", outer, ("ppo", "trpo", "promp"))
    expect_choice("credit", credit, ("ratio", "sampled", "none"))
    expect_whole("episodes", episodes)
    for name, number, most in (
        ("later_lr", 0.0 if later_lr is None else later_lr, math.inf),
        ("trace", trace, 1.0),
        ("clip", clip, math.inf),
        ("divergence", divergence, math.inf),
        ("penalty", penalty, math.inf),
    ):
        if not (isinstance(number, int | float) and math.isfinite(number) and 0 <= number <= most):
            limits = "of at least 0" if most == math.inf else "from 0 to 1"
            raise ConfigError(f"{name} expected a number {limits}, got {number!r}")
    rule = FirstThenLater(inner_lr, later=inner_lr if later_lr is None else later_lr)

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = PolicyLearner(
            model=pure,
            rule=rule,
            inner_steps=inner_steps,
            eval_steps=inner_steps if eval_steps is None else eval_steps,
            first_order=first_order,
            engine=engine,
            episodes=episodes,
            trace=trace,
            credit=credit,
            clip=None if outer == "trpo" else clip,
            penalty=penalty if outer == "promp" else 0.0,
        )
        if outer == "trpo":
            return learner, TrustRegion(learner, engine, largest=divergence)
        by_backprop = OnRollouts(learner, engine)
        by_backprop.compilable = False  # episodes end when they will; a step is cheap beside playing
        return learner, by_backprop

    if outer == "trpo":
        best = Outer(optimizer="sgd", lr=1.0, num_tasks=20)
    else:
        best = Outer(lr=3e-3, num_tasks=20, passes=3, clip_norm=0.5, schedule="linear")
    return MetaLearner("maml_rl", {}, model, pair, outer=best)
