"""A user's own tables as a problem: rows grouped into tasks, or a folder in which each table is a task."""

from __future__ import annotations

import dataclasses
import inspect
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.core import TaskFamily
from innerloop.data.check_result import CheckResult
from innerloop.data.table_cells import Loud
from innerloop.data.table_preprocessing import Scaling
from innerloop.errors import ConfigError, InnerloopWarning
from innerloop.tasks.molecules.own import check_molecules, molecule_family
from innerloop.tasks.own_texts import check_texts, text_family
from innerloop.tasks.row_draws import sizes_of
from innerloop.tasks.tables.few_shot import TableTasks
from innerloop.tasks.tables.understanding import ColumnRule, Kind, TableOptions, Understanding, some, understand

_MOST_WAYS = 10  # of tasks whose number of ways nobody named


def table_family(
    path: str | Path,
    *,
    target: str | Sequence[str] | None = None,
    task_column: str | None = None,
    tasks_by: str | None = None,
    split_by: str | None = None,
    together: Sequence[str] = (),
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
    item_column: str | Sequence[str] | None = None,
    item_table: str | None = None,
    item_statistics: bool | None = None,
    categories: Sequence[str] = (),
    quantities: Sequence[str] = (),
    kind: Kind = "auto",
    columns: ColumnRule = "auto",
    scaling: Scaling = "train",
    center_target: bool = False,
    ranked: bool = False,
    max_columns: int = 64,
    ways: int | None = None,
    shots: int | None = None,
    queries: int | None = None,
    support_size: int | None = None,
    order_by: str | None = None,
    train_ways: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    valid_share: float = 0.15,
    test_share: float = 0.15,
    seed: int = 0,
    separator: str | None = None,
    encoding: str | None = None,
    text: str | None = None,
    embedding: str | None = None,
    smiles: str | None = None,
) -> TaskFamily:
    """Tasks from a CSV, TSV or Parquet table, or from a folder or zip of them.

    Args:
        path: the table, or a folder or zip in which each table is a task.
        target: the column to predict. Several (a list, or "a,b,c"): where rows are grouped into tasks, regression predicts them
            together and classification makes each a task; without a rule each target is a task, of the rows that have it.
        task_column: rows with one value of this column are one task.
        tasks_by: another rule: "class_pairs" (a task tells two classes apart, ``ways`` for more; the sides of the split have
            different classes) or "ranges:COLUMN:N" (N ranges of a column of numbers, with equally many rows).
        split_by: a column that says train, valid or test for whole tasks, or whose values keep tasks together on one side.
        together: patterns of task names, such as "monk*" or "chess|kr_vs_kp"; tasks that match the same one lie on one side
            of the split.
        only: patterns of the tables' names; the others of the folder or zip are not read.
        ignore: columns that are no inputs.
        item_column: the column that names items, such as films, products or machines ("a,b" for several): each item that two
            training tasks share has a learned vector, all others are one unknown item. Never a quantity.
        item_table: a table with one row an item and the same ``item_column``, whose other columns are inputs too; in a column of
            lists such as "Action|Comedy" each word is one. The run and the task file keep what it says of each item.
        item_statistics: whether three numbers more stand beside each item: its mean target over the training tasks, its mean
            above each task's own, and how many there are, the two means shrunk towards zero by how much they tell. A training
            task's own rows are left out of its own. None: where rows are ratings (one item column, at most 20 different values of
            one target, hardly any item twice in a task).
        categories: columns of numbers that are categories.
        quantities: columns of whole numbers that are measures although they look like identifiers or codes.
        kind: of the target; "auto": texts and whole numbers of at most 20 values are classes.
        columns: of several tables: "common": the columns that all have, encoded alike; "own": each table's own, scaled by
            the task's support set and padded with zeros to one width; "auto": "common" where all have the same columns.
        scaling: "train": numbers are scaled with the mean and deviation of the training tasks' rows; "support": with the
            task's support set too.
        center_target: for regression, take the mean of the support set's targets off a task's targets.
        ranked: the encoded columns that the support set finds most telling come first (``scaling`` is "support" then).
        max_columns: most encoded columns of a ranked row, or of tables with their own columns.
        ways: classes of a task; None: as many as the largest task of training has, at most 10; 2 for class pairs.
        shots: support rows of a task, for classification of each of its classes; None: 5.
        queries: query rows likewise; None: 15. Beside ``support_size``: of the whole task, None: all the rest, in training 256
            at most.
        support_size: support rows of the whole task, its classes as frequent as in the task itself, in place of ``shots``.
        order_by: a column of times or other numbers: a task's first rows are its support set, later ones are asked for. It
            stays an input (of ratings it does not); ``ignore`` leaves it out.
        train_ways, train_shots, train_queries: of training tasks, where they differ.
        valid_share, test_share: of the tasks.
        seed: of the split.
        separator, encoding: of text tables; to be given if they are guessed wrongly.
        text: a column of texts, which alone is the input; the classes of ``target`` are then split, and no rule for tasks is
            needed (`own_texts.text_family`).
        embedding: the trained network that reads the texts; None: "sentences".
        smiles: a column of molecules as SMILES, which alone is the input; the tasks are those of ``task_column``, or several
            targets (`tasks.molecules.own.molecule_family`).

    Returns:
        The family; ``train.preprocessing`` says how rows are encoded, learned on the training tasks alone.

    Raises:
        InputError: tables that cannot be read, no such column, too few tasks.
        ConfigError: options that do not go together, or none that says what a task is.
    """
    given: dict[str, Any] = {key: value for key, value in locals().items() if key != "path"}
    if target is None or not target:
        raise ConfigError(f"{path} expected --target, the column to predict, got none; see innerloop data check {path}")
    if item_table is not None:
        given["item_table"] = str(Path(item_table).expanduser().resolve())  # wherever the run is opened again
    if smiles is not None:
        return molecule_family(path, **_of_others(path, given, molecule_family, "molecules"))._replace(options=given)
    if text is not None or embedding is not None:
        return text_family(path, **_of_texts(path, given))._replace(options=given)
    names = {field.name for field in dataclasses.fields(TableOptions)}
    found = understand(path, TableOptions(**{key: value for key, value in given.items() if key in names}))
    family = family_of(found, path, given)
    unused = tuple(f"column {name!r} " for name in ignore)
    for sentence in some([note for note in found.notes if isinstance(note, Loud) and not note.startswith(unused)]):
        warnings.warn(sentence, InnerloopWarning, stacklevel=3)
    return family


def _of_texts(path: str | Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of `table_family`'s options those of `text_family`.

    Raises:
        ConfigError: one that has no meaning for texts.
    """
    if not isinstance(given.get("target"), str | None):
        raise ConfigError(f"{path}: target expected one column of classes for texts, got {given['target']}")
    return _of_others(path, given, text_family, "texts", split_seed="seed")


def _of_others(
    path: str | Path, given: Mapping[str, Any], family: Callable[..., TaskFamily], what: str, **renamed: str
) -> dict[str, Any]:
    """Of `table_family`'s options those of another family of tables, some by another name.

    Raises:
        ConfigError: one that has no meaning there.
    """
    usual = {p.name: p.default for p in inspect.signature(table_family).parameters.values()}
    known = inspect.signature(family).parameters
    other = {own: name for name, own in renamed.items()}
    found = {other.get(name, name): name for name in given}
    for name, own in found.items():
        if name not in known and given[own] and given[own] != usual[own]:
            raise ConfigError(
                f"{path}: {own} expected a table whose columns are the inputs, got one of {what}; leave {own} out"
            )
    return {name: given[own] for name, own in found.items() if name in known and given[own] is not None}


def family_of(found: Understanding, path: str | Path, options: Mapping[str, Any]) -> TaskFamily:
    """The family of tables that were understood, with `table_family`'s options."""
    record = found.record
    ways, name = options.get("ways"), Path(path).resolve().name  # what messages call the tasks
    if not record.classification and (ways is not None or options.get("train_ways") is not None):
        raise ConfigError("ways expected a target of classes, got one of numbers; leave ways out, or say kind")
    if record.classification and ways is None:
        ways = 2 if found.pairs else min(_MOST_WAYS, max(len(g.classes or ()) for g in found.groups["train"]))

    def distribution(split: str) -> TableTasks:
        sizes = sizes_of(split, ways or 0, options, ordered=options.get("order_by") is not None)
        return TableTasks(found.groups[split], record, sizes=sizes, name=name, split=split, by_table=found.by_table)

    kept = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    return TaskFamily.by_split(str(path), distribution, kept)


def check(path: str | Path, **options: Any) -> CheckResult:
    """What a path of tables holds and what can be trained on it; options as for `table_family`.

    Without ``target`` the columns are listed and a command is suggested.
    """
    from innerloop.tasks.tables.report import described, suggested

    if options.get("smiles") is not None:
        return check_molecules(Path(path), **_of_others(path, options, molecule_family, "molecules"))
    if options.get("text") is not None:
        return check_texts(Path(path), **_of_texts(path, options))
    if options.get("target") is None:
        return suggested(path, options)
    names = {field.name for field in dataclasses.fields(TableOptions)}
    found = understand(path, TableOptions(**{k: v for k, v in options.items() if k in names}))
    family = family_of(found, path, options)
    json.dumps(dict(family.options))  # a run directory holds them
    return described(path, found, family, options)
