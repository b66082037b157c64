"""Held-out streams of classes: learn them one after another, and be judged on all of them at the end."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop.core import Examples, Meta, Task, TaskDistribution
from innerloop.engine import take
from innerloop.errors import ConfigError, InputError, expect_whole
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.learners.metric import class_means
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.provenance import commit, environment
from innerloop.waiting import waiting

RATES = tuple(1e-5 * 10 ** (k / 2) for k in range(10))  # 1e-5 to 0.3
_WIDENED = 3  # how often the grid grows by a rate where its best is at its edge
_FACTOR = 10**0.5
_AT_ONCE = 500  # pictures embedded together
_VALID_SEED = 12345  # of the streams that rates are chosen on, as `fit` draws its validation tasks


@dataclasses.dataclass(frozen=True)
class StreamScore:
    """What streams of one length left.

    Attributes:
        classes: in each stream.
        mean, ci95: accuracy on other examples of all classes at the end, over streams, and the half-width of its interval.
        learned: accuracy on the very examples that the streams showed, mean over streams.
        per_stream: the accuracy of each.
        rate: of the steps; chosen on validation streams of ``chosen_on`` classes. None: the method has none.
        chosen_on: see above.
        shuffled: accuracy after the same examples in random order, one pass: what their order costs. NaN where not measured.
        class_means: accuracy of the nearest mean of the same features, which forgets nothing. NaN where not measured.
    """

    classes: int
    mean: float
    ci95: float
    learned: float
    per_stream: tuple[float, ...]
    rate: float | None = None
    chosen_on: int | None = None
    shuffled: float = math.nan
    class_means: float = math.nan


@dataclasses.dataclass(frozen=True)
class StreamEvaluation:
    """The frozen result of `evaluate_stream`: a `StreamScore` for each length.

    Attributes:
        classes: by length.
        streams, seed, split: which streams.
        config, commit, environment, wall_seconds: as of `Report`.
    """

    classes: Mapping[int, StreamScore]
    streams: int
    seed: int
    split: str
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commit: str = ""
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wall_seconds: float = 0.0

    def __repr__(self) -> str:
        lines = []
        for number, score in self.classes.items():
            beside = [
                f"{name} {value:.3f}"
                for name, value in (("shuffled", score.shuffled), ("nearest class mean", score.class_means))
                if math.isfinite(value)
            ]
            rate = "" if score.rate is None else f", rate {score.rate:.2g}"
            lines.append(
                f"{number} classes: accuracy {score.mean:.3f} ± {score.ci95:.3f}"
                f" ({'; '.join([f'{self.streams} {self.split} streams{rate}', *beside])})"
            )
        return "\n".join(lines)


@waiting("learning streams")
def evaluate_stream(
    learner: MetaLearner,
    tasks: TaskDistribution,
    *,
    classes: Sequence[int] | int = (50,),
    streams: int = 10,
    seed: int = 0,
    rates: Sequence[float] | None = None,
    valid: TaskDistribution | None = None,
    valid_streams: int = 5,
) -> StreamEvaluation:
    """Accuracy on all classes of streams that a learner has gone through once, example by example, class after class.

    A method whose steps have a rate (`il.oml`, `il.anml`) gets the best one of a grid for each length, chosen on validation
    streams, never on these; where validation has fewer classes than a stream, on its longest. Others adapt to the stream as
    a task.

    Args:
        learner: nothing in it changes.
        tasks: one split of class streams, such as ``il.tasks.omniglot_stream().test``.
        classes: lengths of streams.
        streams: of each length.
        seed: which.
        rates: to choose from; None: ten from 1e-5 to 0.3, more where the best is at the edge. One: it is taken as it is.
        valid: streams that the rate is chosen on; None: the problem's validation split.
        valid_streams: how many.

    Raises:
        InputError: no class streams; more classes than the split has.
        ConfigError: a number out of range.
    """
    if not hasattr(tasks, "with_classes"):
        raise InputError(
            "evaluate_stream expected one split of class streams, such as il.tasks.omniglot_stream().test, got "
            f"{getattr(tasks, 'name', type(tasks).__name__)}"
        )
    lengths = [classes] if isinstance(classes, int) else list(classes)
    if not lengths:
        raise ConfigError("classes expected at least one number, got none; give classes=(50,)")
    for length in lengths:
        expect_whole("classes", length)
    expect_whole("streams", streams, 2)
    expect_whole("valid_streams", valid_streams)
    if rates is not None and (not rates or not all(math.isfinite(rate) and rate > 0 for rate in rates)):
        raise ConfigError(f"rates expected numbers above 0, got {list(rates)}")
    started = time.perf_counter()
    split: Any = tasks
    beside: Any = split.valid if valid is None else valid
    found = {}
    for length in lengths:
        chosen: tuple[float | None, int | None] = (None, None)
        of = split.with_classes(length)
        if _has_rate(learner):
            if rates is not None and len(rates) == 1:
                chosen = (float(rates[0]), None)
            else:
                if beside is None:
                    raise InputError(
                        f"{split.name} ({split.split}): expected validation streams to choose a rate on, got none; give valid= "
                        "or one rate"
                    )
                longest = min(length, beside.num_classes)
                chosen = (_best_rate(learner, beside.with_classes(longest), valid_streams, rates), longest)
        each = [_judged(learner, of.at(seed, i, 1), chosen[0]) for i in range(streams)]
        per_stream = tuple(float(values[0]) for values in each)
        mean, ci95 = mean_ci95(list(per_stream))
        learned, shuffled, nearest = (float(torch.stack(values).mean()) for values in list(zip(*each, strict=True))[1:])
        found[length] = StreamScore(length, mean, ci95, learned, per_stream, *chosen, shuffled, nearest)
    return StreamEvaluation(
        classes=found,
        streams=streams,
        seed=seed,
        split=split.split,
        config={"algorithm": learner.method_spec, "model": learner.model_record, "tasks": {"name": split.name}},
        commit=commit(),
        environment=environment(),
        wall_seconds=time.perf_counter() - started,
    )


def _has_rate(learner: MetaLearner) -> bool:
    return hasattr(learner.learner, "after")


class _Seen:
    """A stream whose pictures have gone through the body once.

    Attributes:
        task: the one stream, admitted.
        z, z_query: features of what it shows and of what it is judged on.
    """

    def __init__(self, learner: MetaLearner, stream: Task) -> None:
        self.inner: Any = learner.learner.in_evaluation()
        self.meta: Meta = learner.meta()
        ready = learner.ready(stream, 0)
        self.task: Task = take(self.inner.admit(ready), 0)
        with torch.no_grad():
            self.z, self.z_query = (self._features(side) for side in (self.task.support, self.task.query))
            self.blank: Tensor = self.inner.blank(self.meta, self.task)

    def _features(self, side: Examples) -> Tensor:
        parts = [self.inner.embed(self.meta, side.x[a : a + _AT_ONCE])[0] for a in range(0, len(side.y), _AT_ONCE)]
        return torch.cat(parts)

    def after(self, rate: float | Tensor, order: Tensor | None = None) -> Tensor:
        """The last layer after the stream."""
        z, side = self.z, self.task.support
        if order is not None:
            z, side = z[order], Examples(side.x, side.y[order])
        with torch.no_grad():
            return self.inner.after(self.blank, z, side, rate)

    def accuracy(self, weights: Tensor, shown: bool = False) -> Tensor:
        z, side = (self.z, self.task.support) if shown else (self.z_query, self.task.query)
        right = (z @ weights.mT).argmax(-1) == side.y
        finite = torch.isfinite(weights).flatten(-2).all(-1)
        return torch.where(finite, right.double().mean(-1), torch.nan)


def _best_rate(learner: MetaLearner, valid: Any, streams: int, rates: Sequence[float] | None) -> float:
    """The rate with the highest mean accuracy on validation streams; a best one at the edge of the grid widens it."""
    seen = [_Seen(learner, valid.at(_VALID_SEED, i, 1)) for i in range(streams)]
    tried = sorted(RATES if rates is None else rates)
    found: dict[float, float] = {}
    for turn in range(_WIDENED + 1):
        new = torch.tensor([rate for rate in tried if rate not in found], dtype=seen[0].z.dtype)
        means = torch.stack([one.accuracy(torch.vmap(one.after)(new)) for one in seen]).mean(0)
        found |= dict(zip([rate for rate in tried if rate not in found], means.nan_to_num(-1.0).tolist(), strict=True))
        highest = max(found.values())
        equal = [rate for rate in tried if found[rate] == highest]
        best = equal[len(equal) // 2]  # of equal ones the middle: no reason to look further out
        if len(tried) < 3 or turn == _WIDENED or best not in (tried[0], tried[-1]):
            return best
        tried = sorted([*tried, best / _FACTOR if best == tried[0] else best * _FACTOR])
    return best


def _judged(learner: MetaLearner, stream: Task, rate: float | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Accuracy on others, on what was shown, after the same in random order, and of nearest class means."""
    if rate is None:
        accuracy = []
        for side in (stream.query, stream.support):
            asked = dataclasses.replace(stream, query=side)
            predicted = learner.predict_queries(asked, learner.eval_steps, learner.inductive)[0].argmax(-1)
            accuracy.append((predicted.cpu() == side.y[0]).double().mean())
        none = torch.tensor(math.nan, dtype=torch.float64)
        return accuracy[0], accuracy[1], none, none
    seen = _Seen(learner, stream)
    weights, side = seen.after(rate), seen.task.support
    order = torch.randperm(len(side.y), generator=torch.Generator().manual_seed(0))
    means, _ = class_means(seen.z, side.y, len(weights))
    nearest = torch.cdist(seen.z_query.double(), means.double()).argmin(-1) == seen.task.query.y
    return (
        seen.accuracy(weights),
        seen.accuracy(weights, shown=True),
        seen.accuracy(seen.after(rate, order)),
        nearest.double().mean(),
    )
