"""Molecules that a user shows of one task, those asked about, and a library of them ranked by what is predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from innerloop.data import molecules as reading
from innerloop.data.arrays import label_names
from innerloop.data.counts import Counts, is_sparse
from innerloop.errors import ConfigError, InputError, ShapeError, expect_whole
from innerloop.functional.tanimoto import tanimoto

_AT_ONCE = 1_000  # molecules of a library


class Neighbour(NamedTuple):
    """A molecule of the support set beside one that is predicted.

    Attributes:
        smiles: as it was shown.
        similarity: Tanimoto's of their counts, 0 to 1.
        answer: what was measured.
    """

    smiles: str
    similarity: float
    answer: Any


class Screened(NamedTuple):
    """A molecule of a library.

    Attributes:
        row: where it stands there, from 1.
        smiles: as written there.
        name: likewise, or "".
        prediction: a class name, or a value.
        score: what it is ranked by: the probability of the class that is looked for, or the value.
        std: of the prediction; None where the method has none.
        chances: of each class, as ``fitted.classes_``; empty for values.
        nearest: molecules of the support set, the most alike first.
    """

    row: int
    smiles: str
    name: str
    prediction: Any
    score: float
    std: float | None
    chances: tuple[float, ...]
    nearest: tuple[Neighbour, ...]


def takes_molecules(x: Any, preprocessing: Mapping[str, Any] | None) -> bool:
    """Whether ``x`` are molecules to be read: for a learner of such, unless they are counts already."""
    if not reading.are_molecules(preprocessing) or is_sparse(x) or isinstance(x, Tensor):
        return False
    return not (isinstance(x, np.ndarray) and x.dtype.kind in "fiu")


def shown_molecules(
    preprocessing: Mapping[str, Any] | None, x: Any, y: Any = None, target: str | None = None
) -> tuple[Counts, Any, dict[str, Any]]:
    """(fragments, class names or values as the model learns them, the record with these molecules) of a support set.

    Raises:
        InputError: no target, one class, values that are all the same or in several units, no molecule that rdkit reads.
        ShapeError: another number of targets than molecules.
    """
    record = reading.record_of(preprocessing)
    assert record is not None
    written = reading.written(x, record.column)
    cells = _cells(written, y, target or record.target, record.of_values)
    if len(cells) != len(written.smiles):
        raise ShapeError(f"x and y expected equally many examples, got {len(written.smiles)} and {len(cells)}")
    found = reading.read(written)
    there = [i for i, row in enumerate(found.rows) if not _missing(cells[row])]
    notes = list(found.notes)
    if len(there) < len(found.rows):
        notes.append(f"{len(found.rows) - len(there)} molecules without a measurement are left out")
    if not there:
        raise InputError(f"{written.where} expected measured molecules, got none; give their targets")
    own = [cells[found.rows[i]] for i in there]
    kept, own, said = reading.without_repeats([found.canonical[i] for i in there], own, values=record.of_values)
    reading.tell([*notes, *said], written.where)
    found = found.take([there[i] for i in kept])
    if (len(own) > 1 and len(set(own)) == 1) or (not record.of_values and len(set(own)) < 2):
        what = "different values" if record.of_values else "molecules of two classes"
        said_of = own[0] if own else "none"
        raise InputError(f"{written.where} expected {what}, got {said_of!r} alone in all {len(own)}; add others")
    more = record._replace(shown=(*record.shown, *found.smiles), answers=(*record.answers, *map(_plain, own)))
    return found.counts, _targets(own, record), more.to_dict()


def _cells(written: reading.Written, y: Any, target: str | None, values: bool) -> list[Any]:
    table = written.table
    if isinstance(y, str) and table is not None:
        y, target = None, y
    if y is not None:
        if not values:
            return label_names(y)
        return np.asarray(y, dtype=np.float64).reshape(len(y), -1)[:, 0].tolist()
    if table is None:
        raise InputError(
            "adapt expected targets y with the molecules, got none; give them, or a table with their column"
        )
    if target is None:
        raise ConfigError("expected the column to learn, got none; name it, as in target='active', or --target active")
    table.expect(target)
    if not values:
        return table.labels(target).tolist()
    rows = list(range(table.rows))
    reading.expect_one_unit(table, target, rows)
    if not table.is_number(target):
        cells = [cell for cell in table.texts[target] if cell is not None]
        got = repr(cells[0][:40]) if cells else "missing cells"
        raise InputError(f"{table.name}: the target {target!r} expected numbers, got {got}; mend the column")
    return table.columns[target].tolist()


def _missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and np.isnan(cell))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _targets(own: Sequence[Any], record: reading.Record) -> Any:
    if record.std is None or record.mean is None:
        return list(own)
    return ((np.array(own, dtype=np.float64) - record.mean) / record.std)[:, None]


def asked_molecules(preprocessing: Mapping[str, Any] | None, x: Any) -> Counts:
    """The fragments of molecules that are asked about, one row each.

    Raises:
        InputError: rdkit refuses one, so that rows and answers would no longer go together.
    """
    assert preprocessing is not None
    found, written = reading.features_of(preprocessing, x, quiet=True)
    if len(found.rows) < len(written.smiles):
        raise InputError(
            f"predict expected SMILES that rdkit reads, got others: {found.notes[0]}; leave them out, or use il.screen, which "
            "does"
        )
    return found.counts


def in_units(preprocessing: Mapping[str, Any] | None, value: Any, spread: bool) -> Any:
    """Predicted values, or their spread, in the unit of the targets; those of other learners as they are."""
    record = reading.record_of(preprocessing)
    if record is None or record.std is None or record.mean is None:
        return value
    return value * record.std + (0.0 if spread else record.mean)


def screen(fitted: Any, library: Any, *, rank: bool = True, nearest: int = 3) -> list[Screened]:
    """A library of molecules with what an adapted task predicts of each, the most promising first.

    Molecules that rdkit refuses are named in a warning and left out.

    Args:
        fitted: a task of molecules (`MetaLearner.adapt`).
        library: SMILES, a .smi file, or a table with a column of them.
        rank: False: in the library's own order.
        nearest: how many molecules of the support set stand beside each, by Tanimoto's similarity of their fragments.

    Raises:
        ConfigError: a task of something else.
        InputError: no molecule that rdkit reads.
    """
    record = reading.record_of(fitted.preprocessing)
    if record is None:
        raise ConfigError("screen expected a task of molecules, got one of other inputs; use fitted.predict")
    expect_whole("nearest", nearest, 0)
    found, _ = reading.features_of(fitted.preprocessing, library)
    shown = reading.read(reading.written(list(record.shown))).counts if record.shown and nearest else None
    made: list[Screened] = []
    for start in range(0, len(found.rows), _AT_ONCE):
        rows = torch.arange(start, min(start + _AT_ONCE, len(found.rows)))
        made += _screened(fitted, record, found.take(rows.tolist()), shown, nearest)
    return sorted(made, key=lambda one: -one.score) if rank else made


def looked_for(classes: Sequence[Any]) -> int:
    """The place of the class by whose probability molecules are ranked: the active one, else the last."""
    name = reading.active_of(classes)
    return len(classes) - 1 if name is None else list(classes).index(name)


def _screened(
    fitted: Any, record: reading.Record, found: reading.Molecules, shown: Counts | None, nearest: int
) -> list[Screened]:
    packed = found.counts.packed()
    chances: list[tuple[float, ...]] = [()] * len(found.rows)
    stds: list[float | None] = [None] * len(found.rows)
    if fitted.classes_ is None:
        predictions = np.asarray(fitted.predict(found.counts)).reshape(len(found.rows), -1)[:, 0].tolist()
        scores = predictions
        if fitted.learner.predicts_distribution and fitted.owner.loss is None:
            stds = np.asarray(fitted.predict_std(found.counts)).reshape(len(found.rows), -1)[:, 0].tolist()
    else:
        each = np.asarray(fitted.predict_proba(found.counts))
        chances = [tuple(map(float, row)) for row in each]
        predictions = [fitted.classes_[i] for i in each.argmax(1)]
        scores = each[:, looked_for(fitted.classes_)].tolist()
    alike = None if shown is None else tanimoto(packed, shown.packed(), reading.KINDS)
    made = []
    for i, row in enumerate(found.rows):
        near: tuple[Neighbour, ...] = ()
        if alike is not None:
            order = alike[i].argsort(descending=True, stable=True)[:nearest].tolist()
            near = tuple(Neighbour(record.shown[j], float(alike[i, j]), record.answers[j]) for j in order)
        score = float(scores[i])
        made.append(
            Screened(row + 1, found.smiles[i], found.names[i], predictions[i], score, stds[i], chances[i], near)
        )
    return made
