"""The metric against the distance from training's tasks, one line a method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from innerloop.report import numbers, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from innerloop.evaluation.shift import ShiftCurves


def shift_figure(curves: ShiftCurves, styles: Mapping[str, style.LineStyle] | None = None) -> Figure:
    """Means with their 95 % intervals at each distance; where amounts are names or switches, points without lines.

    Args:
        curves: of `innerloop.evaluation.shift.shift_curves`.
        styles: how each label is drawn; labels without one get a fresh one.
    """
    labels = list(curves.comparisons[0].reports)
    looks = style.pick(styles, labels)
    numbered = all(not isinstance(amount, str) for amount in curves.amounts)
    places = [float(a) for a in curves.amounts] if numbered else [float(i) for i in range(len(curves.amounts))]
    order = sorted(range(len(places)), key=places.__getitem__)
    continuous = numbered and curves.unit != "0 or 1"
    figure = style.new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    handles, drawn = [], []
    for row, label in enumerate(labels):
        reports = [curves.comparisons[i].reports[label] for i in order]
        look = looks[label]
        means = [r.mean if math.isfinite(r.mean) else math.nan for r in reports]
        # Points without lines would lie on one another: each method stands a little beside the last.
        beside = 0.0 if continuous else (row - (len(labels) - 1) / 2) * 0.12 / max(1, len(labels) - 1)
        handle = axes.errorbar(
            [places[i] + beside for i in order],
            means,
            yerr=[r.ci95 if math.isfinite(r.ci95) else 0.0 for r in reports],
            color=look.colour,
            marker=look.marker,
            linestyle=look.dashes if continuous else "none",
            capsize=3,
        )
        handles.append(handle)
        drawn += means
    if style.wants_log(drawn):
        style.log_axis(axes)
    if not continuous:
        names = {0.0: "no", 1.0: "yes"} if numbered else dict(zip(places, map(str, curves.amounts), strict=True))
        axes.set_xticks([places[i] for i in order], [style.plain(names[places[i]]) for i in order])
        axes.margins(x=0.25)
    first = next(iter(curves.comparisons[0].reports.values()))
    unit = f", {curves.unit}" if continuous else ""
    metric = numbers.axis_label(curves.metric)
    if numbers.is_fraction(curves.metric):
        style.percent_axis(axes)
    style.dress(axes, f"shift: {curves.kind}{unit}", metric, f"{first.num_tasks} {first.split} tasks, 95 % interval")
    style.legend_below(figure, handles, labels)
    return figure
