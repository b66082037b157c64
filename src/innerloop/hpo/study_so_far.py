"""A study as a search sees it: its parameters, what was tried and how it came out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from innerloop.hpo.past import demoted, lower_is_better, sometimes, value_of
from innerloop.hpo.space import Config, Parameter, Space

PLAN = "innerloop:plan"  # the system attribute in which a trial under way says what it was given

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial


@dataclasses.dataclass(frozen=True)
class SoFar:
    """The trials of a study.

    Attributes:
        space: its parameters, as its newest trials declare them.
        distributions: likewise, as optuna has them.
        tried: configurations: of ended trials, then of those under way or in the queue.
        values: of the ended ones, lower is better; a failed one is infinite, a pruned one no better than the median.
        finished: configurations of trials that ran to their end, which show what conditional parameters depend on.
        next_number: of the next trial.
    """

    space: Space
    distributions: Mapping[str, BaseDistribution]
    tried: Sequence[Config]
    values: np.ndarray
    finished: Sequence[Config]
    next_number: int

    @property
    def best(self) -> list[Config]:
        """The ended trials, the best first, without failed ones."""
        return [self.tried[i] for i in np.argsort(self.values, kind="stable") if math.isfinite(self.values[i])]


def so_far(study: Study, metric: str | int | None = None, apart_from: int | None = None) -> SoFar:
    """What a study knows, apart from the trial of this number.

    Raises:
        ConfigError: its trials have several values, and nobody said which counts.
    """
    at, sign = lower_is_better(study, metric)
    trials = study.get_trials(deepcopy=False)
    number = max((t.number + 1 for t in trials), default=0)
    trials = [t for t in trials if t.number != apart_from]
    queued = [
        dict(t.system_attrs["fixed_params"])
        for t in trials
        if t.state.name == "WAITING" and "fixed_params" in t.system_attrs
    ]
    planned = [t for t in trials if t.state.name == "RUNNING" and PLAN in t.system_attrs]
    trials = [t for t in trials if t.params]
    ended = [t for t in trials if t.state.is_finished()]
    ended = [t for t in ended if t.state.name != "COMPLETE" or not math.isnan(value_of(t, at, sign))]
    running = [t for t in trials if t.state.name == "RUNNING"]
    given = [{**t.system_attrs[PLAN], **t.system_attrs.get("fixed_params", {}), **t.params} for t in planned]
    given += [dict(t.params) for t in running if PLAN not in t.system_attrs]
    distributions: dict[str, BaseDistribution] = {}
    for trial in trials:
        distributions |= trial.distributions
    whole = [t for t in ended if t.state.name == "COMPLETE"] or ended or running
    finished = [dict(t.params) for t in whole]
    lacked = frozenset(n for n in distributions if any(n not in config for config in finished))
    space = Space({name: Parameter.of(d) for name, d in distributions.items()}, lacked)
    tried = [*(dict(t.params) for t in ended), *given, *queued]
    return SoFar(space, distributions, tried, _values(ended, at, sign), finished, number)


def _values(ended: Sequence[FrozenTrial], at: int, sign: float) -> np.ndarray:
    values = np.array([math.inf if t.state.name == "FAIL" else value_of(t, at, sign) for t in ended], dtype=np.float64)
    pruned = np.array([t.state.name == "PRUNED" for t in ended], dtype=bool)
    failed = np.array([t.state.name == "FAIL" for t in ended], dtype=bool)
    values[~failed] = demoted(values[~failed], pruned[~failed])
    return np.where(np.isnan(values), math.inf, values)


def with_parameter(found: SoFar, had: Config, name: str, parameter: Parameter) -> SoFar:
    """The same in a space of the parameters that a trial has already, and one more."""
    own = {n: found.space.parameters[n] for n in had if n in found.space.parameters} | {name: parameter}
    return dataclasses.replace(found, space=Space(own, sometimes(own, [found.tried])))
