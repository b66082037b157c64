"""An outer step for every few steps of long training runs that are each at their own place: truncated, and PES.

The carry holds the runs. Each outer step takes all of them ``truncation`` steps further; a run that is over, or has diverged,
makes way for one of the new batch. At first runs begin with a part of their steps left, so that they do not all end together.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop import keys as random_keys
from innerloop.core import BaseLearner, Meta, MetaGradient, OuterGradient, Task, batch_size
from innerloop.engine import Engine, take
from innerloop.engine.gradient import value_gradient
from innerloop.errors import ConfigError, InputError, expect_whole
from innerloop.learners.training_runs import Run, TrainingRuns
from innerloop.meta_gradients.perturbations import (
    check_settings,
    fields_of,
    like_meta,
    moved,
    noise,
    perturbed,
    trials,
)
from innerloop.records import record

_FIRST = 41  # keeps the draw of how much is left of the first runs apart


@record
class Segment(Task):
    """A run, or a pair of runs, about to be taken further.

    Attributes:
        first: how many steps it has taken.
        over: after how many it is over.
        run: where it is; of a pair the one with perturbations added.
        other: the one with perturbations taken away.
        sums: of a pair, its perturbations so far.
        key: of a pair.
    """

    first: Tensor | None = None
    over: Tensor | None = None
    run: Any = None
    other: Any = None
    sums: Any = None
    key: Tensor | None = None


def runs_at_hand(carry: dict[str, Tensor], tasks: Any, fresh: Segment) -> Segment:
    """The runs under way, those that are over replaced by fresh ones; where none is under way, all fresh and some steps short."""
    leaves, spec = pytree.tree_flatten(fresh)
    number = len(leaves)
    if not carry:
        share = random_keys.uniform(random_keys.fold(tasks.noise, _FIRST), (), 0, torch.float64)
        assert fresh.over is not None
        over = (fresh.over * share).ceil().long().clamp(min=1)
        return dataclasses.replace(fresh, over=over)
    names = [f"run/{i:04d}" for i in range(number)]
    if set(carry) != {*names, "ended"} or any(carry[n].shape != v.shape for n, v in zip(names, leaves, strict=True)):
        raise InputError(
            "expected as many runs of the same network as those that are under way, got others; keep num_tasks and the jobs, or "
            "make a new learner"
        )
    ended = carry["ended"]

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(ended.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return pytree.tree_unflatten([chosen(v, carry[n]) for n, v in zip(names, leaves, strict=True)], spec)


def of_network(carry: dict[str, Tensor], tasks: Task) -> tuple[str, dict[str, Tensor]]:
    """The prefix of what the carry holds of the batch's network, where the family has several; and that part of the carry."""
    prefix = f"{getattr(tasks.objective, 'variant', 0)}/"
    return prefix, {name.removeprefix(prefix): value for name, value in carry.items() if name.startswith(prefix)}


def kept(after: Segment, good: Tensor) -> dict[str, Tensor]:
    """The carry after a segment: where runs are, and which of them make way."""
    leaves = [leaf.detach() for leaf in pytree.tree_leaves(after)]
    assert after.first is not None and after.over is not None
    return {"ended": (after.first >= after.over) | ~good, **{f"run/{i:04d}": leaf for i, leaf in enumerate(leaves)}}


@dataclasses.dataclass(eq=False)
class Unrolled(MetaGradient):
    """Backpropagation through ``truncation`` steps of each run at a time; where a part begins is held constant.

    The outer loss of a part is the weighted mean of the losses at the weights after each of its steps. What a step does to losses
    beyond its part is not seen (Metz et al. 2019, arXiv:1810.10180, on that bias). Andrychowicz et al. 2016 (arXiv:1606.04474)
    train so, from the beginning of a run to its end; here runs are at different places.

    Args:
        learner: whose tasks are training runs.
        engine: runs the one-task computation over many tasks.
        truncation: steps in a part (the paper's 20), at least 1.
    """

    learner: TrainingRuns
    engine: Engine
    truncation: int = dataclasses.field(default=20, kw_only=True)

    order = "truncated"
    shardable = False  # the carry belongs to these runs
    compilable = False  # the first step has an empty carry
    of_outer_loss = False  # but of that of a part of each run

    def __post_init__(self) -> None:
        expect_whole("truncation", self.truncation)

    def check(self, learner: BaseLearner) -> None:
        _expect_runs(learner)

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator, outer_step
        with torch.no_grad():
            begun = torch.vmap(lambda t: self.learner.init(meta, t))(tasks)
            first = torch.zeros_like(tasks.support.steps)
            fresh = Segment(**{**fields_of(tasks), "first": first, "over": tasks.support.steps, "run": begun})
            prefix, own = of_network(carry, tasks)
            here = runs_at_hand(own, tasks, fresh)
        shown: dict[str, Any] = {}

        def one(meta: Meta, segment: Any) -> tuple[Tensor, Run, Tensor]:
            return self.learner.segment(meta, segment.run, segment, segment.first, self.truncation)

        def together(meta: Meta) -> tuple[Tensor, None]:
            if self.engine.rule(tasks).strategy == "looped":
                found = [one(meta, take(here, i)) for i in range(batch_size(tasks))]
                loss, run, last = pytree.tree_map(lambda *v: torch.stack(v), found[0], *found[1:])
            else:
                loss, run, last = torch.vmap(lambda s: one(meta, s))(here)
            good = torch.isfinite(loss.detach()) & torch.isfinite(last)
            shown.update(run=run, good=good, loss=loss.detach())
            return torch.where(good, loss, 0.0).mean(), None

        params, rule, _ = value_gradient(together, meta)
        assert here.first is not None
        run = pytree.tree_map(lambda v: v.detach(), shown["run"])
        after = dataclasses.replace(here, first=here.first + self.truncation, run=run)
        loss = _mean_of_good(shown["loss"], shown["good"])
        carry = carry | {prefix + name: value for name, value in kept(after, shown["good"]).items()}
        return OuterGradient(params, rule, {}, carry, {"loss": loss})


@dataclasses.dataclass(eq=False)
class StaggeredPES(MetaGradient):
    """Persistent evolution strategies on runs that are each at their own place: ``mean of (L_up - L_down) / (2 sigma) s``.

    L is the weighted mean of the losses at the weights after each step of a part, s the sum of the pair's perturbations since its
    run began. Unbiased for the gradient of the smoothed loss through the whole run so far; nothing is differentiated but the
    network itself, once a step. Vicol, Metz and Sohl-Dickstein 2021, arXiv:2112.13835. `PES` is the same for inner loops that
    begin and end together.

    Args:
        learner, engine, truncation: as of `Unrolled` (the paper's experiments: 10 to 100 steps).
        sigma: standard deviation of the perturbations in each part, above 0.
        num_pairs: pairs of opposite perturbations of each run, at least 1.
    """

    learner: TrainingRuns
    engine: Engine
    truncation: int = dataclasses.field(default=20, kw_only=True)
    sigma: float = dataclasses.field(default=0.01, kw_only=True)
    num_pairs: int = dataclasses.field(default=2, kw_only=True)

    order = "zeroth"
    shardable = False
    compilable = False
    of_outer_loss = False

    def __post_init__(self) -> None:
        expect_whole("truncation", self.truncation)
        check_settings(self.sigma, self.num_pairs)

    def check(self, learner: BaseLearner) -> None:
        _expect_runs(learner)

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator, outer_step
        pairs = trials(tasks, self.num_pairs)
        like = perturbed(meta, self.learner)
        number = batch_size(pairs)
        none = {name: torch.zeros(number, *p.shape, dtype=p.dtype, device=p.device) for name, p in like.items()}
        with torch.no_grad():
            begun = torch.vmap(lambda t: self.learner.init(meta, t))(pairs)
            steps = pairs.support.steps
            fields = {"first": torch.zeros_like(steps), "over": steps, "run": begun, "other": begun, "sums": none}
            fresh = Segment(**{**fields_of(pairs), **fields, "key": pairs.key})
            prefix, own = of_network(carry, tasks)
            here = runs_at_hand(own, pairs, fresh)

        def advance(meta: Meta, segment: Segment) -> tuple[Tensor, Tensor, Any, Tensor]:
            assert segment.key is not None and segment.first is not None
            direction = noise(random_keys.fold(segment.key, segment.first), like)
            ends = []
            for run, by in ((segment.run, self.sigma), (segment.other, -self.sigma)):
                there = moved(meta, direction, by)
                ends.append(self.learner.segment(there, run, segment, segment.first, self.truncation))
            (up, run, last), (down, other, last_too) = ends
            good = torch.isfinite(up) & torch.isfinite(down) & torch.isfinite(last) & torch.isfinite(last_too)
            sums = {name: segment.sums[name] + direction[name] for name in like}
            return up - down, (up + down) / 2, (run, other, sums), good

        difference, loss, (run, other, sums), good = self.engine.each(advance, meta, here)
        weights = torch.where(good, difference, 0.0) / (2 * self.sigma) / number
        found = {name: torch.tensordot(weights.to(s.dtype), s, 1) for name, s in sums.items()}
        params, rule = like_meta(found, meta)
        assert here.first is not None
        after = dataclasses.replace(here, first=here.first + self.truncation, run=run, other=other, sums=sums)
        carry = carry | {prefix + name: value for name, value in kept(after, good).items()}
        return OuterGradient(params, rule, {}, carry, {"loss": _mean_of_good(loss, good)})


def _mean_of_good(loss: Tensor, good: Tensor) -> Tensor:
    """The mean loss of the runs that have not diverged; infinite where all have."""
    number = good.sum()
    mean = torch.where(good, loss, 0.0).sum() / number.clamp(min=1)
    return torch.where(number > 0, mean, torch.inf)


def _expect_runs(learner: BaseLearner) -> None:
    if not isinstance(learner, TrainingRuns):
        raise ConfigError(
            f"this estimator expected a learner of training runs (il.learned_optimizer), got {type(learner).__name__}; use "
            "backprop"
        )
