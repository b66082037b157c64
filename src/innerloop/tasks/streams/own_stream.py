"""A user's own stream: the rows of a table in their order, the pictures of a folder class after class, or arrays."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples
from innerloop.data import own_classes, picture_sources
from innerloop.data.table_cells import Loud
from innerloop.data.table_preprocessing import TablePreprocessing, fit_columns
from innerloop.data.tables import Table, is_table, read_table
from innerloop.errors import ConfigError, InnerloopWarning, InputError, expect_whole, first_few
from innerloop.tasks.streams.stream import HeldStream, Stream, as_floats
from innerloop.tasks.tables.grouping import in_order
from innerloop.tasks.tables.understanding import Kind, is_classification

_SIDES = 1
_LEAST = 2  # examples of a part: one to learn, one to be judged on


class PictureStream(HeldStream):
    """Pictures of one's own, class after class."""

    def default_model(self) -> nn.Module:
        from innerloop import models

        if min(self.input_shape[1:]) >= 8:
            return models.conv4(self.input_shape, self.output_size, norm="none")
        return super().default_model()


def own_stream(
    path: str | Path,
    *,
    target: str | None = None,
    order_by: str | None = None,
    part_column: str | None = None,
    parts: int = 10,
    test_share: float = 0.2,
    seed: int = 0,
    kind: Kind = "auto",
    ignore: Sequence[str] = (),
    categories: Sequence[str] = (),
    quantities: Sequence[str] = (),
    separator: str | None = None,
    encoding: str | None = None,
) -> Stream:
    """A stream from a table (CSV, TSV, Parquet) or from a folder or zip of class folders with pictures.

    A table's rows come in the order of ``order_by`` and are cut into parts; a folder's classes are the parts, in the order of
    their names. Of each part a share is held out, to be judged on. How columns become numbers is learned on the first part alone,
    as later ones are not known yet.

    Args:
        path: the table, or the folder or zip.
        target: the column to predict.
        order_by: a column of times or other numbers; None: the rows as they lie.
        part_column: a part for each value of this column, in the order in which they first come; None: ``parts`` of equally many
            rows.
        parts: how many.
        test_share: of each part, drawn at random; at least one example.
        seed: of that draw.
        kind: of the target; "auto": texts and whole numbers of at most 20 values are classes.
        ignore: columns that are no inputs.
        categories, quantities: columns of numbers that are categories; columns that look like identifiers and are measures.
        separator, encoding: of a text table; to be given if they are guessed wrongly.

    Raises:
        InputError: nothing readable, no such column, a missing target, names of classes that differ in case or blanks alone, too
            few rows.
        ConfigError: options that do not go together.
    """
    options = {
        k: list(v) if isinstance(v, tuple) else str(v) if isinstance(v, Path) else v for k, v in locals().items()
    }
    expect_whole("parts", parts)
    _expect_share(test_share)
    where = Path(path).expanduser()
    if not where.exists():
        raise InputError(
            f"expected a table, or a folder or zip of pictures, at {path}, found nothing there; check the path"
        )
    if not is_table(where):
        given = {"target": target, "order_by": order_by, "part_column": part_column}
        if named := [name for name, value in given.items() if value is not None]:
            raise ConfigError(f"{named[0]} expected a table, got {path}, pictures by class; leave it out")
        return _of_pictures(where, test_share, seed, options)
    if target is None:
        raise ConfigError(f"{path} expected --target, the column to predict, got none; see innerloop data check {path}")
    table = read_table(where, separator=separator, encoding=encoding)
    table.expect(target, *ignore, *([part_column] if part_column else []))
    if order_by is not None:
        table = in_order(table, order_by)
    cuts, names = _cut(table, part_column, parts)
    classification = is_classification(table, (target,), kind)
    leave = [target, *ignore, *([part_column] if part_column else [])]
    first = table.take(cuts[0])
    columns, notes = fit_columns(first, leave, categories=categories, quantities=quantities)
    for note in notes:
        if isinstance(note, Loud):
            warnings.warn(note, InnerloopWarning, stacklevel=2)
    if not columns:
        raise InputError(f"{path}: expected columns to predict from, got none that vary in the first part; add some")
    mean, std = (0.0,), (1.0,)
    if not classification:
        table.readable(target)
        values = first.columns[target]
        mean, std = (float(np.nanmean(values)),), (float(np.nanstd(values)) or 1.0,)
    width = sum(column.width for column in columns)
    record = TablePreprocessing(columns, (target,), classification, width, mean, std)
    x = torch.from_numpy(record.encode(table)).to(torch.get_default_dtype())
    if classification:
        y, classes = _labels(table.class_names(target), str(path))
    else:
        y, classes = torch.from_numpy(record.values(table)).to(x), None
    _tell_changed(x, y, str(path))
    made = [
        _sides(x[torch.from_numpy(rows)], y[torch.from_numpy(rows)], test_share, seed, i) for i, rows in enumerate(cuts)
    ]
    return HeldStream(
        str(path), tuple(names), [a for a, _ in made], [b for _, b in made],
        kind="classification" if classification else "regression", class_names=classes, options=options,
    )  # fmt: skip


def stream_from_arrays(
    parts: Sequence[tuple[Any, Any]],
    *,
    test: Sequence[tuple[Any, Any]] | None = None,
    names: Sequence[str] | None = None,
    test_share: float = 0.2,
    seed: int = 0,
    name: str = "arrays",
) -> Stream:
    """A stream from arrays or tensors: a pair (x, y) for each part, in their order.

    Args:
        parts: x (examples, ...) and y (examples,) whole numbers or texts for classes, or floats, also (examples, targets).
        test: likewise what each part is judged on; None: ``test_share`` of each part is held out.
        names: of the parts; None: their numbers.
        test_share, seed: see `own_stream`.
        name: of the stream.

    Raises:
        InputError: no parts, parts of several shapes or kinds, numbers that are not finite, classes whose names differ in case or
            blanks alone.
    """
    if not parts or (test is not None and len(test) != len(parts)):
        raise InputError(
            f"expected as many test parts as parts, and at least one, got {len(parts)} and {len(test or parts)}"
        )
    sides = [*parts, *(test or [])]
    xs = [torch.as_tensor(np.asarray(x) if not isinstance(x, Tensor) else x) for x, _ in sides]
    xs = [as_floats(x) if x.dtype == torch.uint8 else x.to(torch.get_default_dtype()) for x in xs]
    if len({tuple(x.shape[1:]) for x in xs}) > 1:
        raise InputError(
            f"parts expected examples of one shape, got {sorted({tuple(x.shape[1:]) for x in xs})}; make them alike"
        )
    ys, classes = _targets([y for _, y in sides], name)
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if len(x) != len(y) or len(x) < (_LEAST if test is None else 1):
            raise InputError(
                f"part {i % len(parts) + 1} expected as many targets as inputs, at least two, got {len(x)}, {len(y)}"
            )
        for value in (x, y):
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise InputError(
                    f"part {i % len(parts) + 1} expected finite numbers, got NaN or infinity; leave these examples out"
                )
    if test is None:
        _expect_share(test_share)
        made = [_sides(x, y, test_share, seed, i) for i, (x, y) in enumerate(zip(xs, ys, strict=True))]
        shown, judged = [a for a, _ in made], [b for _, b in made]
    else:
        both = [Examples(x, y) for x, y in zip(xs, ys, strict=True)]
        shown, judged = both[: len(parts)], both[len(parts) :]
    _tell_changed(torch.cat([s.x for s in shown]), torch.cat([s.y for s in shown]), name)
    kind = "regression" if ys[0].is_floating_point() else "classification"
    labels = tuple(names) if names is not None else tuple(f"part {i + 1}" for i in range(len(parts)))
    if len(labels) != len(parts):
        raise InputError(f"names expected one for each of {len(parts)} parts, got {len(labels)}")
    return HeldStream(name, labels, shown, judged, kind=kind, class_names=classes)


def _expect_share(test_share: float) -> None:
    if not 0 < test_share < 1:
        raise ConfigError(f"test_share expected a number between 0 and 1, got {test_share}")


def _targets(given: Sequence[Any], name: str) -> tuple[list[Tensor], tuple[str, ...] | None]:
    arrays = [y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y) for y in given]
    kinds = {a.dtype.kind for a in arrays}
    if kinds <= set("f"):
        return [torch.from_numpy(a if a.ndim > 1 else a[:, None]).to(torch.get_default_dtype()) for a in arrays], None
    if kinds & set("f"):
        raise InputError(f"{name}: targets expected all classes or all values, got both; make them alike")
    if kinds <= set("iub"):
        lowest = min(int(a.min()) for a in arrays)
        if lowest < 0:
            raise InputError(f"{name}: labels expected whole numbers from 0, got {lowest}")
        most = max(int(a.max()) for a in arrays) + 1
        return [torch.from_numpy(a.astype(np.int64)) for a in arrays], tuple(map(str, range(most)))
    numbers, classes = _labels([str(cell) for a in arrays for cell in a], name)
    return list(numbers.split([len(a) for a in arrays])), classes


def _labels(cells: Sequence[str], where: str) -> tuple[Tensor, tuple[str, ...]]:
    """Numbers of classes in the order in which they first come, and the names.

    Raises:
        InputError: two names that differ in case or blanks alone, which would be one class seen twice.
    """
    classes = list(dict.fromkeys(cells))
    same: dict[str, str] = {}
    for label in classes:
        other = same.setdefault(" ".join(label.split()).casefold(), label)
        if other != label:
            raise InputError(f"{where}: expected one name for a class, got {other!r} and {label!r}; write them alike")
    number = {label: i for i, label in enumerate(classes)}
    return torch.tensor([number[cell] for cell in cells]), tuple(classes)


def _cut(table: Table, column: str | None, parts: int) -> tuple[list[np.ndarray], list[str]]:
    """Rows of each part, in order, and the parts' names."""
    if column is None:
        cuts = [rows for rows in np.array_split(np.arange(table.rows), parts) if len(rows)]
        names = [f"part {i + 1}" for i in range(len(cuts))]
    else:
        cells = table.class_names(column)
        names = list(dict.fromkeys(cells))
        cuts = [np.flatnonzero(np.array([cell == name for cell in cells])) for name in names]
    if few := [name for name, rows in zip(names, cuts, strict=True) if len(rows) < _LEAST]:
        raise InputError(
            f"{table.name}: a part expected at least {_LEAST} rows, one to learn and one to be judged on, got fewer in "
            f"{first_few(few)}; make fewer parts"
        )
    return cuts, names


def _sides(x: Tensor, y: Tensor, share: float, seed: int, part: int) -> tuple[Examples, Examples]:
    """(what is shown, in order; what is judged) of one part."""
    key = random_keys.fold(random_keys.task_keys(seed, "test", 0, 0, 1)[0], part)
    rows = random_keys.permutation(key, len(x), _SIDES)
    held = min(len(x) - 1, max(1, round(share * len(x))))
    shown = rows[held:].sort().values
    return Examples(x[shown], y[shown]), Examples(x[rows[:held]], y[rows[:held]])


def _tell_changed(x: Tensor, y: Tensor, where: str) -> None:
    """Warn where equal inputs come back with another label: its meaning may have changed."""
    if y.is_floating_point() or not len(x):
        return
    _, which = torch.unique(x.flatten(1), dim=0, return_inverse=True)
    pairs = torch.unique(torch.stack([which, y], 1), dim=0)[:, 0].bincount()
    if changed := int((pairs > 1).sum()):
        warnings.warn(
            f"{where}: {changed} inputs come back with another label; if labels changed their meaning, give them new names",
            InnerloopWarning,
            stacklevel=3,
        )


def _of_pictures(path: Path, share: float, seed: int, options: dict[str, Any]) -> Stream:
    source = picture_sources.open_source(path)
    look = own_classes.look(source)
    images = own_classes.read_classes(source, (look.channels, *look.size), look.dark_ink)
    if images.left_out:
        names = first_few([name for name, _ in images.left_out])
        warnings.warn(
            f"{path}: {len(images.left_out)} pictures cannot be read: {names}", InnerloopWarning, stacklevel=3
        )
    labels, classes = _labels(list(images.names), str(path))
    rows, shown, judged = 0, [], []
    every = as_floats(images.rows(torch.device("cpu")))
    if few := [n for n, size in zip(images.names, images.sizes, strict=True) if size < _LEAST]:
        raise InputError(f"{path}: a class expected at least {_LEAST} pictures, got one in {first_few(few)}; add some")
    for part, size in enumerate(images.sizes):
        x = every[rows : rows + size]
        a, b = _sides(x, labels[part].expand(size).clone(), share, seed, part)
        shown.append(a)
        judged.append(b)
        rows += size
    return PictureStream(str(path), classes, shown, judged, class_names=classes, options=options)
