"""A table as the support set of one new task, encoded as the learner's training tables were.

`support_scales` gives the scales that a support set has of its own: in training for many tasks at once, on adapting for one.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from innerloop.data.arrays import as_tensor, label_names
from innerloop.data.table_items import item_name, last_rows
from innerloop.data.table_preprocessing import (
    LIMIT,
    Column,
    Rows,
    SupportScales,
    TablePreprocessing,
    fit_columns,
    raw,
    table_record,
)
from innerloop.data.tables import Table, as_table
from innerloop.errors import ConfigError, InnerloopWarning, InputError, ShapeError, first_few


class Scales(NamedTuple):
    """Per task and encoded number: mean, deviation, and which numbers come first."""

    mean: Float[Tensor, "tasks width"]
    std: Float[Tensor, "tasks width"]
    order: Int64[Tensor, "tasks kept"] | None


def support_scales(
    x: Float[Tensor, "tasks support width"],
    mask: Bool[Tensor, "tasks support"],
    y: Tensor | None = None,
    keep: int | None = None,
) -> Scales:
    """The support sets' means and standard deviations, over what is there; 1 where a number does not vary.

    Args:
        x: encoded rows, NaN where a number is missing.
        mask: False for padding.
        y: labels (tasks, support) or targets (tasks, support, outputs), to rank the numbers by how much they tell about
            them; None: the order stays.
        keep: how many to keep of the ranked.
    """
    there = (~x.isnan() & mask[..., None]).to(x.dtype)
    count = there.sum(1).clamp(min=1)
    filled = x.nan_to_num(0.0) * there
    mean = filled.sum(1) / count
    spread = ((filled - mean[:, None]).square() * there).sum(1) / count
    size = mean.abs().clamp(min=1e-30)
    std = torch.where(spread.sqrt() > 1e-6 * size, spread.sqrt(), torch.ones_like(spread))
    if y is None:
        return Scales(mean, std, None)
    told = telling(scaled(x, Scales(mean, std, None)) * mask[..., None], y, mask)
    # Exact ties (one column twice, or none that varies) keep the table's own order.
    order = torch.argsort(told, dim=-1, descending=True, stable=True)
    return Scales(mean, std, order if keep is None else order[:, :keep])


def scaled(x: Float[Tensor, "tasks rows width"], scales: Scales) -> Float[Tensor, "tasks rows kept"]:
    """Rows in a task's own scales; missing numbers at the mean."""
    z = ((x - scales.mean[:, None]) / scales.std[:, None]).nan_to_num(0.0).clamp(-LIMIT, LIMIT)
    if scales.order is None:
        return z
    return z.gather(2, scales.order[:, None].expand(-1, z.shape[1], -1))


def telling(
    z: Float[Tensor, "tasks support width"], y: Tensor, mask: Bool[Tensor, "tasks support"]
) -> Float[Tensor, "tasks width"]:
    """How much of each number's variance in the support set the targets explain, from 0 to 1.

    For labels, the variance between the classes' means; for targets, the largest squared correlation with one of them.
    """
    weight = mask.to(z.dtype)[..., None]
    total = (z.square() * weight).sum(1).clamp(min=1e-12)
    if y.is_floating_point():
        middle = (y * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        t = (y - middle) * weight
        shared = torch.einsum("tsw,tso->two", z * weight, t).square()
        return (shared / t.square().sum(1).clamp(min=1e-12)[:, None]).amax(-1) / total
    labels = y.masked_fill(~mask, 0)
    member = (labels[..., None] == torch.arange(int(labels.max()) + 1, device=y.device)) & mask[..., None]
    member = member.to(z.dtype)
    counts = member.sum(1).clamp(min=1)[..., None]
    sums = torch.einsum("tsc,tsw->tcw", member, z)
    return (sums.square() / counts).sum(1) / total


def plain_record(shape: Sequence[int] | None, classification: bool) -> TablePreprocessing:
    """The record of a learner that was not trained on tables: all columns but the target are its inputs, as they are.

    Args:
        shape: of one input of the learner; None: not known.
        classification: whether it learns class names.

    Raises:
        InputError: inputs that are no rows of a table.
    """
    if shape is not None and len(shape) != 1:
        raise InputError(
            f"expected inputs of shape {tuple(shape)}, as this learner was trained on, got a table; give such"
        )
    return TablePreprocessing(
        None, (), classification, shape[0] if shape else 0, target_mean=(0.0,), target_std=(1.0,), scaling="none"
    )


def _plain_columns(table: Table, width: int, targets: Sequence[str]) -> tuple[Column, ...]:
    names = [name for name in table.columns if name not in targets and name not in table.index]
    beside = f" beside {targets[0]!r}" if targets else ""
    if not names:
        raise InputError(f"{table.name} expected columns of numbers{beside}, got none; add some")
    if width not in (0, len(names)):
        rows = "".join(f" (the rows' {name!r} left out)" for name in table.index if name not in targets)
        raise ShapeError(
            f"{table.name} expected features of shape ({width},), got {len(names)} columns{beside}{rows}: {first_few(names)}; "
            "give those that the learner was trained on"
        )
    return tuple(map(Column, names))


def named(x: Any, record: TablePreprocessing | None) -> Any:
    """Rows without names of columns, for a learner of tables: named x0, x1, ... where its columns have no names of their own.

    Tensors stay: they are rows that a task of these tables holds, encoded already.

    Raises:
        InputError: columns have names of their own, by which alone they can be told and scaled.
    """
    if record is None or record.scaling == "none" or isinstance(x, Tensor | Table):
        return x
    cells = x if hasattr(x, "shape") else np.asarray(x, dtype=object)
    cells = cells[:, None] if record.curve and len(cells.shape) == 1 else cells
    numbered = [f"x{i}" for i in range(cells.shape[1] if len(cells.shape) == 2 else 0)]
    own = [column.name for column in record.columns or ()]
    if not numbered or not set(own) <= set(numbered):
        names = f" ({first_few([repr(name) for name in own])})" if own else ""
        raise InputError(
            f"x expected a table with the columns that the learner was made with{names}, which it scales itself, got "
            f"{type(x).__name__} of shape {tuple(cells.shape)}; give a data frame, or a dictionary of columns"
        )
    return as_table({name: cells[:, i] for i, name in enumerate(numbered)})


def warn(notes: Sequence[str]) -> None:
    """Say what of a table goes unused, or is not what it seems."""
    for note in notes:
        warnings.warn(note, InnerloopWarning, stacklevel=4)


def encoded(given: Any, preprocessing: Mapping[str, Any] | None) -> tuple[Rows, list[str]]:
    """(inputs, notes) of a table (`as_table`), its columns found by name; by position for a task that was adapted to arrays.

    Raises:
        InputError: no table, a column that is not there or of another kind, or a task of tables that was adapted to arrays.
    """
    table = as_table(given)
    record = table_record(preprocessing)
    if record is None:
        return table.numbers([name for name in table.columns if name not in table.index]), []
    if record.columns is None:
        raise InputError("expected a task adapted to a table, got one adapted to arrays; give arrays")
    return record.encode(table), record.notes_on(table, new=True)


def items_of(given: Any, record: TablePreprocessing | None) -> tuple[str, ...] | None:
    """The item in each row, "" where there is none; None for a record that is not of one column of items, or no table."""
    if record is None or len(record.items) != 1 or not isinstance(given, Table):
        return None
    assert record.columns is not None
    cells = given.texts.get(record.columns[0].name)
    return None if cells is None else tuple(item_name(cell) or "" for cell in cells)


def ratings_of(given: Any, y: Any, record: TablePreprocessing | None) -> tuple[Any, Any, list[str]]:
    """(table, targets beside it, notes) where rows are ratings: all in the table, and of ratings of one item the last alone.

    Other tables and targets stay as they are.

    Raises:
        InputError, ShapeError: targets that are not one finite number a row.
    """
    if record is None or not record.scale or record.columns is None:
        return given, y, []
    table, item = as_table(given), record.columns[0].name
    if y is not None and not isinstance(y, str):
        table, y = table.beside({record.targets[0]: given_values(y, table.rows)[:, 0]}), None
    if item not in table.texts:
        return table, y, []  # which its reader says
    rows = last_rows(table.texts[item])
    again = table.rows - len(rows)
    note = f"column {item!r}: {again} rows rate an item that a later row rates again; the last rating of each counts"
    return (table.take(rows), y, [note]) if again else (table, y, [])


def given_values(y: Any, rows: int) -> Rows:
    """(rows, targets): regression targets that come beside a table, in its units.

    Raises:
        InputError: no numbers, or one that is missing or infinite, with its row.
    """
    values = as_tensor(y, "y").to(torch.float64).numpy(force=True)
    if len(values) != rows:
        raise ShapeError(f"x and y expected equally many examples, got {rows} and {len(values)}")
    values = values.reshape(rows, -1)
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        raise InputError(
            f"y row {int(bad.argmax()) + 1} expected a finite number, got none; fill it in or leave it out"
        )
    return values


def support_of(
    record: TablePreprocessing, table: Table, target: str | None = None, y: Any = None, notes: list[str] | None = None
) -> tuple[Rows, Any, TablePreprocessing]:
    """(inputs, class names or targets, the record of this task) of a support table.

    Args:
        record: of the learner (`TaskDistribution.preprocessing`), or `plain_record`; with the latter, numbers stay as they are.
        table: the support rows.
        target: its target column; None: the training tables'.
        y: the targets, where the table has the inputs alone: class names, (rows,) or (rows, targets) numbers.
        notes: takes down what its user should know of the table.

    Raises:
        ConfigError: no target, where the learner does not know it.
        InputError: other columns than in training, a row without a target, or fewer than two classes.
    """
    if y is not None and hasattr(y, "__len__") and len(y) != table.rows:
        raise ShapeError(f"x and y expected equally many examples, got {table.rows} and {len(y)}")
    if y is not None and not record.classification and record.scaling != "none":
        names, values = record.targets or ("target",), given_values(y, table.rows)
        if values.shape[1] != len(names):
            raise ShapeError(f"y expected the {len(names)} targets of the training tables, got {values.shape[1]}")
        whole = table.beside(dict(zip(names, values.T, strict=True)))
        return support_of(record, whole, None if record.targets else names[0], notes=notes)
    targets = _named_targets(record, table, target)
    if record.scaling == "none" and not record.classification:
        record = dataclasses.replace(
            record, target_mean=(0.0,) * len(targets or "y"), target_std=(1.0,) * len(targets or "y")
        )
    if y is None and ((record.classification and len(targets) > 1) or not targets):
        known = ", ".join(record.targets) or list(table.columns)[-1]
        raise ConfigError(
            f"expected the column to learn, got none; name it, as in target={known!r}, or --target {known!r} on the command line"
        )
    if y is None and not record.classification and len(targets) != len(record.target_mean):
        raise ConfigError(
            f"expected the targets {', '.join(record.targets)} of the training tables, got {target!r}; leave it out"
        )
    if y is None:
        table.expect(*targets)
    seen = [name for name in targets if name in {column.name for column in record.columns or ()}]
    if seen:
        known = ", ".join(map(repr, record.targets))
        raise ConfigError(f"--target expected {known}, got {seen[0]!r}, an input of this learner; leave --target out")
    own, fitted = dataclasses.replace(record, targets=targets), None
    if record.scaling == "none":
        columns = _plain_columns(table, record.width, targets if y is None else ())
        own = dataclasses.replace(own, columns=columns, width=len(columns), targets=targets if y is None else ())
    elif record.columns is None:
        inputs = table.without([name for name in table.index if name not in targets])
        columns, fitted = fit_columns(inputs, targets, quantities=tuple(inputs.columns) if record.curve else ())
        if not columns:
            raise InputError(
                f"{table.name}: expected columns that differ from row to row, got none ({'; '.join(fitted[:3]) or 'no columns'})"
            )
        own = dataclasses.replace(own, columns=_one_input(table, columns) if record.curve else columns)
    labels = None if y is None else label_names(y) if own.classification else list(y)
    if y is None and own.classification:
        labels = table.class_names(targets[0])
        values = table.columns[targets[0]]
        if table.is_number(targets[0]) and (values != values.round()).any() and 2 * len(set(labels)) > table.rows:
            raise InputError(
                f"{table.name}: the target {targets[0]!r} expected class names, got fractions, {len(set(labels))} different ones "
                f"in {table.rows} rows; make few classes of them"
            )
        if len(set(labels)) < 2:
            raise InputError(
                f"{table.name}: expected at least two classes in {targets[0]!r}, got {labels[0]!r} alone; add rows"
            )
    elif y is None and own.columns is not None and record.own_targets and record.scaling != "none":
        values = table.columns[targets[0]]
        if table.is_number(targets[0]) and not np.isnan(values).any():
            own = dataclasses.replace(
                own, target_mean=(float(values.mean()),), target_std=(float(values.std()) or 1.0,)
            )
    own = dataclasses.replace(own, support=_scales(own, record, table, labels))
    if notes is not None:
        notes += own.notes_on(table, fitted=fitted)
    return own.encode(table), labels if labels is not None else own.values(table), own


def _named_targets(record: TablePreprocessing, table: Table, target: str | None) -> tuple[str, ...]:
    """The target columns: those of training, one that is named, or several with commas between for a learner of plain numbers."""
    if target is None:
        return record.targets
    several = record.scaling == "none" and not record.classification and target not in table.columns
    return tuple(name.strip() for name in target.split(",")) if several else (target,)


def _one_input(table: Table, columns: Sequence[Column]) -> tuple[Column, ...]:
    """The one column that a curve is over; InputError where there are others, or it holds no numbers in every row."""
    names = first_few([repr(column.name) for column in columns])
    if len(columns) > 1:
        raise InputError(
            f"{table.name} expected one column of numbers beside the target, as this learner is of curves, got {len(columns)}: "
            f"{names}; leave the others out"
        )
    if columns[0].levels is not None or columns[0].indicator:
        raise InputError(
            f"{table.name}: column {names} expected a number in every row, as a curve is over it, got texts or missing cells; "
            "mend it or leave these rows out"
        )
    return (dataclasses.replace(columns[0], parts=()),)


def _scales(
    own: TablePreprocessing, record: TablePreprocessing, table: Table, labels: list[Any] | None
) -> SupportScales | None:
    """What the support set says about its task, as training tasks were treated."""
    found = SupportScales()
    if own.scaling == "support":
        assert own.columns is not None
        items = len(own.items)
        x = torch.as_tensor(raw(table, own.columns))[None, :, items:]
        y: Tensor | None = None
        if own.ranked:
            values = np.unique(labels, return_inverse=True)[1] if labels is not None else own.values(table)
            y = torch.as_tensor(values)[None]
        s = support_scales(x, torch.ones(x.shape[:2], dtype=torch.bool), y, own.width - items)
        order = () if s.order is None else tuple(s.order[0].tolist())
        found = SupportScales(tuple(s.mean[0].tolist()), tuple(s.std[0].tolist()), order)
    if own.center_target:
        targets = own.values(table)
        spread = targets.std(0) if record.own_targets else np.ones(targets.shape[1])
        std = tuple(float(s) if s > 1e-6 else 1.0 for s in spread)
        found = dataclasses.replace(found, target_mean=tuple(map(float, targets.mean(0))), target_std=std)
    return None if found == SupportScales() else found
