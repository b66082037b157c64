"""A user's own molecules as a problem: a table with a column of SMILES, whose assays are the tasks."""

from __future__ import annotations

import inspect
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from innerloop.core import TaskFamily
from innerloop.data import molecules as reading
from innerloop.data.check_result import CheckResult
from innerloop.data.counts import Counts
from innerloop.data.tables import Table, read_table
from innerloop.errors import ConfigError, InputError, first_few
from innerloop.tasks.own_arrays import from_arrays
from innerloop.tasks.own_rows import RowTasks
from innerloop.tasks.precision import DtypeName

METRICS = ("delta_auprc", "roc_auc", "accuracy")
_MOST_CLASSES = 20  # whole numbers of so many values are classes, as in other tables


class Measured(NamedTuple):
    """Measurements, one molecule of one task each.

    Attributes:
        molecules: of each.
        tasks: of each.
        targets: class names, or values.
        values: whether these are numbers.
        notes: what was left out, in sentences.
    """

    molecules: reading.Molecules
    tasks: list[str]
    targets: list[Any]
    values: bool
    notes: list[str]


def molecule_family(
    path: str | Path,
    *,
    smiles: str | None = None,
    target: str | Sequence[str] | None = None,
    task_column: str | None = None,
    kind: str = "auto",
    shots: int | None = None,
    queries: int | None = None,
    support_size: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    valid_share: float = 0.15,
    test_share: float = 0.15,
    seed: int = 0,
    dtype: DtypeName | None = None,
    separator: str | None = None,
    encoding: str | None = None,
) -> TaskFamily:
    """Few-shot tasks of a table of molecules: each assay a task, of classes (active or not) or of values (pIC50).

    Molecules that rdkit refuses are named and left out; salts, repeated molecules and cells without a measurement are told of.

    Args:
        path: the table, one measurement a row.
        smiles: the column of SMILES; None: the one of that name.
        target: the column to predict; several (a list, or "a,b,c"): each is a task of the molecules that were measured in it.
        task_column: the column that says which assay a row belongs to; of no use beside several targets.
        kind: "auto" (texts and whole numbers of few values are classes), "classification" or "regression".
        shots: support molecules of each class (of values: of the task); None: by ``support_size``.
        queries: molecules that are asked: of the whole task beside ``support_size`` (None: all others), else of each class.
        support_size: support molecules of a task, its classes as frequent as in it; None, without ``shots``: 16.
        train_shots, train_queries: of training tasks, where they differ.
        valid_share, test_share: of the tasks.
        seed: of the split.
        dtype: of the inputs, "float32" or "float64"; None: torch's default.
        separator, encoding: of text tables; to be given if they are guessed wrongly.

    Returns:
        Counts of Morgan fragments (radius 2, 2,048 kinds), as `il.Counts.packed`; values scaled by the training tasks' mean and
        deviation. Of two classes the one called active, 1, true, yes, positive, hit or toxic is the one that is ranked.

    Raises:
        InputError: rdkit is absent, no such column, no molecule that it reads, several units, a target that is constant, too few
            tasks.
        ConfigError: options that do not go together.
    """
    options: dict[str, Any] = {key: value for key, value in locals().items() if key != "path"}
    path = Path(path).expanduser()
    found = measured(path, options)
    reading.tell([*found.molecules.notes, *found.notes], str(path))
    family = _family(found, path.stem, options)
    _describe(family, found, options)
    kept = {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()}
    return family._replace(name=str(path.resolve()), options=kept)


def measured(path: Path, options: dict[str, Any]) -> Measured:
    """The measurements in a table.

    Raises:
        InputError: as `molecule_family`.
        ConfigError: no target, or none that says what a task is.
    """
    table = read_table(path, separator=options["separator"], encoding=options["encoding"])
    column = reading.column_of(table, options["smiles"])
    targets = _targets(table, options["target"], column)
    of = options["task_column"]
    if of is None and len(targets) == 1:
        raise ConfigError(
            f"{path} expected --task-column, which says which assay a row belongs to, or several targets, got one target; name it"
        )
    if of is not None and len(targets) > 1:
        raise ConfigError(f"{path} expected --task-column or several targets, got both; leave one out")
    found = reading.read(reading.written(table, column))
    values = _of_values(table, targets, options["kind"])
    ids = None if of is None else table.labels(of)
    places, tasks, cells, unmeasured, nameless = [], [], [], 0, 0
    for target in targets:
        if values:
            reading.expect_one_unit(table, target, found.rows)
        column_cells = table.columns[target] if values else table.labels(target)
        for i, row in enumerate(found.rows):
            task, cell = target if ids is None else ids[row], column_cells[row]
            if task is None:
                nameless += 1
            elif cell is None or (values and np.isnan(cell)):
                unmeasured += 1
            else:
                places.append(i)
                tasks.append(str(task))
                cells.append(float(cell) if values else cell)
    notes = []
    if nameless:
        notes.append(f"{nameless} rows without a cell in {of!r} are left out")
    if unmeasured:
        notes.append(f"{unmeasured} cells without a measurement are left out")
    if not cells:
        raise InputError(f"{path} expected measurements in {first_few(targets)}, got none; name another target")
    kept, cells, said = reading.without_repeats([found.canonical[i] for i in places], cells, tasks, values=values)
    tasks = [tasks[i] for i in kept]
    if len(set(cells)) == 1:
        raise InputError(
            f"{path}: the target {first_few(targets)} expected different values, got {cells[0]!r} in every row"
        )
    return Measured(found.take([places[i] for i in kept]), tasks, cells, values, [*notes, *said])


def _targets(table: Table, target: Any, column: str) -> list[str]:
    if not target:
        others = [name for name in table.columns if name != column]
        raise ConfigError(
            f"{table.name} expected --target, the column to predict, got none; it has {first_few(others)}"
        )
    names = [target] if isinstance(target, str) and target in table.columns else target
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else [str(name) for name in names]
    table.expect(*names)
    if column in names:
        raise ConfigError(f"--target expected a measurement, got {column!r}, the column of SMILES; name another")
    return names


def _of_values(table: Table, targets: list[str], kind: str) -> bool:
    if kind not in ("auto", "classification", "regression"):
        raise ConfigError(f"kind expected auto, classification or regression, got {kind!r}")
    if kind == "classification":
        return False
    for target in targets:
        table.readable(target)
    numeric = [table.is_number(target) for target in targets]
    if kind == "regression":
        if not all(numeric):
            name = targets[numeric.index(False)]
            raise InputError(
                f"{table.name}: the target {name!r} expected numbers for regression, got texts; mend the column"
            )
        return True
    for target, number in zip(targets, numeric, strict=True):
        there = table.columns[target][~np.isnan(table.columns[target])] if number else np.zeros(0)
        if number and (bool((there != there.round()).any()) or len(np.unique(there)) > _MOST_CLASSES):
            return True
    return False


def _family(found: Measured, name: str, options: dict[str, Any]) -> TaskFamily:
    sizes = {key: options[key] for key in ("shots", "queries", "support_size", "train_shots", "train_queries")}
    if sizes["shots"] is None and sizes["support_size"] is None:
        sizes["support_size"] = 16
    if found.values:
        y: Any = np.array(found.targets)
        if sizes["support_size"] is not None and sizes["shots"] is None:
            sizes["shots"], sizes["support_size"] = sizes["support_size"], None
            sizes["queries"] = 64 if sizes["queries"] is None else sizes["queries"]
    else:
        y = found.targets
        looked_for = reading.active_of(sorted(set(y)))
        if looked_for is not None:  # the one that is ranked has the greater number
            y = [int(cell == looked_for) for cell in y]
    return from_arrays(
        found.molecules.counts,
        y,
        task=found.tasks,
        valid_share=options["valid_share"],
        test_share=options["test_share"],
        split_seed=options["seed"],
        dtype=options["dtype"],
        name=name,
        **sizes,
    )


def _describe(family: TaskFamily, found: Measured, options: dict[str, Any]) -> None:
    """How a file becomes inputs and targets of such tasks, on each side of the split."""
    column = options["smiles"] or "smiles"
    record = reading.Record(column, options["target"] if isinstance(options["target"], str) else None)
    train: Any = family.train
    if found.values:
        own = train.y[train.rows]
        mean, std = float(own.mean()), float(own.std()) or 1.0
        record = record._replace(mean=mean, std=std)
    for split in (family.train, family.valid, family.test):
        assert isinstance(split, RowTasks) and isinstance(split.x, Counts)
        split.preprocessing = record.to_dict()
        if record.std is not None and record.mean is not None:
            assert split.y is not None
            split.y = (torch.as_tensor(split.y) - record.mean) / record.std
            split.target_scale, split.target_offset = [record.std], [record.mean]
            split.metrics = ("rmse", "mae", "r2")
        elif split.draws.most_classes == 2:
            split.metrics = METRICS


def check_molecules(path: Path, **options: Any) -> CheckResult:
    """What `innerloop data check` says of a table of molecules; options as for `molecule_family`.

    Raises:
        InputError, ConfigError: what `molecule_family` refuses.
    """
    names = [field for field in _SETTINGS if field in options]
    given = {**_SETTINGS, **{name: options[name] for name in names}}
    found = measured(path, given)
    sizes = sorted(Counter(found.tasks).values())
    kind = "values" if found.values else f"classes: {first_few(sorted(set(map(str, found.targets))))}"
    facts = {
        "path": str(path),
        "kind": "molecules",
        "measurements": len(found.targets),
        "molecules": len(set(found.molecules.canonical)),
        "tasks": len(sizes),
        "molecules in a task": {"fewest": sizes[0], "median": float(np.median(sizes)), "most": sizes[-1]},
        "target": "values" if found.values else sorted(set(map(str, found.targets))),
        "notes": [*found.molecules.notes, *found.notes],
    }
    lines = [
        f"{path}: molecules, {facts['molecules']} different ones in {len(found.targets)} measurements",
        f"{len(sizes)} tasks of {sizes[0]} to {sizes[-1]} molecules, median {np.median(sizes):g}; target: {kind}",
        *(f"note: {note}" for note in facts["notes"]),
    ]
    flags = "".join(
        f" --{key.replace('_', '-')} {shlex.quote(','.join(value) if isinstance(value, list | tuple) else str(value))}"
        for key, value in options.items()
        if value is not None and value != _SETTINGS.get(key)
    )
    return CheckResult(lines, facts, f"innerloop train dkt {shlex.quote(str(path))}{flags} --kernel tanimoto+rbf")


_SETTINGS: dict[str, Any] = {
    name: p.default for name, p in inspect.signature(molecule_family).parameters.items() if p.default is not p.empty
}
