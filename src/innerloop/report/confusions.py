"""Which classes are taken for which: of a problem with named classes, over many tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from innerloop.core import TaskDistribution
from innerloop.objectives import losses
from innerloop.report import style
from innerloop.report.image_tasks import class_names
from innerloop.report.page import Part, Picture, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TASKS = 100
_SQUARE = 16  # classes that a matrix can show; of more, the pairs that are confused most
_PAIRS = 10

Counts = dict[tuple[str, str], int]  # (true class, what it was taken for) -> how often


def counted(learner: Any, distribution: TaskDistribution, *, num_tasks: int = _TASKS, seed: int = 0) -> Counts:
    """How often queries of a class were taken for another, or for their own, over some tasks."""
    tasks = distribution.at(seed, 0, num_tasks)
    said = learner.predict_queries(tasks).argmax(-1).cpu()
    found: Counter[tuple[str, str]] = Counter()
    for i in range(num_tasks):
        names = class_names(tasks, i, distribution)
        keep = tasks.query.mask[i].bool() if tasks.query.mask is not None else slice(None)
        for true, taken in zip(tasks.query.y[i][keep].tolist(), said[i][keep].tolist(), strict=True):
            found[names[true], names[taken]] += 1
    return dict(found)


def confusion_figure(counts: Counts) -> Figure:
    """A square of true classes against what they were taken for, in per cent of each class's queries."""
    names = sorted({name for pair in counts for name in pair})
    square = np.array([[counts.get((true, taken), 0) for taken in names] for true in names], dtype=float)
    share = 100 * square / np.maximum(square.sum(1, keepdims=True), 1)
    figure = style.new_figure(2.2 + 0.42 * len(names), 1.9 + 0.42 * len(names))
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (true, taken), value in np.ndenumerate(share):
        if value >= 0.5:
            colour = "white" if value > 60 else style.INK
            axes.text(taken, true, f"{value:.0f}", ha="center", va="center", fontsize=9, color=colour)
    labels = [style.plain(style.shortened(name, 16)) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=60, ha="right", fontsize=style.SMALL)
    axes.set_yticks(range(len(names)), labels, fontsize=style.SMALL)
    axes.set_xlabel("taken for", fontsize=style.FONT)
    axes.set_ylabel("is", fontsize=style.FONT)
    return figure


def section(learners: Mapping[str, Any], distribution: TaskDistribution) -> list[Section]:
    """One for the first learner, where tasks know the names of their classes; nothing elsewhere."""
    objective = distribution.objective
    has_classes = losses.is_labelled(objective) and not losses.predicts_values(objective)
    if getattr(distribution, "class_name", None) is None or not has_classes:
        return []
    label, learner = next(iter(learners.items()))
    counts = counted(learner, distribution)
    if not any(true != taken for true, taken in counts):
        return [Section("Confusions", [f"{label} takes no query of {_TASKS} validation tasks for another class."])]
    parts: list[Part] = []
    if len({name for pair in counts for name in pair}) <= _SQUARE:
        told = (
            f"{label}, {_TASKS} validation tasks: in each row the queries of one class, in per cent by what they were taken "
            "for. In a task a class can only be taken for one that is in it."
        )
        parts.append(Picture("confusions", confusion_figure(counts), told))
    else:
        shown = Counter({pair: n for pair, n in counts.items() if pair[0] != pair[1]}).most_common(_PAIRS)
        of = Counter[str]()
        for (true, _), n in counts.items():
            of[true] += n
        rows = [(true, taken, str(n), str(of[true])) for (true, taken), n in shown]
        parts.append(
            f"{label}, {_TASKS} validation tasks with {len(of)} classes: what is taken for something else most often."
        )
        parts.append(Table(rows, ("is", "taken for", "times", "of queries of its class")))
    return [Section("Confusions", parts)]
