"""Which method fits: one paragraph and one picture, made from what was measured; and the same away from training's tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from innerloop.evaluation.compare import Comparison
from innerloop.evaluation.costs import Cost
from innerloop.report import numbers, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from innerloop.evaluation.shift import ShiftCurves

_CLOSE = 1.1  # times that are within ten percent of each other are not told apart


def verdict(comparison: Comparison) -> str:
    """The best, what cannot be told from it, and the cheapest of those, in plain sentences.

    "Told apart" is by the paired 95 % interval on these tasks, or over seeds; times within ten percent of each
    other count as equal.
    """
    labels = list(comparison.reports)
    best = comparison.reports[labels[0]]
    name = numbers.metric_name(comparison.metric)
    result = numbers.with_interval(best.mean, best.ci95, comparison.metric)
    finite = [label for label in labels if _finite(comparison, label)]
    if not finite:
        return "Every method diverged on some of these tasks, so none can be recommended."
    direction = "highest" if best.higher_is_better else "lowest"
    good = list(comparison.as_good)
    seeds = len(comparison.seeds.get(labels[0], ()))
    number = f"{seeds} seeds" if seeds else f"{best.num_tasks} tasks"
    said = [f"{labels[0]} has the {direction} {name}, {result}."]
    if len(good) > 1:
        said.append(f"Not told apart from it by these {number}: {_and(good[1:])}.")
    else:
        said.append(f"On these {number} it is clearly ahead of every other one.")
    said += _cheapest(comparison.costs, good)
    said += _trade(comparison, good, finite)
    diverged = [label for label in labels if label not in finite]
    if diverged:
        said.append(f"{_and(diverged)} diverged on some tasks: fewer or smaller inner steps may help.")
    kinds = {flag: [k for k, r in comparison.reports.items() if r.transductive is flag] for flag in (True, False)}
    if all(kinds.values()):
        said.append(f"{_and(kinds[True])} saw all queries of a task at once (transductive), the others did not.")
    return " ".join(said)


def _finite(comparison: Comparison, label: str) -> bool:
    return math.isfinite(comparison.reports[label].mean)


def _cheapest(costs: Mapping[str, Cost], good: Sequence[str]) -> list[str]:
    """Among the methods that are as good as the best: which is quickest, which needs the least memory?"""
    if not costs:
        return []
    quick = min(good, key=lambda label: costs[label].seconds)
    small = min(good, key=lambda label: costs[label].peak_bytes)
    time, memory = milliseconds(costs[quick].seconds), size(costs[small].peak_bytes)
    if len(good) == 1:
        return [f"It takes {time} and {memory} of tensors to adapt to one task and answer its queries."]
    also = [label for label in good if label != quick and costs[label].seconds <= _CLOSE * costs[quick].seconds]
    equal = f" ({_and(also)} within ten percent of that)" if also else ""
    if quick == small:
        return [
            f"Among these take {quick}: it adapts fastest, {time} a task{equal}, and in the least memory, {memory}."
        ]
    return [
        f"Among these {quick} adapts fastest, {time} a task{equal}, and {small} in the least memory, {memory}: "
        "take the one that you are short of."
    ]


def _trade(comparison: Comparison, good: Sequence[str], finite: Sequence[str]) -> list[str]:
    """The best of the clearly worse ones that adapt in less than half the time, if any: what speed would cost."""
    costs = comparison.costs
    if not costs:
        return []
    least = min(costs[label].seconds for label in good)
    faster = [label for label in finite if label not in good and costs[label].seconds < least / 2]
    if not faster:
        return []
    report = comparison.reports[faster[0]]
    value = numbers.with_interval(report.mean, report.ci95, comparison.metric)
    time = milliseconds(costs[faster[0]].seconds)
    return [
        f"Where time matters more, {faster[0]} is the best of those that need less than half of it: {value} in {time}."
    ]


def comparison_figure(comparison: Comparison) -> Figure:
    """Means with 95 % intervals; and, where costs were measured, the metric against adaptation time and memory.

    Methods are numbered in order of merit, and the points of all panels carry these numbers.
    """
    labels = list(comparison.reports)
    looks = style.assign(labels)
    panels = 3 if comparison.costs else 1
    figure = style.new_figure(6.4 if panels == 1 else 12.5, max(3.4, 1.1 + 0.32 * len(labels)))
    grid = figure.subplots(1, panels, squeeze=False)[0]
    means: Axes = grid[0]
    for row, label in enumerate(labels):
        if _finite(comparison, label):
            report = comparison.reports[label]
            means.errorbar(
                report.mean, row, xerr=report.ci95, fmt=looks[label].marker, color=looks[label].colour, capsize=3
            )
    means.set_yticks(range(len(labels)), [f"{i} {style.plain(label)}" for i, label in enumerate(labels, start=1)])
    means.set_ylim(len(labels) - 0.5, -0.5)
    first = comparison.reports[labels[0]]
    name = numbers.axis_label(comparison.metric)
    seeds = len(comparison.seeds.get(labels[0], ()))
    over = f" over {seeds} seeds" if seeds else ""
    style.dress(means, name, "", f"{first.num_tasks} {first.split} tasks, 95 % interval{over}")
    costs = comparison.costs
    if costs:
        in_ms = {label: 1e3 * cost.seconds for label, cost in costs.items()}
        in_mb = {label: cost.peak_bytes / 1e6 for label, cost in costs.items()}
        _against(grid[1], comparison, looks, in_ms, "ms to adapt to one task and answer")
        _against(grid[2], comparison, looks, in_mb, "MB of tensors meanwhile")
    if numbers.is_fraction(comparison.metric):
        from matplotlib.ticker import PercentFormatter

        means.xaxis.set_major_formatter(PercentFormatter(xmax=1.0, symbol=""))
        for axes in grid[1:]:
            style.percent_axis(axes)
    return figure


def _against(
    axes: Axes, comparison: Comparison, looks: Mapping[str, style.LineStyle], places: Mapping[str, float], said: str
) -> None:
    for number, (label, report) in enumerate(comparison.reports.items(), start=1):
        if _finite(comparison, label):
            # Intervals are in the first panel; here they would hide each other.
            axes.plot(places[label], report.mean, looks[label].marker, color=looks[label].colour)
            axes.annotate(
                str(number), (places[label], report.mean), (5, 4), textcoords="offset points", fontsize=style.SMALL
            )
    axes.margins(0.12)
    style.log_axis(axes, "x")
    style.dress(axes, said, numbers.axis_label(comparison.metric))


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


def milliseconds(seconds: float) -> str:
    """A time of adapting: "0.84 ms", "12 ms", "1.2 s"."""
    if seconds >= 1.0:
        return numbers.duration(seconds)
    return f"{1e3 * seconds:.2g} ms" if seconds < 0.0995 else f"{1e3 * seconds:.0f} ms"


def size(count: int) -> str:
    """Bytes of tensors: "0.02 MB", "3.1 MB", "120 MB"."""
    return f"{count / 1e6:.2g} MB" if count < 9.95e7 else f"{count / 1e6:.0f} MB"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
