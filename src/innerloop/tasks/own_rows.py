"""Rows in memory that say which task they belong to: molecules by assay, ratings by user, visits by patient."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.data.arrays import as_tensor, is_classification, label_names
from innerloop.data.counts import Counts, as_counts, is_sparse, record
from innerloop.data.labelled import in_their_order, inputs_of
from innerloop.errors import ConfigError, InnerloopWarning, InputError, ShapeError, first_few
from innerloop.tasks.in_memory import IN_MEMORY
from innerloop.tasks.precision import DtypeName, dtype_named
from innerloop.tasks.row_draws import RowDraws, quiet, sizes_of
from innerloop.tasks.tables.grouping import SPLITS, equal_places, expect_order, split_names

_NOISE = 4
_LEAST = 2  # rows of a task, or of a class of which a number of rows is drawn


class RowTasks(TaskDistribution):
    """Tasks that are rows of one array.

    Args:
        x: all rows, (rows, *shape), bytes for pictures; or `Counts`.
        y: targets (rows, targets), NaN where one is missing; None for classes.
        rows: the row at each place that ``draws`` gives.
        draws: which rows are shown and asked for.
        name, split, task_names: what and which.
        dtype: of inputs and targets.
    """

    x: Tensor | Counts
    y: Tensor | None
    rows: Tensor
    draws: RowDraws
    dtype: torch.dtype
    name: str
    split: str
    task_names: tuple[str, ...]
    size: int | None
    preprocessing: Mapping[str, Any] | None
    input_shape: tuple[int, ...]
    objective: str
    metrics: tuple[str, ...]
    output_size: int

    def __init__(
        self,
        x: Tensor | Counts,
        y: Tensor | None,
        rows: np.ndarray,
        draws: RowDraws,
        *,
        name: str,
        split: str,
        task_names: Sequence[str],
        dtype: torch.dtype,
    ) -> None:
        self.x, self.y, self.rows, self.draws, self.dtype = x, y, torch.as_tensor(rows), draws, dtype
        self.name, self.split, self.task_names, self.size = name, split, tuple(task_names), len(draws)
        self.one_draw: bool = draws.sizes.ordered
        self._set_outputs()
        if isinstance(x, Counts):
            self.longest: int = x.longest
            self.input_shape, self.preprocessing = (2, self.longest), record(x.kinds)
        else:
            self.input_shape = tuple(x.shape[1:])

    def _set_outputs(self) -> None:
        if self.y is None:
            self.objective, self.metrics = "cross_entropy", ("accuracy",)
            sizes = self.draws.sizes
            self.output_size = sizes.ways if sizes.support_size is None else self.draws.most_classes
            self.num_classes: int | None = self.draws.num_classes
        else:
            whole = not bool(self.y[self.rows].isnan().any())
            self.objective, self.metrics, self.output_size = "mse" if whole else "known_mse", ("mse",), self.y.shape[1]

    def which(self, keys: Int64[Tensor, " tasks"]) -> Int64[Tensor, " tasks"]:
        return self.draws.which(keys)

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """x is (tasks, examples, *shape); y (tasks, examples) labels or (tasks, examples, targets)."""
        return self.each(keys, self.which(keys))

    def each(self, keys: Int64[Tensor, " tasks"], numbers: Int64[Tensor, " tasks"]) -> Task:
        drawn = self.draws.draw(keys, numbers)
        whole = bool(drawn.support_mask.all()) and bool(drawn.query_mask.all())
        sides = []
        for places, labels, mask in (
            (drawn.support, drawn.support_labels, drawn.support_mask),
            (drawn.query, drawn.query_labels, drawn.query_mask),
        ):
            rows = self.rows[places]
            y = labels if self.y is None else self.y[rows].to(self.dtype)
            sides.append(Examples(quiet(self._inputs(rows), mask), quiet(y, mask), None if whole else mask))
        noise = random_keys.fold(keys, _NOISE)
        support, query = sides
        return Task(support, query, self.objective, drawn.classes, self.num_classes, noise=noise)

    def _inputs(self, rows: Tensor) -> Tensor:
        if isinstance(self.x, Counts):
            return self.x.packed(rows, self.longest, self.dtype)
        found = self.x[rows]
        return found.to(self.dtype) / 255 if found.dtype == torch.uint8 else found.to(self.dtype)

    def resized(self, ways: int, shots: int, queries: int) -> RowTasks:
        """See `TaskDistribution.resized`; a task with fewer classes or rows gives what it has."""
        new = copy.copy(self)
        new.draws = self.draws.resized(f"{self.name} ({self.split})", ways, shots, queries)
        new.one_draw = new.draws.sizes.ordered
        new._set_outputs()
        return new

    @property
    def model_options(self) -> dict[str, Any]:
        """What a model has to know of sparse rows: how many kinds of entries there are."""
        return {"inputs": self.x.kinds} if isinstance(self.x, Counts) else {}

    def prepared(self, net: nn.Module) -> nn.Module:
        """The model, where it takes sparse rows for what they are.

        Raises:
            ConfigError: it would take the numbers of entries for quantities.
        """
        from innerloop import models

        known = models.describe(net)
        if isinstance(self.x, Counts) and known is not None and not hasattr(net, "kinds"):
            raise ConfigError(
                f"{self.name}: expected a model of sparse rows, got {known['name']}, which would take the numbers of their "
                "entries for quantities; leave --model out, or say --model counts_mlp"
            )
        return net

    def default_model(self) -> nn.Module:
        """Two hidden layers; sparse rows have one that adds up the weights of their entries."""
        from innerloop import models

        if isinstance(self.x, Counts):
            return models.counts_mlp(self.x.kinds, self.output_size)
        if len(self.input_shape) == 3 and self.x.dtype == torch.uint8:
            return models.conv4(self.input_shape, self.output_size)
        return models.mlp(self.input_shape, self.output_size, hidden=(64, 64))


def rows_family(
    x: Any,
    y: Any,
    task: Any,
    *,
    order: Any,
    groups: Any,
    splits: Mapping[str, Sequence[Any]] | None,
    valid_share: float,
    test_share: float,
    split_seed: int,
    dtype: DtypeName | None,
    name: str,
    options: Mapping[str, Any],
) -> TaskFamily:
    """`from_arrays` of rows whose tasks are known; ``options`` are the sizes (`row_draws.sizes_of`) and ``ways``."""
    inputs = _inputs(x)
    number = len(inputs)
    ids = _of_each_row(task, "task", number)
    values, labels = _targets(y, number)
    found_dtype = dtype_named(dtype) or torch.get_default_dtype()
    if isinstance(inputs, Tensor) and not bool(torch.isfinite(inputs.to(found_dtype)).all()):
        raise InputError(f"{name} expected finite inputs that fit into {found_dtype}, got others; clean and scale them")
    usable = np.ones(number, dtype=bool) if values is None else np.asarray(~np.isnan(values).all(1))
    said = [] if usable.all() else [f"{int((~usable).sum())} rows without a target are left out"]
    times = None
    if order is not None:
        times = _times(order)
        if times.shape != (number,):
            raise ShapeError(
                f"order expected one number a row, ({number},), got {times.shape}; give the time of each row"
            )
        expect_order(times, "order expected a number for each row")
    rows = _by_task(ids, usable, times)
    if times is not None:
        said += equal_places(times, rows, "order")
    classes = None if labels is None else np.unique(labels, return_inverse=True)
    kept, few, lost = _kept(rows, classes, options)
    if few:
        said.append(f"{len(few)} tasks with too few rows are left out: {first_few([repr(one) for one in few])}")
    if lost:
        said.append(f"{lost} classes of one row in their task are left out")
    if len(kept) < 2:
        least = "two classes of " if labels is not None and options.get("support_size") is None else ""
        raise InputError(
            f"{name}: task expected the rows of several tasks, got {len(kept)} with {least}{_LEAST} rows or more; give the id of "
            "each row's task, or leave task out for draws of one"
        )
    if splits is not None and groups is not None:
        raise ConfigError(
            f"{name}: expected splits or groups, got both; splits say where each task lies: leave groups out"
        )
    sides = _sides(
        name, list(kept), list(rows), splits, _units(groups, rows, number), (valid_share, test_share), split_seed
    )
    ways = options.get("ways")
    if labels is None and (ways is not None or options.get("train_ways") is not None):
        raise ConfigError(f"{name}: ways expected class labels in y, got numbers; leave ways out")
    if ways is None:
        ways = 0 if labels is None else max(len(kept[one]) for one in sides["train"])
    numbering = {} if classes is None else {label: i for i, label in enumerate(in_their_order(classes[0].tolist()))}

    def distribution(split: str) -> RowTasks:
        sizes = sizes_of(split, ways, options, ordered=order is not None)
        sizes.check(f"{name} ({split})")
        own = [one for one in sides[split] if labels is None or sizes.shows_all(kept[one].values())]
        if len(own) < len(sides[split]):
            said.append(
                f"{len(sides[split]) - len(own)} tasks for {split} are left out, whose first {sizes.support_size} rows lack a "
                "class that comes later"
            )
        if not own:
            raise InputError(
                f"{name} ({split}): expected tasks with enough rows, got none; give another split, or more rows"
            )
        begins = np.cumsum([0, *(len(rows[one]) for one in own)])
        draws = RowDraws(
            [[begin + places for places in kept[one].values()] for begin, one in zip(begins, own, strict=False)],
            None if labels is None else [[numbering[label] for label in kept[one]] for one in own],
            sizes,
        )
        return RowTasks(
            inputs,
            None if values is None else torch.from_numpy(values),
            np.concatenate([rows[one] for one in own]),
            draws,
            name=name,
            split=split,
            task_names=own,
            dtype=found_dtype,
        )

    family = TaskFamily.by_split(f"{IN_MEMORY}{name}", distribution, {**options, "rows": number, "tasks": len(kept)})
    for sentence in said:
        warnings.warn(f"{name}: {sentence}", InnerloopWarning, stacklevel=3)
    return family


def _inputs(x: Any) -> Tensor | Counts:
    return as_counts(x) if is_sparse(x) else inputs_of(x)


def _times(order: Any) -> np.ndarray:
    """Numbers as they are, dates as nanoseconds, NaN where there is none."""
    array = np.asarray(order)
    if array.dtype.kind != "M":
        return as_tensor(order, "order").to(torch.float64).numpy()
    when = array.astype("datetime64[ns]")
    return np.where(np.isnat(when), np.nan, when.astype(np.int64).astype(np.float64))


def _of_each_row(given: Any, what: str, number: int) -> np.ndarray:
    """A name for each row: ids of tasks or groups, as texts."""
    array = np.asarray(given, dtype=object if isinstance(given, list | tuple) else None)
    plain = array.dtype.kind in "iuU" or (array.dtype == object and set(map(type, array.tolist())) == {str})
    if array.ndim == 1 and plain:  # nothing can be missing
        found = array.astype(str)
    else:
        try:
            names = label_names(given, what)
        except InputError as error:  # which calls ids class labels
            if what == "y":
                raise
            said = re.sub(r"(a )?class label(s?)( \([^)]*\))?", lambda m: "ids" if m[2] else "an id", str(error))
            raise InputError(said.replace("label it or leave it out", "give one or leave the row out")) from None
        found = np.array([_as_text(name) for name in names], dtype=str)
    if len(found) != number:
        raise ShapeError(f"{what} expected one for each of the {number} rows of x, got {len(found)}; give one each")
    return found


def _as_text(name: Any) -> str:
    return str(int(name)) if isinstance(name, float) and name.is_integer() else str(name)


def _by_task(ids: np.ndarray, usable: np.ndarray, times: np.ndarray | None) -> dict[str, np.ndarray]:
    """{task: its rows, in their order}."""
    names, numbers = np.unique(ids, return_inverse=True)
    order = np.lexsort((np.arange(len(ids)) if times is None else times, numbers))
    order = order[usable[order]]
    ends = np.cumsum(np.bincount(numbers[order], minlength=len(names)))[:-1]
    return {str(name): own for name, own in zip(names, np.split(order, ends), strict=True) if len(own)}


def _targets(y: Any, number: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(values (rows, targets), None), or (None, the class of each row)."""
    if is_classification(y):
        return None, _of_each_row(y, "y", number)
    values = as_tensor(y, "y")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != number:
        raise ShapeError(
            f"y expected ({number},) or ({number}, targets), a row for each of x, got {tuple(values.shape)}"
        )
    if bool(values.isinf().any()):
        raise InputError("y expected finite numbers, or NaN where one is missing, got infinite ones; clean them")
    return values.to(torch.float64).numpy(), None


def _kept(
    rows: Mapping[str, np.ndarray], classes: tuple[np.ndarray, np.ndarray] | None, options: Mapping[str, Any]
) -> tuple[dict[str, dict[str, np.ndarray]], list[str], int]:
    """({task: {class: places of its rows among the task's}}, tasks with too few, how many classes are left out).

    Values have one class, "".

    Args:
        rows: of each task.
        classes: the names, and which of them each row has; None for values.
        options: where rows of each class are drawn, a class of one row is left out.
    """
    least = _LEAST if options.get("support_size") is None else 1
    kept: dict[str, dict[str, np.ndarray]] = {}
    few, lost = [], 0
    for name, own in rows.items():
        if classes is None:
            found = {"": np.arange(len(own))}
        else:
            names, of = classes[0], classes[1][own]
            places = {str(names[i]): np.flatnonzero(of == i) for i in np.unique(of)}
            found = {label: at for label, at in places.items() if len(at) >= least}
        # Of each class one row is shown, and one row of the task is asked for.
        if len(own) < _LEAST or (classes is not None and not 2 <= len(found) < len(own)):
            few.append(name)
        else:
            kept[name] = found
            lost += 0 if classes is None else len(places) - len(found)
    return kept, few, lost


def _units(groups: Any, rows: Mapping[str, np.ndarray], number: int) -> dict[str, str] | None:
    """The group of each task."""
    if groups is None:
        return None
    names = _of_each_row(groups, "groups", number)
    found = {}
    for name, own in rows.items():
        values = set(names[own].tolist())
        if len(values) > 1:
            raise InputError(
                f"groups expected one value for all rows of a task, got {len(values)} in task {name!r}; a task lies on one side "
                "of the split as a whole"
            )
        found[name] = values.pop()
    return found


def _sides(
    name: str,
    names: list[str],
    known: list[str],
    splits: Mapping[str, Sequence[Any]] | None,
    unit_of: Mapping[str, str] | None,
    shares: tuple[float, float],
    seed: int,
) -> dict[str, list[str]]:
    """The tasks of each split, by name or by a hash of their names; ``known`` are those too that are left out."""
    if splits is None:
        if len(names) < len(SPLITS):
            raise InputError(
                f"{name}: task expected at least three tasks, for training, validation and test, got {len(names)}; give more, or "
                "splits={'train': [...], 'valid': [...], 'test': [...]}"
            )
        return split_names(names, seed=seed, unit_of=unit_of, valid_share=shares[0], test_share=shares[1])
    if not isinstance(splits, Mapping) or set(splits) != set(SPLITS):
        got = ", ".join(map(str, splits)) if isinstance(splits, Mapping) else type(splits).__name__
        raise InputError(
            f"{name}: splits expected ids of tasks for each of {', '.join(SPLITS)}, got {got}; give these three"
        )
    usable = set(names)
    found = {
        split: [one for one in own if one in usable]
        for split, own in given_sides(name, "task", "ids that are in task", known, splits).items()
    }
    empty = [split for split in SPLITS if not found[split]]
    if empty:
        raise InputError(f"{name}: splits expected ids of tasks for {empty[0]}, got none that can be used; name some")
    return found


def given_sides(
    name: str, what: str, known_as: str, known: Iterable[str], splits: Mapping[str, Sequence[Any]]
) -> dict[str, list[str]]:
    """The names on each side as a user says it, each once.

    Args:
        name: of the data, in messages.
        what: the names are of: "class" or "task".
        known_as: what they have to be among, in words.
        known: those.
        splits: {side: names}; a side may be missing.

    Raises:
        InputError: what is no list, a name that is not known, or one on two sides.
    """
    there = set(known)
    found: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for split in SPLITS:
        given = splits.get(split, ())
        if isinstance(given, str) or not hasattr(given, "__iter__"):
            raise InputError(f"{name}: splits expected a list of ids for {split}, got {given!r}; give a list")
        found[split] = list(dict.fromkeys(map(_as_text, given)))
        for one in found[split]:
            if one not in there:
                raise InputError(f"{name}: splits expected {known_as}, got {one!r} for {split}; correct the split")
            if owner.setdefault(one, split) != split:
                raise InputError(
                    f"{name}: each {what} expected in one split, got {one!r} in {owner[one]} and {split}; take it out of one"
                )
    return found
