"""How good an adapted task is on its own few examples, beside the simplest predictors: parts are left out and judged.

The examples are dealt into parts, each class over all of them. The learner is adapted to all parts but one and asked about that
one, and so are the baselines: the same examples, shown and asked, for all. It is adapted with fewer examples than the task has,
so the task itself may do somewhat better.
"""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import Examples, Task
from innerloop.data.table_preprocessing import table_record
from innerloop.data.table_support import encoded
from innerloop.data.tables import Table
from innerloop.errors import ConfigError, InnerloopError, InnerloopWarning
from innerloop.evaluation import baselines, scikit_baselines
from innerloop.meta_learner.fitted import Fitted, adapted
from innerloop.meta_learner.fitted_data import FittedData
from innerloop.meta_learner.own_examples import ONE_EACH, Judged, OnOwn
from innerloop.meta_learner.support_set import Shown, support_set, targets_in, wanted_by
from innerloop.objectives import losses
from innerloop.waiting import waiting

PARTS = 10  # at most: how often the learner is adapted
MOST = 200  # examples that are left out, where there are more
SECONDS = 10.0
_LEARNER = "learner"
_FEWEST_VALUES = 3  # examples of a regression task


@waiting("judging on the task's own examples, parts of which are left out in turn")
def judge(fitted: Fitted, *, parts: int = PARTS, seconds: float = SECONDS, scikit: bool = True) -> Fitted:
    """The same adapted task with what it reaches on its own examples, beside the simplest predictors: ``fitted.judged``.

    The interval of an accuracy is Wilson's (1927, JASA 22:209), that of a difference of two Agresti and Min's for matched pairs
    (2005, Statistics in Medicine 24:729).

    Args:
        fitted: a task of labelled examples, with its support set.
        parts: into how many the examples are dealt at most, which is how often the learner is adapted.
        seconds: no further part is left out after these; one is in any case. Those of scikit-learn get as long again, and are
            left out where that is not enough for all parts.
        scikit: also a random forest, and for classes logistic regression, where scikit-learn is installed and the inputs are
            rows of numbers.

    Raises:
        ConfigError: another kind of task, one from a file without its examples, or fewer than two parts.
    """
    if parts < 2:
        raise ConfigError(f"parts expected at least 2, got {parts}")
    if isinstance(fitted, FittedData):
        raise ConfigError(
            f"judge expected a task of labelled examples, got one of the objective {fitted.objective}; use score"
        )
    if not fitted.holds_support:
        raise ConfigError(
            "judge expected a task with its examples, got one from a file without them; adapt again, or save it with "
            "fitted.save(path, support=True)"
        )
    metric = "rmse" if fitted.classes_ is None else "accuracy"
    examples = len(fitted.support.y)
    try:
        found = _judged(fitted, metric, parts, seconds, scikit)
    except InnerloopError as error:
        found = Judged(metric, examples, lacking=f"adapting to a part of them failed: {' '.join(str(error).split())}")
    return dataclasses.replace(fitted, judged=found)


def _judged(fitted: Fitted, metric: str, most_parts: int, seconds: float, scikit: bool) -> Judged:
    n = len(fitted.support.y)
    if why := _lacking(fitted):
        return Judged(metric, n, lacking=why)
    labels = None if fitted.classes_ is None else fitted.support.y.reshape(n).long().tolist()
    folds = deal(labels, n, most_parts)
    done: list[_Fold] = []
    right: dict[str, list[Tensor]] = {}
    started = time.perf_counter()
    for left_out in folds:
        fold = _fold(fitted, [i for i in range(n) if i not in set(left_out)], left_out)
        done.append(fold)
        right.setdefault(_LEARNER, []).append(fold.right_or_error(fold.said()))
        for name in baselines.names(fold.task):
            right.setdefault(name, []).append(fold.right_or_error(fold.said_by(name)))
        if time.perf_counter() - started > seconds and sum(map(len, right[_LEARNER])) > 1:
            break
    if scikit and len(right) > 1:
        right |= _of_scikit(done, seconds)
    found = {name: torch.cat(each) for name, each in right.items() if len(each) == len(done)}
    own = found.pop(_LEARNER)
    of_classes = labels is not None
    counts = [] if labels is None else [labels.count(c) for c in set(labels)]
    return Judged(
        metric=metric,
        examples=n,
        judged=len(own),
        parts=len(folds),
        one_of_each=len(folds) == (min(counts) if of_classes and len(set(counts)) == 1 else n),
        learner=_on_own(own, of_classes),
        baselines={name: _on_own(one, of_classes, own) for name, one in found.items()},
    )


def _of_scikit(done: Sequence[_Fold], seconds: float) -> dict[str, list[Tensor]]:
    """Those of scikit-learn on the same parts, each as far as it gets in time: one that lacks a part does not count."""
    found: dict[str, list[Tensor]] = {}
    started = time.perf_counter()
    for name in scikit_baselines.names(done[0].task):
        for fold in done:
            if time.perf_counter() - started > seconds:
                return found
            found.setdefault(name, []).append(fold.right_or_error(fold.said_by(name)))
    return found


def _lacking(fitted: Fitted) -> str:
    """Why nothing can be left out, as words after "as"; "" where something can."""
    n = len(fitted.support.y)
    record = table_record(fitted.preprocessing)
    if record is not None and record.support is not None and fitted.table is None:
        return "all of them together scale the rows; give a table with its target column"
    if fitted.classes_ is None:
        objective = fitted.owner.loss or fitted.objective
        if losses.is_binary(objective):
            return "several labels an example are not judged here"
        if bool(fitted.support.y.isnan().any()):
            return "targets are missing, which is not judged here"
        return "" if n >= _FEWEST_VALUES else f"there are {n} only; give {_FEWEST_VALUES} or more"
    labels = fitted.support.y.reshape(n).long().tolist()
    if all(labels.count(c) < 2 for c in set(labels)):
        return ONE_EACH
    return ""


def deal(labels: Sequence[int] | None, n: int, most_parts: int, most: int = MOST) -> list[list[int]]:
    """Examples in parts, each class spread evenly; those of a class of one are in none, as it would not be known without.

    Args:
        labels: of the examples; None: they have values.
        n: how many examples.
        most_parts: how many parts at most.
        most: how many examples are in parts at most.
    """
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()
    kinds = [0] * n if labels is None else list(labels)
    by_kind = {kind: [i for i in order if kinds[i] == kind] for kind in sorted(set(kinds))}
    by_kind = {kind: own for kind, own in by_kind.items() if len(own) > 1}
    parts = min(most_parts, max(len(own) for own in by_kind.values()))
    kept = max(1, math.ceil(most / len(by_kind)))
    found: list[list[int]] = [[] for _ in range(parts)]
    at = 0
    for own in by_kind.values():
        for i in own[:kept]:
            found[at % parts].append(i)
            at += 1
    return [sorted(part) for part in found if part]


class _Fold(NamedTuple):
    """The learner adapted to some of the examples, and the others.

    Attributes:
        fitted: adapted to those that are shown.
        asked: the others as `Fitted.outputs` takes them.
        task: both, as the baselines take them.
        truth: labels (asked,), or values (asked, outputs) in the targets' unit.
    """

    fitted: Fitted
    asked: Any
    task: Task
    truth: Tensor

    def said(self) -> Tensor:
        """The learner's labels, or its values in the targets' unit."""
        with warnings.catch_warnings(action="ignore", category=InnerloopWarning):  # the whole table was told of before
            out = self.fitted.outputs(self.asked).cpu()
        if self.fitted.classes_ is None:
            return self._in_units(out)
        return self.fitted.probabilities(out).argmax(-1)

    def said_by(self, name: str) -> Tensor:
        """The same of a baseline."""
        classes = self.fitted.classes_
        ways = 0 if classes is None else len(classes)
        of = scikit_baselines if name in scikit_baselines.NAMES else baselines
        out = of.predictions(name, self.task, ways)[0].cpu()
        return self._in_units(out) if classes is None else out.argmax(-1)

    def right_or_error(self, said: Tensor) -> Tensor:
        """1 or 0, or the squared error over the outputs, of each of the asked."""
        if self.fitted.classes_ is not None:
            return (said == self.truth).double()
        losses.check_shapes(losses.mse, said, self.truth)
        return (said.double() - self.truth.double()).square().reshape(len(said), -1).mean(1)

    def _in_units(self, out: Tensor) -> Tensor:
        found = torch.as_tensor(self.fitted.in_units(out, self.asked))
        return found.reshape(self.truth.shape) if found.numel() == self.truth.numel() else found


def _fold(fitted: Fitted, shown: list[int], left_out: list[int]) -> _Fold:
    owner, support, classes = fitted.owner, fitted.support, fitted.classes_
    steps = owner.eval_steps if fitted.steps is None else fitted.steps
    if fitted.table is not None and table_record(fitted.preprocessing) is not None:
        record = table_record(fitted.preprocessing)
        assert record is not None
        target = record.targets[0] if len(record.targets) == 1 else None
        given = support_set(wanted_by(owner), fitted.table.take(np.array(shown)), target=target)
        rest = adapted(owner, given._replace(notes=()), fitted.meta, fitted.objective, steps)
        asked: Any = fitted.table.take(np.array(left_out))
        z = torch.as_tensor(encoded(asked, rest.preprocessing)[0]).to(rest.support.x)
    else:
        rows = torch.tensor(shown, device=support.y.device)
        side = Examples(pytree.tree_map(lambda v: v[rows][None], support.x), support.y[rows][None])
        rest = adapted(owner, Shown(side, classes, fitted.preprocessing, None), fitted.meta, fitted.objective, steps)
        asked = z = pytree.tree_map(lambda v: v[left_out], support.x)
    if classes is not None and rest.classes_ != classes:
        raise InnerloopError("a part of them has other classes")  # so that no label is taken for another
    y, truth = rest.support.y, support.y[left_out]
    if classes is not None:
        y, truth = y.reshape(len(y)).long(), truth.reshape(len(left_out)).long().cpu()
    elif isinstance(asked, Table):
        values = torch.as_tensor(targets_in(asked, rest.preprocessing, None))
        truth = torch.as_tensor(rest.in_units(values, asked))
    task = Task(
        pytree.tree_map(lambda v: v[None], Examples(rest.support.x, y)),
        Examples(pytree.tree_map(lambda v: v[None], z), torch.zeros(1, len(left_out), dtype=torch.long)),
        fitted.objective,
    )
    items = len(record.items) if (record := table_record(fitted.preprocessing)) is not None else 0
    return _Fold(rest, asked, baselines.seen(task, fitted.preprocessing, items), truth.cpu())


# ---- intervals ---------------------------------------------------------------------------------------------------
_Z = 1.96


def wilson(right: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, ``right`` of ``n``."""
    share, z = right / n, _Z**2 / n
    middle = (share + z / 2) / (1 + z)
    half = _Z / (1 + z) * math.sqrt(share * (1 - share) / n + z / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def matched_pairs(first: Tensor, second: Tensor) -> tuple[float, float]:
    """The 95 % interval of the difference of two shares of the same examples, each 0 or 1: half a count added to each cell."""
    n = len(first) + 2
    only_first = float((first > second).sum()) + 0.5
    only_second = float((second > first).sum()) + 0.5
    lead = (only_first - only_second) / n
    half = _Z * math.sqrt(max(0.0, only_first + only_second - (only_first - only_second) ** 2 / n)) / n
    return lead - half, lead + half


def _on_own(values: Tensor, of_classes: bool, learners: Tensor | None = None) -> OnOwn:
    """A predictor by whether it was right, or its squared errors; and the learner's lead over it."""
    mean, half = _mean(values)
    if of_classes:
        low, high = wilson(float(values.sum()), len(values))
        value = mean
    else:
        value, low, high = (math.sqrt(max(0.0, v)) for v in (mean, mean - half, mean + half))
    if learners is None:
        return OnOwn(value, low, high)
    lead, lead_half = _mean(learners - values if of_classes else values - learners)
    ends = matched_pairs(learners, values) if of_classes else (lead - lead_half, lead + lead_half)
    return OnOwn(value, low, high, lead, *ends)


def _mean(values: Tensor) -> tuple[float, float]:
    """The mean, and the half-width of its 95 % interval."""
    half = _Z * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return float(values.mean()), half
