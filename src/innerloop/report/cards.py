"""The tables of a report: the evaluation card, the comparison of several learners, the settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from innerloop.core import Report
from innerloop.errors import InputError
from innerloop.evaluation.confidence import off_by
from innerloop.report import numbers
from innerloop.report.page import Table

MISSING = "–"


def evaluation_card(report: Report, extra: Mapping[str, str] | None = None) -> Table:
    """Everything needed to repeat or to doubt a number, one row a fact; ``extra`` adds rows at the end."""
    lost = sum(not math.isfinite(v) for v in report.per_task)
    rows = [
        (
            numbers.metric_name(report.metric),
            numbers.with_interval(report.mean, report.ci95, report.metric) + " (mean over tasks, 95 % interval)",
        ),
        *(
            [("median over tasks", median(report))]
            if report.per_task and not numbers.is_fraction(report.metric)
            else []
        ),
        *([("tasks that are not finite", f"{lost} of {len(report.per_task)}")] if lost else []),
        *(
            (f"baseline {name}", numbers.with_interval(b.mean, b.ci95, report.metric))
            for name, b in report.baselines.items()
        ),
        *([("beside the baselines", report.beside.partition(" (")[0])] if report.beside else []),
        *([("calibration", f"probabilities are off by {off_by(report.ece)}")] if report.ece is not None else []),
        ("tasks", str(report.num_tasks)),
        ("seed", str(report.seed)),
        ("split", report.split),
        (
            "transductive",
            "yes: a query's prediction can depend on the other queries" if report.transductive else "no",
        ),
        ("wall time", numbers.duration(report.wall_seconds)),
        ("commit", report.commit or "not recorded"),
        ("environment", numbers.setting(dict(report.environment)) if report.environment else "not recorded"),
        *((extra or {}).items()),
    ]
    return Table(rows)


def verdict(report: Report) -> str:
    """What the number means beside the baseline that is hardest to beat, in words; "" where there are bounds alone.

    A bound knows what learners do not: it says how far there is to go, and is no rival.
    """
    rivals = {name: one for name, one in report.baselines.items() if not name.startswith("bound")}
    if not rivals:
        return ""
    known = {name: one for name, one in rivals.items() if math.isfinite(one.lead)} or rivals
    name, hardest = min(known.items(), key=lambda item: item[1].lead)
    reached = numbers.with_interval(hardest.mean, hardest.ci95, report.metric)
    apart = "not told apart from it"
    if abs(hardest.lead) > hardest.lead_ci95:
        where = "ahead" if hardest.lead > 0 else "behind"
        apart = f"{numbers.with_interval(abs(hardest.lead), hardest.lead_ci95, report.metric)} {where}"
    return f"Of what needs no training {name} does best: {reached} on the same tasks. The learner is {apart}, task by task."


def median(report: Report) -> str:
    """The median over tasks: a handful of diverging tasks ruins the mean and leaves it alone."""
    return numbers.with_interval(float(np.median(report.per_task)), None, report.metric)


def paired_difference(first: Report, second: Report) -> tuple[float, float] | None:
    """(mean of second - first, its 95 % half-width) over the same tasks; None where they are not the same."""
    same = (first.metric, first.seed, first.split, len(first.per_task)) == (
        second.metric,
        second.seed,
        second.split,
        len(second.per_task),
    )
    if not same or len(first.per_task) < 2:
        return None
    apart = np.asarray(second.per_task, dtype=float) - np.asarray(first.per_task, dtype=float)
    return float(apart.mean()), float(1.96 * apart.std(ddof=1) / math.sqrt(len(apart)))


def comparison_table(
    reports: Mapping[str, Report | None], extra: Mapping[str, Mapping[str, str]] | None = None
) -> Table:
    """One row a learner; the first is the headline, to which the others' paired differences are taken.

    Args:
        reports: label to report; None: not evaluated, its cells stay empty.
        extra: more columns: name of the column to {label: cell}.

    Raises:
        InputError: no learner.
    """
    if not reports:
        raise InputError("a comparison expected at least one learner, got none; evaluate one first")
    known = [report for report in reports.values() if report is not None]
    metrics = {report.metric for report in known}
    metric = metrics.pop() if len(metrics) == 1 else ""
    first_label, first = next(iter(reports.items()))
    more = extra or {}
    with_difference = len(known) > 1 and first is not None
    header = ["", numbers.metric_name(metric) or "metric"]
    if with_difference:
        header.append(f"difference to {first_label}, same tasks")
    header += ["tasks", "transductive", *more]
    rows = []
    for label, report in reports.items():
        row = [label]
        if report is None:
            row += [MISSING] * (len(header) - 1 - len(more))
        else:
            row.append(numbers.with_interval(report.mean, report.ci95, report.metric))
            if with_difference:
                apart = paired_difference(first, report) if first is not None and label != first_label else None
                row.append(_signed(*apart, report.metric) if apart else MISSING)
            row += [str(report.num_tasks), "yes" if report.transductive else "no"]
        rows.append([*row, *(more[column].get(label, MISSING) for column in more)])
    return Table(rows, header)


def _signed(mean: float, ci95: float, metric: str) -> str:
    text = numbers.with_interval(mean, ci95, metric)
    return text if mean < 0 or not math.isfinite(mean) else f"+{text}"


def flat(config: Mapping[str, Any]) -> dict[str, str]:
    """A run's config as {"method: inner_lr": "0.01", ...}, without what was left open (None)."""
    found: dict[str, str] = {}

    def add(group: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if value is not None:
                found[f"{group}: {name}"] = numbers.setting(value)

    algorithm, model, tasks = (_mapping(config.get(name)) for name in ("algorithm", "model", "tasks"))
    add("method", {"name": algorithm.get("name"), **_mapping(algorithm.get("options"))})
    other = _mapping(config.get("meta_gradient"))
    add("meta-gradient", {"name": other.get("name"), **_mapping(other.get("options"))})
    add("model", {"name": model.get("name") or model.get("custom"), **_mapping(model.get("arguments"))})
    add("tasks", {"name": tasks.get("name"), **_mapping(tasks.get("options"))})
    add("training", _mapping(config.get("training")))
    for name in ("command", "commit"):
        if config.get(name):
            found[f"run: {name}"] = numbers.setting(config[name])
    if environment := _mapping(config.get("environment")):
        found["run: environment"] = numbers.setting(environment)
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def settings_table(settings: Mapping[str, Mapping[str, str]], caption: str = "") -> Table:
    """Settings side by side: label to {setting: value}; a row a setting, a column a learner.

    One learner makes a table without a header. Rows keep the order in which they first appear, group by
    group.
    """
    names = list(dict.fromkeys(name for values in settings.values() for name in values))
    groups = list(dict.fromkeys(name.split(":")[0] for name in names))
    names.sort(key=lambda name: groups.index(name.split(":")[0]))
    columns: Sequence[Mapping[str, str]] = list(settings.values())
    rows = [[name, *(values.get(name, MISSING) for values in columns)] for name in names]
    return Table(rows, ["", *settings] if len(settings) > 1 else None, caption)
