"""What is told of tables before anything is trained: `innerloop data check` prints it."""

from __future__ import annotations

import itertools
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.core import TaskFamily
from innerloop.data.check_result import CheckResult
from innerloop.data.table_files import read_tables
from innerloop.data.tables import Table
from innerloop.errors import first_few
from innerloop.tasks.tables.few_shot import TableGroup
from innerloop.tasks.tables.roles import Roles, pattern_of, roles
from innerloop.tasks.tables.understanding import Understanding, is_classification, some

_MOST_LISTED, _MOST_NAMED = 40, 12  # columns with a line each, and targets with their names


def described(path: str | Path, found: Understanding, family: TaskFamily, options: Mapping[str, Any]) -> CheckResult:
    """Lines and facts about tables that were understood."""
    record = found.record
    every = [group for side in found.groups.values() for group in side]
    sizes = [_size(group) for group in every]
    kind = "classification" if record.classification else "regression"
    given = list(record.targets) or [group.name for group in every]  # a task a target
    target = ", ".join(given) if len(given) <= _MOST_NAMED else f"{len(given)} targets ({first_few(given, 3)})"
    lines = [
        f"{found.rows} rows; {kind} of {target}; {found.rule}",
        "tasks: " + ", ".join(f"{len(found.groups[s])} {s}" for s in ("train", "valid", "test"))
        + f"; rows of a task: {min(sizes)} to {max(sizes)}, median {statistics.median(sizes):.6g}",
    ]  # fmt: skip
    facts: dict[str, Any] = {
        "path": str(path),
        "kind": "tables",
        "rows": found.rows,
        "target": target,
        "objective": kind,
        "rule": found.rule,
        "tasks": {split: len(groups) for split, groups in found.groups.items()},
        "rows_of_a_task": {"least": min(sizes), "median": statistics.median(sizes), "most": max(sizes)},
        "inputs": record.width,
    }
    if record.columns is not None:
        numbers = [c.name for c in record.columns if c.levels is None and c.items is None]
        items = {c.name: len(c.items) for c in record.columns if c.items is not None}
        named = {c.name: len(c.levels) for c in record.columns if c.levels is not None}
        lacking = [c.name for c in record.columns if c.indicator]
        lines.append(
            f"columns: {len(numbers)} of numbers, {len(named)} of categories{f', {len(items)} of items' if items else ''}; "
            f"{record.width} inputs of the model"
        )
        facts |= {"numbers": numbers, "categories": named, "with_missing": lacking}
        facts |= {"items": items} if items else {}
    else:
        lines.append(
            f"columns: each table its own, padded to {record.width} inputs of the model and scaled by the support set"
        )
    if record.classification:
        lines.append(_classes(every, family, facts))
    else:
        shown = ", ".join(f"{m:.6g} ± {s:.6g}" for m, s in zip(record.target_mean, record.target_std, strict=True))
        facts["target_mean"], facts["target_std"] = list(record.target_mean), list(record.target_std)
        if record.columns is not None:
            lines.append(f"target on the training tasks: {shown} (mean ± deviation)")
    lines += some(found.notes, "note: ") + some(found.left_out, "left out: ")
    short = _too_small(sizes, every, family)
    if short:
        lines.append(f"note: {short}")
    facts |= {"notes": found.notes, "left_out": found.left_out}
    return CheckResult(lines, facts, _command(path, record.classification, options), family)


def _size(group: TableGroup) -> int:
    return len(group.x) if group.classes is None else sum(map(len, group.classes.values()))


def _classes(every: list[TableGroup], family: TaskFamily, facts: dict[str, Any]) -> str:
    """How many classes tasks have, and how unequal they are."""
    numbers = [len(g.classes or ()) for g in every]
    shares = [min(map(len, g.classes.values())) / max(map(len, g.classes.values())) for g in every if g.classes]
    ways = family.test.output_size
    facts["classes_of_a_task"] = {"least": min(numbers), "most": max(numbers)}
    facts["imbalance"] = {"median": round(1 / statistics.median(shares), 2), "most": round(1 / min(shares), 2)}
    facts["ways"] = ways
    return (
        f"classes of a task: {min(numbers)} to {max(numbers)}, tasks are drawn {ways}-way; the largest class has "
        f"{1 / statistics.median(shares):.3g} times the rows of the smallest (median task), at most {1 / min(shares):.3g} times"
    )


def _too_small(sizes: list[int], every: list[TableGroup], family: Any) -> str:
    asked = family.test.draws.sizes
    total = asked.support_size is not None
    need = (asked.support_size or asked.shots) + (asked.queries or 1)
    by_class = bool(every[0].classes) and not total
    smallest = [min(map(len, (g.classes or {}).values())) if by_class else s for g, s in zip(every, sizes, strict=True)]
    few = sum(s < need for s in smallest)
    what = "a class of fewer" if by_class else "fewer"
    return (
        f"{few} of {len(every)} tasks have {what} than {'support' if total else 'shots'} + queries = {need} rows: masks mark "
        "what they lack"
        if few
        else ""
    )


def _command(path: str | Path, classification: bool, options: Mapping[str, Any]) -> str:
    words = [*("innerloop train protonet" if classification else "innerloop train maml").split(), str(path)]
    for key, value in options.items():
        if value is None or value is False or value == () or value == []:
            continue
        flag = "--tasks-seed" if key == "seed" else f"--{key.replace('_', '-')}"  # --seed is training's
        words += [flag] if value is True else [flag, *map(str, value if isinstance(value, list | tuple) else [value])]
    return shlex.join(words)


def suggested(path: str | Path, options: Mapping[str, Any]) -> CheckResult:
    """What the columns are, and which might be the target and the task, where nobody has said."""
    files = {k: options.get(k) for k in ("separator", "encoding")}
    tables, left_out = read_tables(path, options.get("only") or (), **files)
    table = tables[0]
    several = len(tables) > 1
    lines = [
        f"{len(tables)} tables, the first {table.name}"
        if several
        else f"{table.rows} rows, {len(table.columns)} columns"
    ]
    described_columns = {name: _column(table, name) for name in table.columns}
    lines += _listed(table, described_columns)
    lines += some([note for t in tables for note in t.notes], "note: ") + some(left_out, "left out: ")
    may = roles(table)
    if several:
        may = may._replace(targets=(_target_of_each(may, tables),), task=None, item=None, time=None)
    target, task = may.targets[0], may.task
    classification = is_classification(table, may.targets, "auto")
    said = None if several or not classification else _likely_texts(table, target)
    if said is not None:
        lines.append(
            f"column {said!r} looks like texts; a trained network reads them (--text), and {target!r} is a guess (--target)"
        )
        guess = {"text": said, "target": target}
        facts = {"path": str(path), "kind": "tables", "tables": 1, "rows": table.rows, "columns": described_columns}
        command = f"innerloop train protonet {shlex.quote(str(path))} --text {shlex.quote(said)} --target {shlex.quote(target)}"
        return CheckResult(lines, {**facts, "guess": guess, "left_out": left_out, "notes": list(table.notes)}, command)
    lines += _said_of(may, table, classification)
    together = pattern_of(may.targets, tuple(table.columns)) if len(may.targets) > 1 else None
    guess: dict[str, Any] = {"target": target if len(may.targets) == 1 else together or list(may.targets)}
    if task is not None:
        guess["task_column"] = task
    elif not several and len(may.targets) == 1:
        guess["tasks_by"] = "class_pairs"
    if may.item is not None:
        guess["item_column"] = may.item
    inputs = set(table.columns) - {*may.targets, *may.rows, task}
    if not several and not inputs:
        names = f", as {may.rows[0]!r} names rows" if may.rows else ""
        lines.append(
            f"beside them no column is left to predict from{names}; add some, such as measurements or fingerprints"
        )
        command = ""
    elif several or task is not None or len(may.targets) > 1 or classification:
        # Classes in order need a size for the whole support set, which nobody has said.
        order = {"order_by": may.time} if may.time and not classification else {}
        command = _command(path, classification, {**options, **guess, **order})
    else:
        lines.append("no column looks as if it told tasks apart; name one (--task-column), or ranges (--tasks-by "
                     "ranges:COLUMN:N), or use the table as the support of one new task (innerloop adapt)")  # fmt: skip
        command = ""
    facts = {
        "path": str(path),
        "kind": "tables",
        "tables": len(tables),
        "rows": sum(t.rows for t in tables),
        "columns": described_columns,
        "guess": guess,
        "looks_like": {
            "targets": list(may.targets),
            "task": task,
            "item": may.item,
            "time": may.time,
            "names_rows": list(may.rows),
        },
        "left_out": left_out,
        "notes": [note for t in tables for note in t.notes],
    }
    return CheckResult(lines, facts, command)


def _column(table: Table, name: str) -> str:
    cells = table.texts[name]
    missing = sum(c is None for c in cells)
    gone = f", {missing} missing" if missing else ""
    if missing == table.rows:
        return "all cells missing"
    if name in table.refused:
        return f"not usable as it is: {table.refused[name]}"
    if table.is_number(name):
        values = table.columns[name]
        there = values[~np.isnan(values)]
        return f"numbers from {there.min():.6g} to {there.max():.6g}, {len(np.unique(there))} different{gone}"
    return f"texts, {len({c for c in cells if c is not None})} different{gone}"


def _listed(table: Table, described: Mapping[str, str]) -> list[str]:
    """A line a column; of wide tables one for columns of one name and a number, or of one kind, that stand side by side."""
    names = list(described)
    if len(names) <= _MOST_LISTED:
        return [f"{name}: {described[name]}" for name in names]
    lines = []
    for _, run in itertools.groupby(names, key=lambda name: _kind(table, name)):
        same = list(run)
        if len(same) < 3:
            lines += [f"{name}: {described[name]}" for name in same]
        else:
            lines.append(f"{same[0]} to {same[-1]}: {len(same)} columns of {_kind(table, same[0])}")
    more = len(lines) - _MOST_LISTED
    return [*lines[:_MOST_LISTED], *([f"and {more} more lines of columns"] if more > 0 else [])]


def _kind(table: Table, name: str) -> str:
    if not table.is_number(name):
        return "texts"
    values = table.columns[name]
    gaps = " with missing cells" if np.isnan(values).any() else ""
    return ("zeros and ones" if set(np.unique(values[~np.isnan(values)])) <= {0.0, 1.0} else "numbers") + gaps


def _said_of(may: Roles, table: Table, classification: bool) -> list[str]:
    """What the columns look like, and the flag for each."""
    lines = []
    if may.task is not None:
        values = len({cell for cell in table.texts[may.task] if cell is not None})
        lines.append(
            f"{may.task!r} looks as if it told tasks apart: {values} values with several rows each (--task-column)"
        )
    if may.item is not None:
        lines.append(
            f"{may.item!r} looks like an identifier that comes back from task to task, no quantity (--item-column)"
        )
    if may.time is not None:
        lines.append(
            f"{may.time!r} looks like a time: the first rows of a task may be shown and later ones asked for (--order-by)"
        )
    if may.rows:
        lines.append(
            f"{first_few([repr(name) for name in may.rows])}: another value in each row, which tells a model nothing"
        )
    first, *others = may.targets
    if others:
        lines.append(
            f"{len(may.targets)} columns look like targets, each a task of the rows that have it: "
            f"{first_few([repr(name) for name in may.targets], 3)} (--target)"
        )
    else:
        why = "is a guess by its name" if may.named else "is a guess, as nothing says so"
        read = "classes" if classification else "numbers"
        lines.append(f"name the column to predict (--target); {first!r} {why}, taken for {read} (--kind)")
    return lines


def _target_of_each(may: Roles, tables: Sequence[Table]) -> str:
    """The target of tables of their own columns: one that all have."""
    shared = [name for name in may.targets if all(name in table.columns for table in tables)]
    return shared[0] if shared else may.targets[0]


def _likely_texts(table: Table, target: str) -> str | None:
    """The first column of texts of several words, nearly all of them different."""
    for name in table.columns:
        cells = [str(c) for c in table.texts[name] if c is not None]
        if name == target or table.is_number(name) or not cells:
            continue
        words = sorted(len(cell.split()) for cell in cells)
        if words[len(words) // 2] >= 3 and len(set(cells)) > 0.8 * len(cells):
            return name
    return None
