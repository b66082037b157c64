"""From the columns of a table to the numbers that a model reads, learned on training tasks and written down as JSON.

The record travels in a run's config.json and in a task file, so that a new table is encoded as the training tables were:
columns are matched by name, numbers scaled with the training tasks' mean and deviation, categories one-hot with the
training tasks' levels. Where a task has scales of its own (`scaling="support"`), its support set's are added on adapting.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from innerloop.data.table_cells import PLAIN, TYPED, Lost, Loud, Reading, are_codes, identifier, odd_numbers, reading_of
from innerloop.data.table_items import ItemFacts, item_numbers
from innerloop.data.table_text import looks_headless
from innerloop.data.tables import Table, near_column
from innerloop.errors import CheckpointError, InputError, first_few

# 2: columns with readings, 3: curves, 4: columns of items, 5: ratings on a scale; a record without any is one of version 1.
KIND, VERSION = "table", 5
LIMIT = 5.0  # scaled numbers are cut there: one outlier must not decide an inner step
_HUGE = 1e15
Scaling = Literal["train", "support", "none"]
Rows = Float[np.ndarray, "rows width"]


@dataclasses.dataclass(frozen=True)
class Column:
    """How one column becomes numbers.

    Attributes:
        name: in the table.
        levels: the categories, one number each; None for a column of numbers.
        mean, std: of a column of numbers, on the training tasks' rows.
        indicator: a second number says whether the cell was missing.
        reading: how the cells of the training tables became numbers; None: they were plain numbers.
        parts: of a date, beside its days since 1970: the name of each ("weekday", "day", "month", "hour"), its mean and
            deviation.
        items: of a column that names items, those that training has taught, whose numbers begin at 1; 0 is any other. None:
            another kind of column.
        facts: what is known of the items, whose numbers stand right after the item's own.
    """

    name: str
    levels: tuple[str, ...] | None = None
    mean: float = 0.0
    std: float = 1.0
    indicator: bool = False
    reading: Reading | None = None
    parts: tuple[tuple[str, float, float], ...] = ()
    items: tuple[str, ...] | None = None
    facts: ItemFacts | None = None

    @property
    def width(self) -> int:
        known = 0 if self.facts is None else len(self.facts.names)
        return len(self.levels) if self.levels is not None else 1 + len(self.parts) + self.indicator + known

    def to_dict(self) -> dict[str, Any]:
        plain = dataclasses.asdict(dataclasses.replace(self, facts=None))
        found = {k: v for k, v in plain.items() if v or k not in ("reading", "parts", "items", "facts")}
        return found if self.facts is None else {**found, "facts": self.facts.to_dict()}


class Feature(NamedTuple):
    """One of the numbers that a model reads of a row.

    Attributes:
        column: in the table.
        part: "number"; "level" or "missing", which are 1 where the cell is that category, or is empty, else 0; or of a date
            "weekday", "day", "month", "hour".
        level: the category.
        reads: how the cells become numbers, where they are not plain ones.
        mean, std: the model reads (value - mean) / std.
    """

    column: str
    part: str = "number"
    level: str | None = None
    reads: str | None = None
    mean: float = 0.0
    std: float = 1.0


@dataclasses.dataclass(frozen=True)
class SupportScales:
    """What a task's own support set says: per encoded number its mean and deviation, which to keep, and the targets' mean.

    Attributes:
        mean, std: one for each encoded number.
        order: which encoded numbers the model sees, in this order.
        target_mean, target_std: of the targets, in units of the training tasks' deviation; empty where they stay as they are.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    order: tuple[int, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class TablePreprocessing:
    """The record.

    Attributes:
        columns: how each column becomes numbers, those of items first; None: fitted to each task's own table (tables of
            different columns).
        targets: names of the target columns; empty where every table has another and the user names it.
        classification: targets are class names; else numbers.
        target_mean, target_std: of the targets on the training tasks' rows; what the model predicts is scaled by them.
        scaling: "train": by the training tasks alone; "support": by the task's own support set too; "none": the columns are
            plain numbers, none missing, as for a learner that was not trained on tables.
        center_target: the support set's mean is taken off a task's targets (where tables have columns of their own, they
            are divided by its deviation too).
        ranked: the numbers that a task's support set finds most telling come first.
        width: how many numbers the model reads; fewer are padded with zeros, more are cut.
        support: a task's own scales, on a task file.
        target_readings: how the cells of regression targets became numbers; empty where all were plain.
        curve: a table has one column of numbers beside the target, which may count rows (0, 1, 2, ...) and is not cut.
        scale: the lowest and the highest target, where rows are ratings of items: others are refused, and of ratings of one item
            by one task the last one counts; empty: rows are no ratings.
    """

    columns: tuple[Column, ...] | None
    targets: tuple[str, ...]
    classification: bool
    width: int
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    scaling: Scaling = "train"
    center_target: bool = False
    ranked: bool = False
    support: SupportScales | None = None
    target_readings: tuple[Reading | None, ...] = ()
    curve: bool = False
    scale: tuple[float, ...] = ()

    @property
    def items(self) -> tuple[int, ...]:
        """Of each column of items, which come first among the inputs, how many there are with the unknown one."""
        return tuple(len(column.items) + 1 for column in self.columns or () if column.items is not None)

    @property
    def own_targets(self) -> bool:
        """Whether each task's targets are in units of their own, which its support set says."""
        return self.columns is None or not (self.classification or self.targets)

    @property
    def error_unit(self) -> str:
        """A sentence on the unit of errors over many tasks, where it is not that of the targets."""
        if self.classification or not (self.own_targets and self.center_target):
            return ""
        return (
            "errors are in units of each task's own spread (1: the deviation of its support set's targets), as each has units of "
            "its own"
        )

    # ---- numbers ---------------------------------------------------------------------------------------------------
    def encode(self, table: Table) -> Rows:
        """Rows as the model reads them; a task's own scales are applied where the record has them.

        Raises:
            InputError: a column is not there, or holds texts where numbers were.
        """
        return self.raw(table) if self.scaling == "none" else self.finish(self.raw(table))

    def raw(self, table: Table) -> Rows:
        """Rows before a task's own scales: NaN where a number is missing, nothing padded or cut."""
        assert self.columns is not None
        return raw(table, self.columns, plain=self.scaling == "none")

    def features(self) -> list[Feature]:
        """What `encode` makes of a row, number by number, before missing ones, limits and padding."""
        found: list[Feature] = []
        for c in self.columns or ():
            if c.levels is not None:
                found += [Feature(c.name, "level", level) for level in c.levels]
                continue
            reads = None if c.reading is None else str(c.reading)
            found.append(Feature(c.name, "number", None, reads, c.mean, c.std))
            found += [Feature(c.name, part, None, reads, mean, std) for part, mean, std in c.parts]
            found += [Feature(c.name, "missing")] * c.indicator
        if self.scaling == "none":
            return [f._replace(mean=0.0, std=1.0) for f in found]
        own = self.support or SupportScales()
        if own.mean:
            scales = zip(found, own.mean, own.std, strict=True)
            found = [f._replace(mean=f.mean + f.std * mean, std=f.std * std) for f, mean, std in scales]
        return [found[i] for i in own.order or range(len(found))][: self.width]

    @property
    def limit(self) -> float:
        """Scaled numbers are cut there."""
        return _HUGE if self.curve else LIMIT

    def notes_on(self, table: Table, new: bool = False, fitted: Sequence[str] | None = None) -> list[str]:
        """Sentences on a task's table: columns that go unused, cells that are not what they seem or new to the record.

        Args:
            table: whose columns the record has.
            new: its rows are asked about, and the support set's table was told of before.
            fitted: the notes of `fit_columns` on it, where the columns were fitted to it.
        """
        used = [*(column.name for column in self.columns or () if column.items is None), *self.targets]
        told = tuple(f"column {name!r} " for name in used)
        known = new or (fitted is None and self.scaling != "none")  # the columns' readings, since training
        found: list[str] = [note for note in fitted or () if isinstance(note, Loud)]
        found += [n for n in table.notes if isinstance(n, Lost if known else Loud) and n.startswith(told)]
        if not new:
            found += self.unused(
                table.without([name for name in table.columns if f"column {name!r} " in "".join(found)])
            )
        for column in self.columns or () if fitted is None else ():
            if column.items is not None and column.name in table.texts:
                found += _unknown_items(table, column)
            if column.levels is None or column.name not in table.texts:
                continue
            levels = {*column.levels, *(level.lower() for level in column.levels)}
            cells = [c for c in table.texts[column.name] if c is not None and not {c, c.lower()} & levels]
            if cells:
                found.append(
                    f"column {column.name!r}: {len(cells)} of {table.rows} cells hold categories that the learner never saw, "
                    f"such as {cells[0][:40]!r}; they count as none of the known ones"
                )
        return found

    def unused(self, table: Table) -> list[str]:
        """A sentence on the columns of a table that the record has no use for, where there are any."""
        used = {column.name for column in self.columns or ()} | {*self.targets, *table.index}
        rest = [repr(name) for name in table.columns if name not in used]
        return [f"columns that this task does not use: {first_few(rest)}"] if rest else []

    def finish(self, encoded: np.ndarray) -> Rows:
        """Raw rows with the task's scales, missing numbers at the mean, padded or cut to the width."""
        items = len(self.items)
        named, x = np.split(encoded.astype(np.float64), [items], 1)
        own = self.support
        if own is not None and own.mean:
            x = (x - np.array(own.mean)) / np.array(own.std)
        x = np.clip(np.nan_to_num(x, nan=0.0), -self.limit, self.limit)
        if own is not None and own.order:
            x = x[:, list(own.order)]
        return _padded(np.concatenate([named, x], 1), self.width).astype(np.float32)

    def values(self, table: Table) -> Rows:
        """Regression targets as the model learns them, (rows, targets)."""
        table.expect(*self.targets)
        found = []
        for name, reading in zip(self.targets, self.target_readings or (None,) * len(self.targets), strict=True):
            values = numbers(table, name, reading)
            bad = np.isnan(values)
            if bad.any():
                row = int(bad.argmax()) + 1
                raise InputError(f"{table.name} row {row}: the target {name!r} expected a number, got a missing cell")
            self._expect_on_scale(table, name, values)
            found.append(values)
        y = (np.stack(found, 1) - np.array(self.target_mean)) / np.array(self.target_std)
        if self.support is not None and self.support.target_mean:
            y = (y - np.array(self.support.target_mean)) / np.array(self.support.target_std)
        return y.astype(np.float32)

    def _expect_on_scale(self, table: Table, name: str, values: np.ndarray) -> None:
        """InputError for a rating that nobody could have given."""
        if not self.scale:
            return
        low, high = self.scale
        beyond = (values < low) | (values > high)
        if beyond.any():
            row = int(beyond.argmax())
            raise InputError(
                f"{table.name} row {row + 1}: {name!r} expected {low:g} to {high:g}, the scale that the learner knows, got "
                f"{values[row]:g}; correct it or leave the row out"
            )

    def original(self, prediction: np.ndarray) -> np.ndarray:
        """Predictions (rows, targets) in the table's own units."""
        if self.classification:
            return prediction
        y = prediction.astype(np.float64)
        if self.support is not None and self.support.target_mean:
            y = y * np.array(self.support.target_std) + np.array(self.support.target_mean)
        return y * np.array(self.target_std) + np.array(self.target_mean)

    # ---- files -----------------------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` makes the record again."""
        found = {"kind": KIND, "version": 3, **dataclasses.asdict(dataclasses.replace(self, columns=None))}
        found["columns"] = None if self.columns is None else [column.to_dict() for column in self.columns]
        if not self.curve:
            del found["curve"]
            found["version"] = 2
        if not self.target_readings:
            del found["target_readings"]
            if not self.curve and not any(column.reading for column in self.columns or ()):
                found["version"] = 1
        if self.items:
            found["version"] = 4
        if self.scale:
            found["version"] = VERSION
        else:
            del found["scale"]
        return found

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> TablePreprocessing:
        """The record that a file holds.

        Raises:
            CheckpointError: another kind of preprocessing, a newer version, or values that cannot be right.
        """
        found = dict(given)
        kind, version = found.pop("kind", None), found.pop("version", None)
        if kind != KIND:
            raise CheckpointError(
                f"expected a learner of tables, got one of {kind or 'plain numbers'}; give it its own inputs"
            )
        if not isinstance(version, int) or version > VERSION:
            raise CheckpointError(
                f"expected table preprocessing of version {VERSION}, got {version!r}; upgrade innerloop"
            )
        try:
            columns, own = found.pop("columns"), found.pop("support")
            made = cls(
                columns=None if columns is None else tuple(_column(c) for c in columns),
                support=None if own is None else _scales(own),
                targets=tuple(_text(name) for name in found.pop("targets")),
                target_mean=_numbers(found.pop("target_mean")),
                target_std=_numbers(found.pop("target_std"), positive=True),
                width=_count(found.pop("width")),
                target_readings=tuple(map(reading_of, found.pop("target_readings", ()))),
                scale=_numbers(found.pop("scale", ())),
                **found,
            )
            if made.target_readings and len(made.target_readings) != len(made.targets):
                raise ValueError("readings of other targets")
            if made.scale and not (len(made.scale) == 2 and made.scale[0] < made.scale[1] and len(made.items) == 1):
                raise ValueError(f"a scale of {made.scale}")
            if made.scaling not in get_args(Scaling):
                raise ValueError(f"scaling {made.scaling!r}")
            encoded = None if made.columns is None else sum(c.width for c in made.columns) - len(made.items)
            if any(c.items is not None for c in (made.columns or ())[len(made.items) :]):
                raise ValueError("columns of items that are not the first")
            if own is not None and made.support is not None:
                s = made.support
                wrong = len(s.mean) != len(s.std) or (s.mean and len(s.mean) != encoded)
                if wrong or encoded is None or any(not 0 <= i < encoded for i in s.order):
                    raise ValueError("scales of another table")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"the table preprocessing is damaged ({error}); use another file") from None
        return made


def is_record_of_tables(preprocessing: Mapping[str, Any] | None) -> bool:
    """Whether a learner's record of how files become inputs is one of tables."""
    return preprocessing is not None and preprocessing.get("kind") == KIND


def table_record(preprocessing: Mapping[str, Any] | None) -> TablePreprocessing | None:
    """A learner's or a task's record of how tables become inputs; None: it has none, or one of another kind."""
    if preprocessing is None or not is_record_of_tables(preprocessing):
        return None
    return TablePreprocessing.from_dict(preprocessing)


def raw(table: Table, columns: Sequence[Column], plain: bool = False) -> Rows:
    """Encoded rows of these columns: scaled numbers (NaN where missing), their indicators, one-hot categories.

    ``plain`` takes the numbers as they are, in float64.

    Raises:
        InputError: a column that is not there, or of another kind than it was.
    """
    lacking = [c.name for c in columns if c.name not in table.columns]
    if lacking:
        whole = len(table.columns) > 1 and len(lacking) > 1  # cut into columns, and one guess does not help
        near = "" if whole and not looks_headless(table.columns) else f" ({near_column(lacking[0], table.columns)})"
        shown = first_few([repr(name) for name in lacking])
        raise InputError(
            f"{table.name} expected the columns that the learner was made with, got none named {shown}{near}; "
            "add or rename columns"
        )
    if plain:
        return table.numbers([column.name for column in columns])
    parts = []
    for column in columns:
        if column.items is not None:
            parts.append(item_numbers(table.texts[column.name], column.items))
            parts += [] if column.facts is None else list(column.facts.of(table.texts[column.name]).T)
            continue
        if column.levels is not None:
            cells = table.texts[column.name]
            levels = column.levels
            if {level.lower() for level in levels} <= {"true", "false"}:  # programs write them in their own case
                levels = tuple(level.lower() for level in levels)
                cells = [None if cell is None else cell.lower() for cell in cells]
            found = [np.array([cell == level for cell in cells], np.float32) for level in levels]
            if table.is_number(column.name) and any(cell is not None for cell in cells) and not np.any(found):
                raise InputError(
                    f"{table.name}: column {column.name!r} expected texts as in training, such as {levels[0]!r}, got numbers; "
                    "mend the column"
                )
            parts += found
            continue
        values = numbers(table, column.name, column.reading)
        dates = date_parts(values) if column.parts else {}
        for found, mean, std in ((values, column.mean, column.std), *((dates[n], m, s) for n, m, s in column.parts)):
            scaled = (found - mean) / std
            parts.append(np.clip(scaled, -_HUGE, _HUGE).astype(np.float32))  # its square is a float32 too
        if column.indicator:
            parts.append(np.isnan(values).astype(np.float32))
    return np.stack(parts, 1) if parts else np.zeros((table.rows, 0), np.float32)


def numbers(table: Table, name: str, reading: Reading | None) -> np.ndarray:
    """The numbers of a column, read as the training tables' were; NaN where one is missing.

    Raises:
        InputError: a cell that is no such number.
    """
    own = table.readings.get(name, PLAIN)
    wanted = reading or PLAIN
    texts = table.texts[name]
    if own == wanted or (own == TYPED and wanted.kind == "number" and not wanted.unit):
        return table.columns[name]
    if reading is None and own.kind in ("number", "truth") and not own.unit and name not in table.refused:
        return table.columns[name]  # written otherwise, and no less plain
    if own.kind == wanted.kind != "number" and "typed" in (own.form, wanted.form):
        return table.columns[name]
    read = {cell: None if cell is None else wanted.read(cell) for cell in set(texts)}
    odd = next((cell for cell in texts if cell is not None and read[cell] is None), None)
    if odd is None:
        return np.array([np.nan if read[cell] is None else read[cell] for cell in texts], dtype=np.float64)
    if reading is None and own == Reading("date", form="typed"):
        return table.columns[name]  # a learner of dates as days alone
    if name in table.refused:
        raise InputError(f"{table.name}: {table.refused[name]}")
    raise InputError(
        f"{table.name}: column {name!r} expected {wanted} as in training, got {odd[:40]!r}; mend the column"
    )


def _unknown_items(table: Table, column: Column) -> list[str]:
    """A sentence on the rows whose item the record does not know, where there are any."""
    cells, name = table.texts[column.name], column.name
    unknown = item_numbers(cells, column.items or ()) == 0
    missing = sum(cell is None for cell in cells[unknown])
    if not unknown.any():
        return []
    shown = next((f", such as {cell[:40]!r}" for cell in cells[unknown] if cell is not None), "")
    gone = f" ({missing} are missing)" if missing else ""
    known = 0 if column.facts is None else int((item_numbers(cells[unknown], column.facts.items) > 0).sum())
    told = f", with what the item table says of {known} of them" if known else ""
    return [
        f"column {name!r}: {int(unknown.sum())} of {table.rows} rows hold an item that the learner does not know{shown}{gone}; "
        f"they count as the unknown item{told}"
    ]


def date_parts(days: np.ndarray) -> dict[str, np.ndarray]:
    """weekday (0: Monday), day, month and hour of days since 1970; NaN where they are."""
    there = ~np.isnan(days)
    seconds = np.round(np.where(there, days, 0) * 86_400).astype("datetime64[s]")
    day, month = seconds.astype("datetime64[D]"), seconds.astype("datetime64[M]")
    found = {
        "weekday": (day.astype(int) + 3) % 7,
        "day": (day - month.astype("datetime64[D]")).astype(int) + 1,
        "month": month.astype(int) % 12 + 1,
        "hour": (seconds - day).astype(int) / 3600,
    }
    return {name: np.where(there, values, np.nan) for name, values in found.items()}


def fit_columns(
    table: Table,
    leave_out: Sequence[str] = (),
    *,
    max_levels: int = 20,
    categories: Sequence[str] = (),
    quantities: Sequence[str] = (),
) -> tuple[tuple[Column, ...], list[str]]:
    """(columns, notes): how the columns of these (training) rows become numbers; what carries nothing is left out.

    Args:
        table: the training rows.
        leave_out: columns that are no inputs: targets, the task column.
        max_levels: the most frequent categories that get a number of their own; the rest are all zeros.
        categories: columns of numbers that are to be taken as categories.
        quantities: columns that are to be taken as numbers although they look like identifiers.

    Raises:
        InputError: a column that can be neither read nor left out.
    """
    columns, notes = [], []
    for name in table.columns:
        if name in leave_out:
            continue
        texts = table.texts[name]
        present = np.array([cell is not None for cell in texts], dtype=bool)
        if name not in categories:
            table.readable(name)
        codes = table.is_number(name) and name not in (*categories, *quantities) and are_codes(texts[present].tolist())
        as_number = table.is_number(name) and name not in categories and not codes
        if as_number:
            present = ~np.isnan(table.columns[name])
        share = float(present.mean())
        if not present.any():
            notes.append(f"column {name!r} is left out: all its cells are missing")
            continue
        if share < 1:
            notes.append(f"column {name!r} lacks {100 * (1 - share):.3g} % of its cells")
        if as_number:
            values = table.columns[name][present]
            constant = bool((values == values[0]).all())
            if constant and share == 1:
                notes.append(f"column {name!r} is left out: it is constant ({values[0]:.6g})")
                continue
            reading = table.readings.get(name, PLAIN)
            if reading.kind in ("number", "truth") and not reading.unit and reading.decimal == ".":
                reading = PLAIN
            if name not in quantities and reading == PLAIN and table.readings.get(name) != Reading("truth"):
                why = identifier(name, values, texts[present].tolist())
                if why:
                    notes.append(Loud(f"column {name!r} is left out: {why}; --quantities takes it as numbers"))
                    continue
                notes += odd_numbers(name, values, texts[present].tolist())
            parts = date_parts(values) if reading.kind == "date" else {}
            varied = [part for part, v in parts.items() if (v != v[0]).any()]
            if "day" not in varied and "weekday" in varied:  # dates of whole months or years
                varied.remove("weekday")
            found = tuple((part, *_spread(parts[part])) for part in varied)
            columns.append(
                Column(name, None, *_spread(values), share < 1, None if reading == PLAIN else reading, found)
            )
            continue
        names, counts = np.unique(texts[present].astype(str), return_counts=True)
        if len(names) == 1 and share == 1:
            notes.append(f"column {name!r} is left out: it is constant ({str(names[0])[:40]!r})")
            continue
        if codes:
            notes.append(
                Loud(f"column {name!r} is taken as categories: codes with leading zeros such as {str(names[0])!r}")
            )
        if len(names) > 0.5 * present.sum() and (len(names) > max_levels or codes) and name not in categories:
            said = f"column {name!r} is left out: {len(names)} different texts in {int(present.sum())} rows name rows"
            notes.append(Loud(said))
            continue
        if len(names) > max_levels:
            notes.append(Loud(f"column {name!r} has {len(names)} categories; the {max_levels} most frequent are used"))
        most = sorted(np.argsort(-counts, kind="stable")[:max_levels])
        columns.append(Column(name, tuple(str(names[i]) for i in most)))
    return tuple(columns), notes


def _spread(values: np.ndarray) -> tuple[float, float]:
    std, mean = float(values.std()), float(values.mean())
    return mean, std if std > 1e-12 * abs(mean) else 1.0


def _padded(x: np.ndarray, width: int) -> np.ndarray:
    return x[:, :width] if x.shape[1] >= width else np.pad(x, ((0, 0), (0, width - x.shape[1])))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a name expected, got {value!r}")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1 << 20:
        raise ValueError(f"a width expected, got {value!r}")
    return value


def _numbers(values: Any, positive: bool = False) -> tuple[float, ...]:
    found = tuple(float(v) for v in values)
    if not all(math.isfinite(v) and (v > 0 or not positive) for v in found):
        raise ValueError("a number that is not finite, or a deviation of zero")
    return found


def _column(given: Mapping[str, Any]) -> Column:
    levels = given["levels"]
    return Column(
        _text(given["name"]),
        None if levels is None else tuple(_text(level) for level in levels),
        _numbers([given["mean"]])[0],
        _numbers([given["std"]], positive=True)[0],
        bool(given["indicator"]),
        reading_of(given.get("reading")),
        tuple(_part(*part) for part in given.get("parts", ())),
        None if given.get("items") is None else tuple(_text(item) for item in given["items"]),
        None if given.get("facts") is None else ItemFacts.from_dict(given["facts"]),
    )


def _part(name: Any, mean: Any, std: Any) -> tuple[str, float, float]:
    if name not in date_parts(np.zeros(1)):
        raise ValueError(f"part {name!r} of a date")
    return name, _numbers([mean])[0], _numbers([std], positive=True)[0]


def _scales(given: Mapping[str, Any]) -> SupportScales:
    return SupportScales(
        _numbers(given["mean"]),
        _numbers(given["std"], positive=True),
        tuple(int(i) for i in given["order"]),
        _numbers(given["target_mean"]),
        _numbers(given["target_std"], positive=True),
    )
