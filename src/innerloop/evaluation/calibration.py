"""How a learner does on validation tasks of a new task's size, and how sure it has to be there to know an input's class.

Validation tasks are drawn with more classes than the learner is shown: queries of the classes that it was not shown are unknown
inputs. The score and the threshold are chosen on one half of the tasks, and what they keep and let through is measured on the
other half.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from innerloop.core import Examples, Task, TaskDistribution
from innerloop.errors import ConfigError, DivergedError, InnerloopWarning, InputError
from innerloop.evaluation.confidence import counted, expected_calibration_error
from innerloop.evaluation.evaluate import evaluate, in_batches, mean_ci95
from innerloop.meta_learner.fitted import Fitted
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.unknown_inputs import SCORES, Threshold, cannot_tell, class_probabilities
from innerloop.waiting import waiting

_QUERIES = (3, 2, 1)  # of each class, as many of these as the split allows
_REGRESSION_QUERIES = (10, 5, 1)


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What to expect of new tasks of the learner's own problem.

    Attributes:
        metric: accuracy (a fraction) or the problem's own.
        mean, ci95: over validation tasks, and the half-width of the 95 % interval.
        num_tasks: how many.
        ways, shots: classes of a task and support examples of each (regression: 0, and support examples).
        problem: whose tasks they are.
        ece: of classes: how far the probabilities are off there, see `innerloop.evaluation.confidence`.
        threshold: for unknown inputs; None: see ``lacking``. One that does not work (`Threshold.works`) is not offered.
        lacking: why there is no threshold.
    """

    metric: str
    mean: float
    ci95: float
    num_tasks: int
    ways: int
    shots: int
    problem: str
    ece: float | None = None
    threshold: Threshold | None = None
    lacking: str = ""


@waiting("measuring on validation tasks")
def calibrate(
    fitted: Fitted,
    tasks: TaskDistribution,
    *,
    num_tasks: int = 100,
    keep: float = 0.95,
    shots: int | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Fitted:
    """The same adapted task with a threshold for unknown inputs, so that ``fitted.predict(x, unknown="unknown")`` works.

    Args:
        fitted: a classification task.
        tasks: the validation split of the learner's problem.
        num_tasks: half of them calibrate, half measure.
        keep: the share of inputs of known classes that are to keep their class.
        shots: support examples of a class; None: as the task had. Needed for a task from a file, which does not hold them.
        steps: inner steps; None: the learner's ``eval_steps``.
        seed: which tasks.

    Raises:
        ConfigError: ``num_tasks`` below 4, ``keep`` not between 0 and 1, or a regression task.
        InputError: a split without classes to hold out.
    """
    if fitted.classes_ is None:
        raise ConfigError("calibrate expected a classification task, got regression; it has no unknown classes")
    if shots is None:
        counts = torch.bincount(fitted.support.y.flatten().long(), minlength=len(fitted.classes_))
        if int(counts.min()) == 0:
            raise ConfigError(
                "calibrate expected shots with a task from a file, which does not hold its examples; give it"
            )
        shots = typical_shots(counts.tolist())
    assert isinstance(fitted.owner, MetaLearner)
    found = expectation(
        fitted.owner, tasks, len(fitted.classes_), shots, num_tasks=num_tasks, keep=keep, steps=steps, seed=seed
    )
    if found.threshold is None:
        raise InputError(f"calibrate expected a split with classes to hold out, got none: {found.lacking}")
    if not found.threshold.works:
        warnings.warn(cannot_tell(found.threshold), InnerloopWarning, stacklevel=2)
    return dataclasses.replace(fitted, threshold=found.threshold)


def typical_shots(counts: Sequence[int]) -> int:
    """The (lower) median number of examples of a class."""
    return sorted(counts)[(len(counts) - 1) // 2]


@waiting("measuring on validation tasks")
def expectation(
    learner: MetaLearner,
    tasks: TaskDistribution,
    ways: int,
    shots: int,
    *,
    num_tasks: int = 100,
    keep: float = 0.95,
    steps: int | None = None,
    seed: int = 0,
) -> Expectation:
    """How ``learner`` does on tasks of a split with ``ways`` classes and ``shots`` examples of each, or as near as there are.

    Args:
        learner: nothing in it changes.
        tasks: the validation split of its problem.
        ways: 0 for regression.
        shots: support examples of a class; for regression of the task.
        num_tasks, keep, steps, seed: as for `calibrate`.

    Raises:
        ConfigError: ``num_tasks`` below 4, or ``keep`` not between 0 and 1.
        DivergedError: predictions that are not finite.
    """
    if num_tasks < 4:
        raise ConfigError(f"num_tasks expected at least 4, half of them to calibrate on, got {num_tasks}")
    if not 0 < keep < 1:
        raise ConfigError(f"keep expected a share between 0 and 1, got {keep}")
    size = _nearest(tasks, ways, shots)
    if size.held_out:
        return _with_threshold(learner, size, num_tasks, keep, steps, seed)
    report = evaluate(
        learner, size.tasks, num_tasks=num_tasks, seed=seed, steps=steps, transductive=False, baselines=False
    )
    return Expectation(
        report.metric,
        report.mean,
        report.ci95,
        num_tasks,
        size.ways,
        size.shots,
        tasks.name,
        report.ece,
        lacking=size.lacking,
    )


class _Size(NamedTuple):
    """Tasks of the nearest size; the first ``ways`` classes are shown, the next ``held_out`` are not."""

    tasks: TaskDistribution
    ways: int
    shots: int
    held_out: int = 0
    lacking: str = ""


def _nearest(tasks: TaskDistribution, ways: int, shots: int) -> _Size:
    def allows(ways: int, shots: int, queries: int) -> bool:
        try:
            tasks.resized(ways, shots, queries)
        except InputError:
            return False
        return True

    own = _Size(tasks, tasks.output_size if ways else 0, getattr(tasks, "shots", None) or shots)
    try:
        allows(2, 1, 1)
    except ConfigError:
        return own._replace(lacking=f"the tasks of {tasks.name!r} have a fixed size")
    fewest = 2 if ways else 0
    found = next((k for k in range(shots, 0, -1) if allows(fewest, k, 1)), None)
    if found is None:
        return own._replace(lacking=f"the tasks of {tasks.name!r} cannot have another size")
    queries = next(q for q in (_QUERIES if ways else _REGRESSION_QUERIES) if allows(fewest, found, q))
    if not ways:
        return _Size(tasks.resized(0, found, queries), 0, found, lacking="regression has no classes")
    total = next(w for w in range(max(2 * ways, 3), 1, -1) if allows(w, found, queries))
    if total > 2 and not tasks.scaled_by_support:
        shown = min(ways, total - 1)
        return _Size(tasks.resized(total, found, queries), shown, found, total - shown)
    shown = min(ways, total)
    why = "has two classes only" if total == 2 else "has tasks that are scaled by their own support rows"
    return _Size(
        tasks.resized(shown, found, queries), shown, found, lacking=f"the validation split of {tasks.name!r} {why}"
    )


# ---- classes that are not shown ------------------------------------------------------------------------------------
def without_classes(task: Task, ways: int) -> Task:
    """A batch whose support sets have only the classes below ``ways``; the queries stay, their labels do not."""
    support, query = task.support, task.query
    shown = support.y < ways if support.mask is None else (support.y < ways) & support.mask
    counts = shown.sum(1)
    if support.mask is None and bool((counts == counts[0]).all()):
        order = shown.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, : int(counts[0])]
        rows = torch.arange(len(order), device=order.device)[:, None]
        support = Examples(support.x[rows, order], support.y[rows, order])
    else:
        support = Examples(support.x, support.y.where(shown, 0), shown)
    return dataclasses.replace(
        task,
        support=support,
        query=Examples(query.x, torch.zeros_like(query.y), query.mask),
        class_ids=None if task.class_ids is None else task.class_ids[:, :ways],
    )


class _Judged(NamedTuple):
    """Queries of some tasks, one after another: outputs, true labels, and which task each is of."""

    out: Tensor
    y: Tensor
    task: Tensor

    def of(self, chosen: Bool[Tensor, " queries"]) -> _Judged:
        return _Judged(*(part[chosen] for part in self))


def _judged(learner: MetaLearner, size: _Size, num_tasks: int, steps: int | None, seed: int) -> _Judged:
    parts, start = [], 0
    for batch in in_batches(size.tasks, num_tasks, seed=seed):
        number = len(batch.query.y)
        # As `Fitted` predicts: no query sees another, so the unknown ones do not change what is said of the known.
        out = learner.predict_queries(without_classes(batch, size.ways), steps, inductive=True).cpu()
        counts = torch.ones_like(batch.query.y, dtype=torch.bool) if batch.query.mask is None else batch.query.mask
        task = torch.arange(start, start + number)[:, None].expand(counts.shape)
        parts.append(_Judged(out[counts], batch.query.y[counts], task[counts]))
        start += number
    found = _Judged(*(torch.cat(part) for part in zip(*parts, strict=True)))
    if not bool(torch.isfinite(found.out).all()):
        raise DivergedError("predictions on validation tasks are not finite; use fewer steps, or a lower inner rate")
    return found


def _with_threshold(
    learner: MetaLearner, size: _Size, num_tasks: int, keep: float, steps: int | None, seed: int
) -> Expectation:
    found = _judged(learner, size, num_tasks, steps, seed)
    known = found.y < size.ways
    named = found.of(known)
    right = _right(named, size.ways)
    per_task = [float(right[named.task == i].mean()) for i in range(num_tasks) if bool((named.task == i).any())]
    mean, ci95 = mean_ci95(per_task)
    name = size.tasks.name
    ece = expected_calibration_error(counted(named.out[None, :, : size.ways], named.y[None]))
    result = Expectation("accuracy", mean, ci95, len(per_task), size.ways, size.shots, name, ece)
    half = num_tasks // 2
    first, second = found.task < half, found.task >= half
    if not all(bool((part & side).any()) for part in (known, ~known) for side in (first, second)):
        return dataclasses.replace(result, lacking=f"the validation tasks of {name!r} have no further classes")
    wide = found.out.ndim > 1 and found.out.shape[-1] > 1
    scores = {s: score(found.out, size.ways) for s, score in SCORES.items() if wide or s == "max_probability"}
    best = max(scores, key=lambda s: area(scores[s][first & known], scores[s][first & ~known]))
    score = scores[best]
    value = threshold_of(score[first & known], keep)
    return dataclasses.replace(
        result,
        threshold=Threshold(
            score=best,
            value=value,
            keep=keep,
            kept=_share(score[second & known] >= value),
            false_accept=_share(score[second & ~known] >= value),
            auroc=area(score[second & known], score[second & ~known]),
            ways=size.ways,
            shots=size.shots,
            num_tasks=half,
            problem=name,
            ece=ece,
        ),
    )


def _right(judged: _Judged, ways: int) -> Tensor:
    """1 where the most probable class is the true one, 0 elsewhere."""
    return (class_probabilities(judged.out, ways).argmax(-1) == judged.y).to(torch.float64)


def threshold_of(known: Float[Tensor, " queries"], keep: float) -> float:
    """The largest score that at least ``keep`` of these reach."""
    return float(known.sort().values[int((1 - keep) * len(known))])


def area(known: Float[Tensor, " known"], unknown: Float[Tensor, " unknown"]) -> float:
    """The area under the ROC curve: how often a known input scores higher than an unknown one, ties counted half."""
    ordered = unknown.sort().values
    below, upto = (torch.searchsorted(ordered, known, right=right) for right in (False, True))
    return float((below + upto).double().mean()) / (2 * len(unknown))


def _share(chosen: Tensor) -> float:
    return float(chosen.double().mean())
