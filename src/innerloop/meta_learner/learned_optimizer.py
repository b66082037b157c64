"""What learned schedules and learned optimizers have in common: a MetaLearner whose model is the update rule itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from torch import Tensor, nn

from innerloop.core import BaseLearner, MetaGradient, Task, UpdateRule
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.functional import PureModel
from innerloop.learners.training_runs import TrainingRuns
from innerloop.meta_gradients import ES, Backprop
from innerloop.meta_gradients.unrolled import StaggeredPES, Unrolled
from innerloop.meta_learner.boundary import check_task
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.objectives.training_run import TrainingRun

ESTIMATES: dict[str, Callable[..., MetaGradient]] = {
    "unrolled": Unrolled,
    "pes": StaggeredPES,
    "es": ES,
    "backprop": Backprop,
}


class RuleParameters(nn.Module):
    """What an update rule has learned, by the rule's own names."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(value.detach().clone()))


class LearnedOptimizer(MetaLearner):
    """An optimizer that is learned across training runs; what `il.learned_schedule` and `il.learned_optimizer` return.

    Its parameters are those of its update rule. It takes training jobs (`il.tasks.training_jobs`) and nothing else;
    `il.Optimizer` makes a torch optimizer of it.
    """

    rule_of_runs: UpdateRule

    def __init__(
        self,
        rule: UpdateRule,
        estimate: str,
        settings: Mapping[str, Any],
        *,
        first_order: bool,
        goal: str,
        outer: Outer,
    ) -> None:
        def pair(pure: PureModel, engine: Engine) -> tuple[Any, MetaGradient]:
            del pure
            learner = TrainingRuns(rule, first_order=first_order, goal=goal)
            return learner, ESTIMATES[estimate](learner, engine, **settings)

        super().__init__("", {}, RuleParameters(rule.init_meta({}, None)), pair, outer=outer)
        self.model_record: dict[str, Any] = {"rule": type(rule).__name__}
        self.rule_of_runs = rule

    def fitting(self, batch: Task, many: bool = False) -> Task:
        del many
        if not isinstance(batch, Task) or not isinstance(batch.objective, TrainingRun):
            raise ConfigError(
                f"{self.name} expected training runs, such as il.tasks.training_jobs(make_model, (x, y)), got tasks of "
                f"{getattr(getattr(batch, 'objective', batch), 'name', getattr(batch, 'objective', type(batch).__name__))}; "
                "give it training jobs"
            )
        steps = batch.objective.steps
        batch = check_task(batch, self.dtype, self.device, self.loss)
        if batch.shared is not None:
            batch = dataclasses.replace(batch, shared=self._beside(batch.shared))
        self.suit({name: p[0] for name, p in batch.support.weights.items()}, steps)
        return batch

    def suit(self, params: Mapping[str, Tensor], steps: int) -> None:
        """Get ready for runs of a network with these parameters and of at most so many steps."""
        if steps != self.learner.inner_steps:
            self.learner: BaseLearner = dataclasses.replace(self.learner, inner_steps=steps, eval_steps=steps)  # type: ignore[type-var]
            self.meta_gradient.learner = self.learner  # type: ignore[attr-defined]

    def adapt(self, *args: Any, **kwargs: Any) -> NoReturn:
        """There is nothing to predict: refused."""
        raise ConfigError(
            f"{self.name} trains networks, and has no examples to adapt to; use il.Optimizer(learner, model.parameters(), "
            "num_steps=...)"
        )

    def _adapts_convolutions(self) -> bool:
        return False  # not its own; those of the runs' network are known once there is a batch

    def __repr__(self) -> str:
        numbers = sum(p.numel() for p in self.parameters())
        return f"LearnedOptimizer({self.name}, {numbers:,} learned numbers, runs of up to {self.inner_steps} steps)"
