"""An optuna sampler that begins where past studies ended."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from innerloop.errors import expect_whole
from innerloop.hpo.candidates import Shapes, around, candidates, different, draw, identity
from innerloop.hpo.learned_surrogates import Learned, train
from innerloop.hpo.past import joint_space, optuna_module
from innerloop.hpo.processes import Processes, fit_processes, inside
from innerloop.hpo.search import KINDS, Seen, acquisition, prior_of
from innerloop.hpo.space import Config, Parameter, Space
from innerloop.hpo.study_so_far import PLAN, SoFar, so_far, with_parameter
from innerloop.hpo.transfer import Transfer, load

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial
else:
    BaseSampler = optuna_module().samplers.BaseSampler

_REFINED = 5  # best candidates whose neighbours are looked at too
_VALUES = 64  # of one parameter that is asked for by itself
_REMEMBERED = 100  # plans of trials under way
_TURN = threading.Lock()  # of workers in one process


class TransferSampler(BaseSampler):
    """Suggests what did well on past tasks, learns from the study's own trials, and forgets the past where it misleads.

    The study's own distributions decide types and ranges; parameters that the past does not know are searched like any other. A
    suggestion is a function of the seed, the trial's number and the trials so far: a study that was stopped goes on with the
    suggestions that it would have got. Trials under way (other workers) count as coming out as expected, failed ones as the
    worst so far, pruned ones as no better than the median.

    Args:
        hpo: what `innerloop.hpo.fit` returned, or the folder it was kept in.
        seed: of all draws.
        metric: which value counts, where the study's trials have several: a number from 0, or the metric's name.

    Raises:
        ConfigError: a seed that is no whole number of at least 0; with the first trial, a study of several values and no metric.
        CheckpointError: a folder in which nothing was kept.
        InputError: optuna is not installed.
    """

    seed: int
    metric: str | int | None

    def __init__(self, hpo: Transfer | str | Path, *, seed: int = 0, metric: str | int | None = None) -> None:
        expect_whole("seed", seed, 0)
        self.transfer: Transfer = hpo if isinstance(hpo, Transfer) else load(hpo)
        self.seed, self.metric = seed, metric
        self._fitted: dict[str, Processes | None] = {}
        self._learned: dict[str, Learned] = {}
        self._plans: dict[tuple[str, int], dict[str, Any]] = {}

    # ---- what optuna asks ----------------------------------------------------------------------------------------
    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that every finished trial had; the others are asked for one by one."""
        found = so_far(study, self.metric, trial.number)
        return {n: found.distributions[n] for n in found.space.names if n not in found.space.optional}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The configuration to try next; of it, the parameters in ``search_space``."""
        with _TURN:
            plan = self._plan(so_far(study, self.metric, trial.number), [], trial.number)
            # Other workers see in it what this trial is about, before it has asked for a parameter.
            study._storage.set_trial_system_attr(trial._trial_id, PLAN, plan)
        earlier = list(self._plans.items())[-_REMEMBERED:]
        self._plans = {**dict(earlier), (study.study_name, trial.number): plan}
        return {name: plan[name] for name in search_space if name in plan}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one parameter, given those that the trial has already."""
        own = Parameter.of(param_distribution)
        plan = self._plans.get((study.study_name, trial.number), {})
        if param_name in plan:  # at an end of the study's range where the plan is beyond it
            value = own.nearest(plan[param_name])
            if value is not None or own.has(plan[param_name]):
                return value
        generator = self._generator(trial.number, param_name)
        had = trial.params
        configs = different({**had, param_name: draw(own, generator)} for _ in range(_VALUES))
        found = with_parameter(so_far(study, self.metric, trial.number), had, param_name, own)
        order = self._order(found, configs, [], alone=True)
        return configs[0 if order is None else order[0]][param_name]

    def reseed_rng(self) -> None:
        """Nothing to do: draws depend on the trial's number, which no two workers share."""

    # ---- without optuna asking -----------------------------------------------------------------------------------
    def suggest(self, study: Study, count: int = 1) -> list[dict[str, Any]]:
        """The next configurations to try; nothing is written to the study. The first is what its next trial would be given.

        Before the study has a trial nobody knows its parameters, and those of the past are shown.

        Raises:
            ConfigError: a count below 1, or a study of several values without a metric.
        """
        expect_whole("count", count)
        found = so_far(study, self.metric)
        plans: list[dict[str, Any]] = []
        for i in range(count):
            plans.append(self._plan(found, plans, found.next_number + i))
        return plans

    # ---- how -----------------------------------------------------------------------------------------------------
    def _plan(self, found: SoFar, more: Sequence[Config], number: int) -> dict[str, Any]:
        """A whole configuration, its conditional parameters too; ``more`` are suggested already."""
        generator = self._generator(number)
        past = self.transfer.tasks
        if not found.space.parameters:  # nobody has asked for one yet: as the past had them
            found = dataclasses.replace(
                found, space=joint_space(past), finished=[config for one in past for config in one.configs]
            )
        configs = candidates(found.space, found.finished, found.best, past, generator)
        tried = {identity(config) for config in [*found.tried, *more]}
        free = [config for config in configs if identity(config) not in tried] or configs
        order = self._order(found, free, more)
        if order is None:
            return free[0]
        first = [free[i] for i in order[:_REFINED]]
        near = [
            config
            for config in different(around(found.space, Shapes(found.space, found.finished), first, generator))
            if identity(config) not in tried
        ]
        if near:
            free = [*first, *near]
            order = self._order(found, free, more) or [0]
        return free[order[0]]

    def _order(
        self, found: SoFar, configs: Sequence[Config], more: Sequence[Config], *, alone: bool = False
    ) -> list[int] | None:
        """The places of the configurations, the best to try first; None where nothing tells them apart.

        No surrogate is trained for a parameter that is asked for ``alone``.
        """
        past, kind = self._past_in(found.space), self.transfer.kind
        tried = torch.as_tensor(found.space.rows([*found.tried, *more]))
        rows = torch.as_tensor(found.space.rows(configs))
        prior = None if past is None else prior_of(past, tried, rows)
        learned = None
        if past is not None and kind not in KINDS and not alone:
            learned = functools.partial(self._learned_in, found.space)
        value = acquisition(kind, prior, Seen(tried, found.values), rows, learned)
        return None if value is None else value.argsort(descending=True, stable=True).tolist()

    def _past_in(self, space: Space) -> Processes | None:
        """The past in the study's own space, fitted once for each; None where they have nothing in common."""
        key = _key(space)
        if key not in self._fitted:
            fitting = inside(self.transfer.tasks, space)
            self._fitted[key] = fit_processes(fitting, space, self.transfer.seed) if fitting else None
        return self._fitted[key]

    def _learned_in(self, space: Space) -> Learned:
        """The surrogate in the study's own space, trained once for each."""
        key = _key(space)
        if key not in self._learned:
            fitting = inside(self.transfer.tasks, space)
            self._learned[key] = train(self.transfer.kind, fitting, space, self.transfer.seed)
        return self._learned[key]

    def _generator(self, number: int, name: str = "") -> np.random.Generator:
        return np.random.default_rng([self.seed, number, *name.encode()])


def _key(space: Space) -> str:
    return repr((sorted(space.parameters.items()), sorted(space.optional)))
