"""Adaptation curves: the metric on unseen tasks against inner steps, from 0 to twice the trained number or more."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from innerloop.core import Report, TaskDistribution
from innerloop.evaluation.evaluate import evaluate
from innerloop.report import numbers, style
from innerloop.report.page import Picture, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class AdaptationCurve:
    """One learner's metric after 0, 1, ... inner steps.

    Attributes:
        mean: over tasks, one value a number of steps, from 0.
        ci95: half-widths of the 95 % intervals; empty when unknown.
        trained_steps: inner steps in training; None or 0 when it was trained without any.
    """

    mean: tuple[float, ...]
    ci95: tuple[float, ...] = ()
    trained_steps: int | None = None


def from_report(report: Report, trained_steps: int | None = None) -> AdaptationCurve:
    """The curve of an evaluation that was asked for one (``curve_steps``)."""
    return AdaptationCurve(tuple(report.curve), tuple(report.curve_ci95), trained_steps)


def trained_steps(learner: Any) -> int:
    """Inner steps of training; for a learner that is trained without any, those it adapts with."""
    return int(learner.inner_steps or learner.eval_steps or 1)


def last_step(learners: Iterable[Any]) -> int:
    """Where curves end: twice the trained number of inner steps, and never before the steps that are evaluated."""
    return max(max(2 * trained_steps(learner), int(learner.eval_steps or 0)) for learner in learners)


def measure(
    learners: Mapping[str, Any],
    distribution: TaskDistribution,
    *,
    num_tasks: int = 100,
    seed: int = 0,
    steps: int | None = None,
) -> tuple[dict[str, AdaptationCurve], str]:
    """Every learner's curve on the same tasks, and the metric's name.

    Args:
        learners: label to MetaLearner.
        distribution: the tasks.
        num_tasks: how many.
        seed: which ones.
        steps: the last number of inner steps; None: `last_step`.
    """
    last = steps if steps is not None else last_step(learners.values())
    curves, metric = {}, ""
    for label, learner in learners.items():
        report = evaluate(learner, distribution, num_tasks=num_tasks, seed=seed, curve_steps=last, baselines=False)
        curves[label] = from_report(report, learner.inner_steps or None)
        metric = report.metric
    return curves, metric


def adaptation_figure(
    curves: Mapping[str, AdaptationCurve], metric: str, styles: Mapping[str, style.LineStyle] | None = None
) -> Figure:
    """The metric against inner steps with 95 % intervals, one line a learner; values that are not finite are
    left out.

    A dotted upright line marks the trained number of steps, where the learners share it.
    """
    looks = style.pick(styles, list(curves))
    figure = style.new_figure(6.2, 4.3)
    axes = figure.subplots()
    values = [v for curve in curves.values() for v in curve.mean]
    log = not numbers.is_fraction(metric) and style.wants_log(values)
    handles = []
    for label, curve in curves.items():
        marks = {"markersize": 5, "markevery": max(1, len(curve.mean) // 12)}
        steps = range(len(curve.mean))
        handles.append(style.line_with_band(axes, steps, curve.mean, curve.ci95, looks[label], positive=log, **marks))
    labels = list(curves)
    style.dress(axes, "inner steps", numbers.axis_label(metric))
    style.value_axis(axes, metric, values)
    trained = {curve.trained_steps for curve in curves.values() if curve.trained_steps}
    if len(trained) == 1:
        mark = axes.axvline(trained.pop(), color=style.INK, linewidth=1.2, linestyle=":")
        handles.append(mark)
        labels.append("inner steps in training")
    style.whole_steps(axes)
    last = max(len(curve.mean) for curve in curves.values()) - 1
    axes.set_xlim(-0.02 * max(last, 1), 1.02 * max(last, 1))
    style.legend_below(figure, handles, labels)
    return figure


def adaptation_picture(
    curves: Mapping[str, AdaptationCurve],
    metric: str,
    styles: Mapping[str, style.LineStyle] | None = None,
    *,
    tasks: str = "unseen tasks",
) -> Picture:
    """`adaptation_figure` with its caption; ``tasks`` says which tasks, e.g. "100 test tasks, seed 0"."""
    caption = (
        f"The {numbers.metric_name(metric)} on query examples after 0, 1, 2, ... inner steps on the support set: "
        f"mean over {tasks}, the same for every line; "
        "the bands are 95 % intervals over tasks. Zero steps is the model before it has adapted."
    )
    lost = [k for k, c in curves.items() if not np.all(np.isfinite(c.mean))]
    if lost:
        caption += f" {', '.join(lost)}: values that are not finite are left out; the inner loop diverged there."
    return Picture("adaptation", adaptation_figure(curves, metric, styles), caption)


def adaptation_table(curves: Mapping[str, AdaptationCurve], metric: str) -> Table:
    """The curves as numbers, at 0, 1, half of the longest and the longest number of steps."""
    longest = max(len(curve.mean) for curve in curves.values())
    chosen = sorted({0, 1, (longest - 1) // 2, longest - 1} & set(range(longest)))
    rows = []
    for label, curve in curves.items():
        cells = []
        for step in chosen:
            if step < len(curve.mean):
                half = curve.ci95[step] if curve.ci95 else None
                cells.append(numbers.with_interval(curve.mean[step], half, metric))
            else:
                cells.append("–")
        rows.append((label, *cells))
    header = ("", *("before adapting" if s == 0 else f"{s} step{'s' if s > 1 else ''}" for s in chosen))
    label = numbers.axis_label(metric)
    return Table(rows, header, f"{label[:1].upper()}{label[1:]} after inner steps")
