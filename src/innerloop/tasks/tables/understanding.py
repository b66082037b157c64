"""What a path with tables holds, as tasks: targets, groups of rows, sides of the split, encoded columns, what was left out."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from innerloop.data.item_tables import item_facts
from innerloop.data.item_targets import ItemTargets
from innerloop.data.table_cells import PLAIN, TYPED, Reading
from innerloop.data.table_files import FILE_COLUMN, below_each_other, read_tables
from innerloop.data.table_items import LEAST_TASKS, item_name, vocabulary
from innerloop.data.table_preprocessing import Column, Scaling, TablePreprocessing, fit_columns, raw
from innerloop.data.tables import Table, read_table
from innerloop.errors import ConfigError, InputError, first_few
from innerloop.tasks.tables.few_shot import TableGroup
from innerloop.tasks.tables.grouping import (
    RULES,
    equal_places,
    in_order,
    named_splits,
    rows_by_range,
    rows_by_value,
    split_names,
    units,
)
from innerloop.tasks.tables.ratings import Piece, leave_own_out, ratings_in

Kind = Literal["auto", "classification", "regression"]
ColumnRule = Literal["auto", "common", "own"]
_MOST_CLASSES = 20  # whole numbers of at most so many values are classes, where nobody says what they are


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How tables become tasks; see `own.table_family`."""

    target: str | Sequence[str]
    task_column: str | None = None
    tasks_by: str | None = None
    split_by: str | None = None
    order_by: str | None = None
    together: Sequence[str] = ()
    only: Sequence[str] = ()
    ignore: Sequence[str] = ()
    item_column: str | Sequence[str] | None = None
    item_table: str | None = None
    item_statistics: bool | None = None
    categories: Sequence[str] = ()
    quantities: Sequence[str] = ()
    kind: Kind = "auto"
    columns: ColumnRule = "auto"
    scaling: Scaling = "train"
    center_target: bool = False
    ranked: bool = False
    max_columns: int = 64
    valid_share: float = 0.15
    test_share: float = 0.15
    least_rows: int = 2
    seed: int = 0
    separator: str | None = None
    encoding: str | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,) if isinstance(self.target, str) else tuple(self.target)

    @property
    def items(self) -> tuple[str, ...]:
        """The columns that name items."""
        return (self.item_column,) if isinstance(self.item_column, str) else tuple(self.item_column or ())


@dataclasses.dataclass(frozen=True)
class Understanding:
    """What was made of the tables.

    Attributes:
        record: how rows are encoded.
        groups: the tasks of each side of the split.
        rule: in words, what makes a task.
        notes: what was done on the user's behalf.
        left_out: what is not used, and why.
        rows: how many rows there were.
        by_table: each table has its own classes.
        pairs: a task is a draw of a few of the side's classes.
    """

    record: TablePreprocessing
    groups: Mapping[str, list[TableGroup]]
    rule: str
    notes: list[str]
    left_out: list[str]
    rows: int
    by_table: bool = False
    pairs: bool = False


def some(sentences: Sequence[str], word: str = "", most: int = 20) -> list[str]:
    """The first sentences, each behind a word, and how many more there are."""
    more = [f"and {len(sentences) - most} more"] if len(sentences) > most else []
    return [f"{word}{sentence}" for sentence in [*sentences[:most], *more]]


def understand(path: str | Path, options: TableOptions) -> Understanding:
    """Read the tables and find tasks in them.

    Raises:
        InputError: no tables, no such columns, too few tasks.
        ConfigError: options that do not go together, or none that says what a task is.
    """
    tables, left_out = read_tables(path, options.only, separator=options.separator, encoding=options.encoding)
    known = list(dict.fromkeys(name for table in tables for name in table.columns))
    options = dataclasses.replace(
        options, target=_apart(options.targets, known), item_column=_apart(options.items, known)
    )
    _check(options)
    by_name = tuple(f"column {name!r} " for name in options.items)  # whatever their cells are, they are names
    read = [(table, note) for table in tables for note in table.notes if not note.startswith(by_name)]
    notes = [_named(table, note) if len(tables) > 1 else note for table, note in read]
    if len(tables) == 1:
        return _one_table(tables[0], options, notes, left_out)
    if options.columns == "own" or (options.columns == "auto" and len({tuple(t.columns) for t in tables}) > 1):
        return _own_columns(tables, options, notes, left_out)
    table, more = below_each_other(tables, str(path))
    by_file = options.task_column is None and options.tasks_by is None
    if by_file:
        options = dataclasses.replace(options, task_column=FILE_COLUMN)
    else:
        options = dataclasses.replace(options, ignore=[*options.ignore, FILE_COLUMN])
    return _one_table(table, options, notes + more, left_out)


def _apart(names: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Names of columns: "a,b,c" are several, where no column is called so, and "a*" are all that begin with a."""
    apart = [[name] if name in known else name.split(",") for name in names]
    found = [names[0] if len(names) == 1 else name.strip() for names in apart for name in names]
    each = [
        [n for n in known if fnmatch.fnmatchcase(n, name)] if name not in known and "*" in name else []
        for name in found
    ]
    return tuple(dict.fromkeys(n for name, more in zip(found, each, strict=True) for n in more or [name]))


def _named(table: Table, note: str) -> str:
    return type(note)(f"{table.name}: {note}")


def _check(options: TableOptions) -> None:
    if options.task_column is not None and options.tasks_by is not None:
        raise ConfigError(
            f"expected task_column or tasks_by, got both ({options.task_column!r} and {options.tasks_by!r}); leave one out"
        )
    choices = {
        "kind": (options.kind, ("auto", "classification", "regression")),
        "columns": (options.columns, ("auto", "common", "own")),
        "scaling": (options.scaling, ("train", "support")),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise ConfigError(f"{name} expected one of {', '.join(known)}, got {value!r}; choose one of these")
    if not options.targets:
        raise ConfigError("target expected the name of a column, got none; name what is to be predicted")
    other = {"target": options.targets, "task_column": (options.task_column,), "ignore": options.ignore,
             "split_by": (options.split_by,), "categories": options.categories, "quantities": options.quantities}  # fmt: skip
    if options.item_table is not None and len(options.items) != 1:
        raise ConfigError(
            f"item_table expected one item_column, which both tables have, got {len(options.items)}; name it with --item-column"
        )
    for name, columns in other.items():
        twice = [column for column in options.items if column in columns]
        if twice:
            raise ConfigError(
                f"item_column expected a column of its own, got {twice[0]!r}, which {name} names too; leave one out"
            )
    if options.max_columns < 1:
        raise ConfigError(f"max_columns expected at least 1, got {options.max_columns}; raise it")
    rule = options.tasks_by
    if rule is not None and rule != "class_pairs" and not rule.startswith("ranges:"):
        raise ConfigError(f"tasks_by expected 'class_pairs' or 'ranges:COLUMN:N', got {rule!r}; for one task a value of a "
                          f"column use task_column={rule!r}")  # fmt: skip


def is_classification(table: Table, targets: Sequence[str], kind: Kind) -> bool:
    """Whether the targets are class names: texts, or whole numbers of few values, where ``kind`` does not say."""
    if kind != "auto":
        return kind == "classification"
    found = []
    for name in targets:
        values = table.column(name)
        table.readable(name)
        if not table.is_number(name):
            found.append(True)
            continue
        present = values[~np.isnan(values)]
        few = len(np.unique(present)) <= min(_MOST_CLASSES, max(2, len(present) // 2))
        found.append(bool((present == np.round(present)).all()) and few)
    if len(set(found)) > 1:
        raise InputError(
            f"{table.name}: targets expected all classes or all numbers, got both; train them apart, or say kind"
        )
    return found[0]


def _one_table(table: Table, options: TableOptions, notes: list[str], left_out: list[str]) -> Understanding:
    targets = options.targets
    used = [
        *targets,
        *(name for name in options.ignore if options.item_table is None or name in table.columns),
        *options.items,
        *options.categories,
        *options.quantities,
        *(c for c in (options.task_column, options.split_by) if c),
    ]
    table.expect(*used)
    if options.order_by is not None:
        table = in_order(table, options.order_by)
    classification = is_classification(table, targets, options.kind)
    if options.tasks_by == "class_pairs":
        if options.order_by is not None:
            raise ConfigError("order_by expected tasks that are rows in time, got draws of classes; use task_column")
        return _class_pairs(table, options, classification, notes, left_out)
    each = options.task_column is None and options.tasks_by is None and len(targets) > 1
    without = 0
    if each:
        rows, rule = {name: np.arange(table.rows) for name in targets}, "one task a target"
    elif options.task_column is not None:
        rows, without = rows_by_value(table, options.task_column)
        rule = (
            "one task a file" if options.task_column == FILE_COLUMN else f"one task a value of {options.task_column!r}"
        )
    elif options.tasks_by is not None:
        rows, without = rows_by_range(table, options.tasks_by)
        rule = f"one task a range of {options.tasks_by.split(':', 1)[1].rsplit(':', 1)[0]!r}"
    else:
        raise ConfigError(
            f"{table.name}: expected a rule that says what a task is, got none; give {RULES}, several targets, or use the "
            "table as the support of one new task (innerloop adapt)"
        )
    if without:
        left_out.append(f"{without} rows without a value that says their task")
    if options.order_by is not None:
        notes += equal_places(table.columns[options.order_by], rows, f"order_by {options.order_by!r}")
    sides = named_splits(table, options.split_by, rows) if options.split_by else None
    unit_of = units(table, options.split_by, rows) if options.split_by and sides is None else None
    pieces = _pieces(table, rows, targets, classification, options.least_rows, left_out, each)
    kept = [name for name in rows if any(piece[0] == name for piece in pieces)]
    if sides is None:
        sides = split_names(
            kept,
            seed=options.seed,
            valid_share=options.valid_share,
            test_share=options.test_share,
            together=options.together,
            unit_of=unit_of,
            left_out=left_out,
        )
    leave = [*targets, *options.ignore, *(c for c in (options.task_column, options.split_by) if c), FILE_COLUMN]
    rated = None if classification or each else ratings_in(table, pieces, targets, options.items, left_out)
    if rated is not None:
        pieces = rated.pieces
        if options.order_by is not None and options.order_by not in options.quantities:
            leave.append(options.order_by)  # what is recommended is rated later, nobody knows when
            notes.append(f"column {options.order_by!r} orders the ratings and is no input; --quantities makes it one")
    training = np.concatenate([piece[2] for piece in pieces if piece[0] in sides["train"]] or [np.empty(0, int)])
    of_tasks = [piece[2] for piece in pieces if piece[0] in sides["train"]]
    record = _record(table, np.unique(training), of_tasks, leave, options, classification, notes, each)
    said = None
    if rated is not None:
        record = dataclasses.replace(record, scale=rated.scale)
    if options.item_statistics or (options.item_statistics is None and rated is not None):
        record, said = _with_statistics(table, [p for p in pieces if p[0] in sides["train"]], record, options, notes)
    encoded = raw(table, record.columns or ()) if each else None
    groups = {
        split: [_group(table, piece, record, encoded) for piece in pieces if piece[0] in names]
        for split, names in sides.items()
    }
    if said is not None:
        groups["train"] = [
            leave_own_out(said, table, piece, g, record) for piece, g in _beside(pieces, groups["train"])
        ]
    return Understanding(record, groups, rule, notes, left_out, table.rows)


def _beside(pieces: Sequence[Piece], groups: Sequence[TableGroup]) -> list[tuple[Piece, TableGroup]]:
    """Each group and the piece that it was made from."""
    of = {piece[0]: piece for piece in pieces}
    return [(of[group.name], group) for group in groups]


def _with_statistics(
    table: Table, pieces: Sequence[Piece], record: TablePreprocessing, options: TableOptions, notes: list[str]
) -> tuple[TablePreprocessing, ItemTargets]:
    """The record whose inputs say, too, what the training tasks' rows tell of each item; and those sums.

    Raises:
        ConfigError: more than one column of items, or targets that are not one number.
    """
    if len(record.items) != 1 or record.classification or len(record.targets) != 1 or options.ranked:
        raise ConfigError(
            "item_statistics expected one item_column, one target of numbers and no ranked columns, got others; leave it out"
        )
    assert record.columns is not None
    item, rest = record.columns[0], record.columns[1:]
    y = {name: record.values(table.take(rows))[:, 0] for name, _, rows in pieces}
    said = ItemTargets.of({name: (table.texts[item.name][rows], y[name]) for name, _, rows in pieces})
    facts = said.beside(item.facts, record.targets[0])
    width = record.width + len(facts.names) - (0 if item.facts is None else len(item.facts.names))
    notes.append(
        f"what {len(pieces)} training tasks say of each item is an input: {', '.join(facts.names[-3:])}; a training task's own "
        "rows are left out of it"
    )
    return dataclasses.replace(record, columns=(dataclasses.replace(item, facts=facts), *rest), width=width), said


def _pieces(
    table: Table, rows: Mapping[str, np.ndarray], targets: Sequence[str], classification: bool, least: int,
    left_out: list[str], each: bool = False,
) -> list[Piece]:  # fmt: skip
    """Tasks with enough rows that have a target; for classification each target makes a task of its own.

    ``each``: a task is a target, and has its name.
    """
    pieces: list[Piece] = []
    few: list[str] = []
    gone = 0
    for name, own in rows.items():
        for target in [name] if each else targets if classification else [""]:
            there = np.ones(len(own), dtype=bool)
            for column in [target] if target else targets:
                cells = table.texts[column] if classification else table.columns[column]
                if not classification:
                    table.readable(column)
                if not classification and not table.is_number(column):
                    cell = next(c for c in table.texts[column] if c is not None)
                    raise InputError(f"{table.name}: the target {column!r} expected numbers for regression, got {cell[:40]!r}; "
                                     "mend it, or say kind='classification'")  # fmt: skip
                there &= np.array([c is not None for c in cells[own]]) if classification else ~np.isnan(cells[own])
            gone += int((~there).sum())
            usable = own[there]
            if classification:
                _, number, counts = np.unique(
                    table.texts[target][usable].astype(str), return_inverse=True, return_counts=True
                )
                usable = usable[counts[number] >= least] if len(usable) else usable
                enough = int((counts >= least).sum()) >= 2
            else:
                enough = len(usable) >= least
            if enough:
                pieces.append((name, target, usable))
            else:
                few.append(name)
    if gone:
        left_out.append(f"{gone} {'missing labels, each in its own task alone' if each else 'rows without a target'}")
    _say_few(few, classification, least, left_out)
    return pieces


def _say_few(few: Sequence[str], classification: bool, least: int, left_out: list[str]) -> None:
    if few:
        shown = first_few([repr(name) for name in few])
        why = f"fewer than two classes of {least} rows" if classification else f"fewer than {least} rows with a target"
        left_out.append(f"{len(few)} task{'s' * (len(few) != 1)} with {why}: {shown}")


def _items(table: Table, tasks: Sequence[np.ndarray], options: TableOptions, notes: list[str]) -> tuple[Column, ...]:
    """The columns that name items, with those that the rows of the training tasks have taught, and what is known of them."""
    columns = []
    for name in options.items:
        known, others = vocabulary(table.texts[name][rows] for rows in tasks)
        if not known:
            raise InputError(
                f"{table.name}: item_column {name!r} expected items of at least {LEAST_TASKS} training tasks, got none, "
                f"and {others} of one; they tell nothing about a new task: --ignore {name}"
            )
        rare = (
            f"; {others} others are in fewer than {LEAST_TASKS} training tasks and count as unknown" if others else ""
        )
        notes.append(f"column {name!r} names items: {len(known)} have an embedding{rare}")
        facts = None
        if options.item_table is not None:
            trained = {item_name(cell) for rows in tasks for cell in table.texts[name][rows]} - {None}
            given = {"separator": options.separator, "encoding": options.encoding}
            facts_table = read_table(options.item_table, **given)
            table.expect(*(ignored for ignored in options.ignore if ignored not in facts_table.columns))
            kept = facts_table.without([ignored for ignored in options.ignore if ignored != name])
            facts, more = item_facts(kept, name, {item for item in trained if item is not None}, table.texts[name])
            notes += [
                *more,
                f"{len(facts.names)} numbers are known of {len(facts.items)} items: {first_few(facts.names)}",
            ]
        columns.append(Column(name, items=known, facts=facts))
    return tuple(columns)


def _record(
    table: Table, training: np.ndarray, tasks: Sequence[np.ndarray], leave: Sequence[str], options: TableOptions,
    classification: bool, notes: list[str], each: bool = False,
) -> TablePreprocessing:  # fmt: skip
    """Encodings and target scales, from the training tasks' rows alone: all of them, and those of each task."""
    if not len(training):
        raise InputError(f"{table.name}: expected rows for training, got none; give another split")
    rows = table.take(training)
    leave = [*leave, *options.items]
    columns, more = fit_columns(rows, leave, categories=options.categories, quantities=options.quantities)
    notes += more
    columns = (*_items(table, tasks, options, notes), *columns)
    width = sum(column.width for column in columns)
    if not width:
        raise InputError(f"{table.name}: expected columns to predict from, got none beside the target; add some")
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    own = each and not classification  # every target in units of its own: the user names it, its support set scales it
    if own:
        mean, std = (0.0,), (1.0,)
    elif not classification:
        y = [rows.columns[name] for name in options.targets]
        y = [v[~np.isnan(v)] for v in y]
        mean = tuple(float(v.mean()) for v in y)
        std = tuple(float(v.std()) or 1.0 for v in y)
    return TablePreprocessing(
        columns=columns,
        targets=() if own else options.targets,
        classification=classification,
        width=min(width, options.max_columns + len(options.items)) if options.ranked else width,
        target_mean=mean,
        target_std=std,
        scaling="support" if options.ranked else options.scaling,
        center_target=(options.center_target or own) and not classification,
        ranked=options.ranked,
        target_readings=() if own else _readings(table, options.targets, classification),
    )


def _readings(table: Table, targets: Sequence[str], classification: bool) -> tuple[Reading | None, ...]:
    """How the cells of regression targets became numbers; () where all are plain."""
    found = [] if classification else [table.readings.get(name) for name in targets]
    found = [None if reading in (PLAIN, TYPED, Reading("truth")) else reading for reading in found]
    return tuple(found) if any(found) else ()


def _group(
    table: Table, piece: Piece, record: TablePreprocessing, encoded: np.ndarray | None = None
) -> TableGroup:  # fmt: skip
    """A task's rows; ``encoded`` are those of the whole table, where each target is a task and all share them."""
    name, target, rows = piece
    if encoded is not None and record.classification:
        return TableGroup(name, encoded, None, {c: rows[at] for c, at in _by_class(table.texts[target][rows]).items()})
    own = table.take(rows)
    if encoded is not None:
        return _own_group(table, piece, target, encoded[rows], False)
    assert record.columns is not None
    x = raw(own, record.columns)
    label = f"{name}: {target}" if target and len(record.targets) > 1 else name
    if not record.classification:
        return TableGroup(label, x, record.values(own))
    return TableGroup(label, x, None, _by_class(own.texts[target]))


def _by_class(cells: np.ndarray) -> dict[str, np.ndarray]:
    names, number = np.unique(cells.astype(str), return_inverse=True)
    return {str(name): np.flatnonzero(number == i) for i, name in enumerate(names)}


def _class_pairs(
    table: Table, options: TableOptions, classification: bool, notes: list[str], left_out: list[str]
) -> Understanding:
    """Tasks tell a few classes of one table apart; the sides of the split have different classes."""
    if len(options.targets) > 1 or not classification or options.split_by:
        raise ConfigError(
            "tasks_by='class_pairs' expected one target of class names and no split_by, got something else; use task_column"
        )
    rows, without = rows_by_value(table, next(iter(options.targets)))
    if without:
        left_out.append(f"{without} rows without a target")
    few = [name for name, own in rows.items() if len(own) < options.least_rows]
    if few:
        left_out.append(f"{len(few)} classes of fewer than {options.least_rows} rows: {', '.join(map(repr, few[:5]))}")
    sides = split_names(
        [name for name in rows if name not in few],
        seed=options.seed,
        valid_share=options.valid_share,
        test_share=options.test_share,
        together=options.together,
        least=2,
        what="classes",
        left_out=left_out,
    )
    of_classes = [rows[name] for name in sides["train"]]
    training = np.sort(np.concatenate(of_classes))
    record = _record(table, training, of_classes, [*options.targets, *options.ignore], options, True, notes)
    groups = {
        split: [_group(table, (split, next(iter(options.targets)), np.concatenate([rows[n] for n in names])), record)]
        for split, names in sides.items()
    }
    return Understanding(record, groups, "a draw of classes of the table", notes, left_out, table.rows, pairs=True)


def _own_columns(
    tables: Sequence[Table], options: TableOptions, notes: list[str], left_out: list[str]
) -> Understanding:
    """Every table is a task with columns of its own: encoded by itself, scaled by its support set, padded to one width."""
    single = (options.task_column, options.tasks_by, options.split_by, options.order_by, options.center_target)
    if any(single) or len(options.targets) > 1:
        raise ConfigError(
            "tables of different columns are one task each, expected no task_column, tasks_by, split_by, order_by, center_target "
            "or second target, got one; give columns='common' to put the tables below each other"
        )
    if options.items:
        raise ConfigError(
            f"item_column expected tables of the same columns, got several with columns of their own; leave {options.items[0]!r} "
            "out, or give columns='common'"
        )
    target = next(iter(options.targets))
    usable = [table for table in tables if target in table.columns]
    lacking = [t.name for t in tables if target not in t.columns]
    if lacking:
        left_out.append(f"{len(lacking)} tables without the column {target!r}: {', '.join(lacking[:5])}")
    if not usable:
        raise InputError(f"expected tables with the column {target!r}, got none; name the target that they have")
    kinds = [is_classification(table, [target], options.kind) for table in usable]
    if len(set(kinds)) > 1:
        raise InputError(
            f"the target {target!r} expected classes in all tables or numbers in all, got {sum(kinds)} tables of classes and "
            f"{len(kinds) - sum(kinds)} of numbers; say kind"
        )
    groups: dict[str, TableGroup] = {}
    widths: list[int] = []
    few: list[str] = []
    for table in usable:
        whole = {table.name: np.arange(table.rows)}
        said: list[str] = []
        pieces = _pieces(table, whole, [target], kinds[0], options.least_rows, said)
        ignored = [target, *(c for c in options.ignore if c in table.columns)]
        named = [c for c in options.categories if c in table.columns]
        measured = [c for c in options.quantities if c in table.columns]
        columns, more = fit_columns(table, ignored, categories=named, quantities=measured)
        notes += [_named(table, note) for note in more]
        if not pieces or not columns:
            few.append(table.name)
            continue
        groups[table.name] = _own_group(table, pieces[0], target, raw(table, columns)[pieces[0][2]], kinds[0])
        widths.append(sum(column.width for column in columns))
    _say_few(few, kinds[0], options.least_rows, left_out)
    if not groups:
        raise InputError(f"expected tables with rows of at least two classes, got none; {'; '.join(left_out[:2])}")
    sides = split_names(
        list(groups),
        seed=options.seed,
        valid_share=options.valid_share,
        test_share=options.test_share,
        together=options.together,
    )
    width = min(options.max_columns, max(widths))
    cut = sum(w > width for w in widths)
    if cut:
        which = "most telling" if options.ranked else "first"
        notes.append(f"{cut} tables have more than {width} encoded columns; the {which} are used")
    record = TablePreprocessing(
        columns=None,
        targets=(),
        classification=kinds[0],
        width=width,
        target_mean=() if kinds[0] else (0.0,),
        target_std=() if kinds[0] else (1.0,),
        scaling="support",
        center_target=not kinds[0],
        ranked=options.ranked,
    )
    by_side = {split: [groups[name] for name in names] for split, names in sides.items()}
    rows = sum(table.rows for table in tables)
    return Understanding(
        record, by_side, "one task a file, each with its own columns", notes, left_out, rows, by_table=True
    )


def _own_group(table: Table, piece: Piece, target: str, x: np.ndarray, classification: bool) -> TableGroup:
    name, _, rows = piece
    if classification:
        return TableGroup(name, x, None, _by_class(table.texts[target][rows]))
    y = table.columns[target][rows]
    # Each task scales its targets by its support set; this only keeps large numbers exact in float32.
    return TableGroup(name, x, ((y - y.mean()) / (y.std() or 1.0)).astype(np.float32)[:, None])
