"""What is told of tables before anything is trained: `innerloop data check` prints it."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.core import TaskFamily
from innerloop.data.check_result import CheckResult
from innerloop.data.table_files import read_tables
from innerloop.data.tables import Table
from innerloop.tasks.tables.few_shot import TableGroup
from innerloop.tasks.tables.understanding import Understanding, is_classification, some

_TARGET_NAMES = ("target", "label", "class", "y", "outcome", "score", "category", "intent", "topic")


def described(path: str | Path, found: Understanding, family: TaskFamily, options: Mapping[str, Any]) -> CheckResult:
    """Lines and facts about tables that were understood."""
    record = found.record
    every = [group for side in found.groups.values() for group in side]
    sizes = [_size(group) for group in every]
    kind = "classification" if record.classification else "regression"
    target = ", ".join(record.targets) or str(options["target"])
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
        numbers = [c.name for c in record.columns if c.levels is None]
        named = {c.name: len(c.levels) for c in record.columns if c.levels is not None}
        lacking = [c.name for c in record.columns if c.indicator]
        lines.append(
            f"columns: {len(numbers)} of numbers, {len(named)} of categories; {record.width} inputs of the model"
        )
        facts |= {"numbers": numbers, "categories": named, "with_missing": lacking}
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
    shown = list(described_columns.items())
    lines += [f"{name}: {text}" for name, text in shown[:40]]
    if len(shown) > 40:
        lines.append(f"and {len(shown) - 40} more columns")
    lines += some([note for t in tables for note in t.notes], "note: ") + some(left_out, "left out: ")
    target = _likely_target(table)
    tasks = None if several else _likely_task_column(table, target)
    classification = is_classification(table, [target], "auto")
    said = None if several or not classification else _likely_texts(table, target)
    if said is not None:
        lines.append(
            f"column {said!r} looks like texts; a trained network reads them (--text), and {target!r} is a guess"
        )
        guess = {"text": said, "target": target}
        facts = {"path": str(path), "kind": "tables", "tables": 1, "rows": table.rows, "columns": described_columns}
        command = f"innerloop train protonet {shlex.quote(str(path))} --text {shlex.quote(said)} --target {shlex.quote(target)}"
        return CheckResult(lines, {**facts, "guess": guess, "left_out": left_out, "notes": list(table.notes)}, command)
    guess: dict[str, Any] = {"target": target}
    if tasks is not None:
        guess["task_column"] = tasks
    elif not several:
        guess["tasks_by"] = "class_pairs"
    if several or tasks is not None or classification:
        lines.append(f"name the column to predict (--target); {target!r} is a guess")
        command = _command(path, classification, {**options, **guess})
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


def _likely_target(table: Table) -> str:
    lowered = {name.lower(): name for name in table.columns}
    return next((lowered[name] for name in _TARGET_NAMES if name in lowered), list(table.columns)[-1])


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


def _likely_task_column(table: Table, target: str) -> str | None:
    """The first column of texts or whole numbers with a few values of at least four rows each."""
    for name in table.columns:
        if name == target:
            continue
        values = table.columns[name]
        if table.is_number(name) and (np.isnan(values).any() or (values != np.round(values)).any()):
            continue
        cells = [c for c in table.texts[name] if c is not None]
        _, counts = np.unique(np.array(cells, dtype=str), return_counts=True)
        if 3 <= len(counts) <= table.rows / 4 and np.median(counts) >= 4 and len(cells) == table.rows:
            return name
    return None
