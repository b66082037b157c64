"""What a user shows of one new task, as the support set that a learner takes."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop.core import Examples, Meta, length
from innerloop.data.arrays import expect_collected
from innerloop.data.counts import as_packed, kinds_of, wider
from innerloop.data.support_files import (
    inverts,
    is_path,
    picture_shape,
    preprocessing_of,
    read_classes,
    read_inputs,
    reading_of,
    takes_pictures,
)
from innerloop.data.table_files import FILE_COLUMN, below_each_other
from innerloop.data.table_preprocessing import is_record_of_tables, table_record
from innerloop.data.table_support import encoded, given_values, named, plain_record, ratings_of, support_of
from innerloop.data.tables import Table, as_table, is_table, is_tabular
from innerloop.data.texts import are_texts, read_texts
from innerloop.errors import ConfigError, InnerloopWarning, InputError, ShapeError
from innerloop.functional import PureModel
from innerloop.meta_learner import labels
from innerloop.meta_learner.boundary import as_inputs, as_tensor, check_finite, inputs_like, moved
from innerloop.meta_learner.molecules import shown_molecules, takes_molecules
from innerloop.models.embeddings import embedded
from innerloop.objectives import losses

_ENCODED = (
    "x, a tensor, is taken for rows that are encoded already, as the tasks of these tables hold them; give rows of your own as "
    "a table"
)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a learner takes.

    Attributes:
        input_shape: of one example, where it is known.
        preprocessing: how a user's files become inputs.
        loss: its loss, or that of the tasks it was trained on.
        dtype: of inputs and values.
        integers: its model takes integers.
        output_shape: the shape of the model's outputs for some inputs.
    """

    input_shape: tuple[int, ...] | None
    preprocessing: dict[str, Any] | None
    loss: str | losses.Loss | None
    dtype: torch.dtype
    integers: bool
    output_shape: Callable[[Any], torch.Size]

    @property
    def picture_shape(self) -> tuple[int, ...] | None:
        return None if self.input_shape is None else picture_shape(self.input_shape, self.preprocessing)


class Taker(Protocol):
    """What `wanted_by` asks of a learner."""

    model: nn.Module
    pure: PureModel
    loss: str | losses.Loss | None

    @property
    def task_objective(self) -> Any: ...
    @property
    def input_shape(self) -> tuple[int, ...] | None: ...
    @property
    def preprocessing(self) -> dict[str, Any] | None: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def meta(self) -> Meta: ...


def wanted_by(owner: Taker) -> Wanted:
    """What this learner takes of a new task."""
    integers = any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in owner.model.modules())

    def output_shape(x: Any) -> torch.Size:
        meta, given = owner.meta(), moved(x, owner.dtype, owner.device)
        if isinstance(x, Tensor) and not integers:
            given = given.to(owner.dtype)
        with torch.no_grad():
            return owner.pure.apply(meta.params, meta.buffers, given)[0].shape

    return Wanted(
        input_shape=owner.input_shape,
        preprocessing=owner.preprocessing,
        loss=owner.loss or owner.task_objective,
        dtype=owner.dtype,
        integers=integers,
        output_shape=output_shape,
    )


class Shown(NamedTuple):
    """What a user shows of one task.

    Attributes:
        side: the examples, with a leading axis of one task.
        classes: the names behind their labels; None for values.
        preprocessing: how files become inputs of this task.
        table: that the examples and their targets come from; None: they come from none.
        notes: on that table, for its user.
    """

    side: Examples
    classes: list[Any] | None
    preprocessing: dict[str, Any] | None
    table: Table | None
    notes: Sequence[str] = ()


def names_table(x: Any, preprocessing: Mapping[str, Any] | None, shape: Sequence[int] | None = None) -> bool:
    """Whether ``x`` is a table, in memory or by its path, for a task whose files are read so.

    A learner whose inputs are pictures by their ``shape`` takes the path of one for a list of pictures.
    """
    if is_path(x) and shape is not None and takes_pictures(shape):
        return False
    of_tables = is_record_of_tables(preprocessing)
    if is_tabular(x) or (of_tables and isinstance(x, Mapping)):
        return True
    if isinstance(x, list | tuple) and is_path(x):
        return of_tables or (len(x) == 1 and is_table(x[0]))
    return isinstance(x, str | Path) and (is_table(x) or (of_tables and not Path(x).is_dir()))


def support_set(wanted: Wanted, x: Any, y: Any = None, target: str | None = None) -> Shown:
    """The examples of one task as the learner takes them.

    Args:
        wanted: what the learner takes.
        x, y, target: as in `MetaLearner.adapt`.

    Raises:
        InputError: no targets, no examples, pictures for a learner whose inputs are not known, or integers for a model that
            takes floating-point inputs.
        ConfigError: no target column, or one where there is no table.
    """
    if are_texts(wanted.preprocessing):
        x, y = features_of_texts(wanted.preprocessing, x, y, target)
        side, classes = _examples(wanted, x, y)
        return Shown(side, classes, wanted.preprocessing, None)
    if takes_molecules(x, wanted.preprocessing):
        x, y, record = shown_molecules(wanted.preprocessing, x, y, target)
        side, classes = _examples(wanted, as_packed(x, record, (wanted.input_shape or (1,))[-1]), y)
        return Shown(side, classes, record, None)
    if names_table(x, wanted.preprocessing, wanted.picture_shape) or (
        target is not None and isinstance(x, str | Path | Mapping)
    ):
        return _of_table(wanted, x, y, None if target is None else str(target))
    if target is not None:
        expect_collected(x, "x")
        raise ConfigError(f"target expected a table, got {type(x).__name__}; give the targets as y")
    record = wanted.preprocessing
    if is_path(x):
        x, y, record = _read(wanted, x, y)
    elif isinstance(x := named(x, table_record(record)), Table):
        return _of_table(wanted, x, y, None)
    x = as_packed(embedded(x, record), record, (wanted.input_shape or (1,))[-1])
    notes = [_ENCODED] if isinstance(x, Tensor) and (of := table_record(record)) and of.scaling != "none" else []
    side, classes = _examples(wanted, x, y)
    return Shown(side, classes, record, None, notes)


def features_of_texts(
    preprocessing: Mapping[str, Any] | None, x: Any, y: Any = None, target: str | None = None, labelled: bool = True
) -> tuple[Any, Any]:
    """(features, labels) of texts wherever they are, for a learner of texts; features, as they are.

    Args:
        preprocessing: the record of its inputs.
        x: texts as `read_texts` takes them, or features.
        y: their labels; None: where the texts come from.
        target: the column of the labels; None: the record's.
        labelled: labels are wanted.
    """
    if isinstance(x, Tensor) or (isinstance(x, np.ndarray) and x.dtype.kind in "fiu"):
        return x, y
    record = preprocessing or {}
    names = None if y is not None else target or record.get("target")
    found = read_texts(x, record.get("column"), names, labelled=labelled and y is None)
    if found.labels is None and labelled and y is None:
        raise InputError("expected the classes of the texts as y, got none; give one for each text")
    for note in found.notes:
        warnings.warn(note, InnerloopWarning, stacklevel=4)
    return embedded(found.texts, record), found.labels if y is None else y


def _of_table(wanted: Wanted, x: Any, y: Any, target: str | None) -> Shown:
    table = as_table(x)
    record = table_record(wanted.preprocessing)
    if isinstance(y, str) and target is None:  # the name of the column
        y, target = None, y
    if y is not None and target is not None:
        raise ConfigError("expected the targets once, got both y and target; leave out one")
    if record is None or record.scaling == "none":
        record = plain_record(wanted.input_shape, _names_classes(wanted.loss, table, y, target))
    table, y, notes = ratings_of(table, y, record)
    inputs, targets, own = support_of(record, table, target, y, notes)
    side, classes = _examples(wanted, inputs, y if own.scaling == "none" and y is not None else targets)
    if classes is not None and y is None:  # in the order of their texts, which is that of a text file
        classes = table.as_given(own.targets[0], classes)
    return Shown(side, classes, own.to_dict(), table if y is None else None, notes)


def _names_classes(loss: Any, table: Table, y: Any, target: str | None) -> bool:
    """Whether a learner of this loss is shown class names: by the loss, or else by the targets."""
    if losses.predicts_values(loss):
        return False
    if isinstance(losses.short_form(loss), str):
        return True
    if y is not None:
        return labels.is_classification(y)
    if target is None or target not in table.columns or not table.is_number(target):
        return True
    values = table.columns[target]
    return bool((values == values.round()).all())


def _examples(wanted: Wanted, x: Any, y: Any) -> tuple[Examples, list[Any] | None]:
    if y is None:
        raise InputError("adapt expected targets y with x, got none; only a folder of class folders has its own labels")
    inputs = as_inputs(x, "x")
    targets, classes = _targets(wanted, inputs, y)
    if any(part.ndim == 0 or part.shape[0] == 0 for part in (*pytree.tree_leaves(inputs), targets)):
        raise InputError("the support set is empty; give at least one example")
    if isinstance(inputs, Tensor) and not inputs.is_floating_point() and not wanted.integers:
        raise InputError(
            f"x expected floating-point inputs, got {inputs.dtype}; convert and scale them as the training data was"
        )
    # A copy: what the caller later writes into the arrays does not reach the task.
    return Examples(pytree.tree_map(lambda v: v[None].clone(), inputs), targets[None].clone()), classes


def targets_in(table: Table, preprocessing: Mapping[str, Any] | None, classes: list[Any] | None) -> Any:
    """The targets that a table has for a task: class names as the task's are, or (rows, targets) values as the model learns them.

    Raises:
        InputError: a task whose targets no column holds, a column that is not there, or a missing cell.
    """
    record = table_record(preprocessing)
    if record is None or not record.targets:
        raise InputError("expected the targets y with x, got none, and no column is known to hold them; give y")
    if classes is None:
        return record.values(table)
    name = record.targets[0]
    cells = table.class_names(name)
    known = {str(c): c for c in classes}
    # As frames' cells are written.
    known |= {str(int(c)): c for c in classes if isinstance(c, float) and c.is_integer()}
    names = cells if isinstance(classes[0], str) else table.as_given(name, cells)
    return [known.get(str(cell), cell) for cell in names]


def more_rows(
    wanted: Wanted, kept: Table | None, classes: list[Any] | None, x: Any, y: Any
) -> tuple[Any, Any, Table | None, bool]:
    """(x, y, all rows of the task, whether its support set scales them) of a table that is given beside a support set.

    Args:
        wanted: what the learner takes, its preprocessing that of this task.
        kept: the support set's own table; None: there is none.
        classes: the names behind its labels; None for values.
        x, y: as in `MetaLearner.adapt`.

    Raises:
        InputError: columns unlike the support set's, or rows that it scales where its table is not kept.
    """
    table, record = as_table(x), table_record(wanted.preprocessing)
    scaled = record is not None and record.support is not None
    whole = (
        None if kept is None or y is not None else below_each_other([kept, table], kept.name)[0].without([FILE_COLUMN])
    )
    if scaled and whole is None:
        raise InputError(
            "learn expected a task whose table is kept, got one whose support set scales the numbers and of which these are "
            "not; adapt again to the whole table"
        )
    if y is not None and record is not None and classes is None:
        y = given_values(y, table.rows)
        y = record.values(table.beside(dict(zip(record.targets, y.T, strict=False)))) if record.targets else y
    targets = targets_in(table, wanted.preprocessing, classes) if y is None else y
    return encoded(table, wanted.preprocessing)[0], targets, whole, scaled


def more_examples(
    wanted: Wanted, kept: Examples, classes: list[Any] | None, x: Any, y: Any = None
) -> tuple[Any, Any, dict[str, Any] | None]:
    """(x, y, how files become inputs from now on) given beside a support set, x as its inputs are, y as it came.

    Args:
        wanted: what the learner takes, its shape and preprocessing those of this task.
        kept: the support set, of one task; its shapes and kinds of numbers count.
        classes: the names behind its labels; None for values.
        x, y: as in `MetaLearner.adapt`.

    Raises:
        InputError, ShapeError: examples that do not fit beside those.
    """
    record = wanted.preprocessing
    if is_path(x):
        x, y, record = _read(wanted, x, y)
    x = embedded(x, record)
    if kinds_of(record) is not None:
        x = as_packed(x, record, kept.x.shape[-1])
        kept = Examples(wider(kept.x, x.shape[-1]), kept.y)
    if y is None:
        raise InputError("learn expected targets y with x, got none; only a folder of class folders has its own labels")
    inputs = inputs_like(x, kept.x, kept.y.device)
    if classes is None:
        y = as_tensor(y, "y").to(kept.y)
        check_finite(y, "y")
        if y.shape[1:] != kept.y.shape[1:] or y.ndim != kept.y.ndim:
            wide = ", ".join(["examples", *map(str, kept.y.shape[1:])])
            raise ShapeError(f"y expected shape ({wide}) as the support set had, got {tuple(y.shape)}")
    elif not (labels.is_classification(y) or labels.whole(y)):
        raise InputError("y expected class names as the support set had, got floating-point values; give names")
    else:
        y = labels.label_names(y)
    if len(y) != length(inputs):
        raise ShapeError(f"x and y expected equally many examples, got {length(inputs)} and {len(y)}")
    return inputs, y, record


def joined(wanted: Wanted, kept: Examples, classes: list[Any] | None, x: Any, y: Any) -> tuple[Examples, Any]:
    """The support set with `more_examples` after it, with a leading axis of one task, and the class names of all."""
    inputs = both(kept.x, x, wanted.preprocessing)
    if classes is None:
        targets = torch.cat([kept.y, y])
    else:
        classes, encoded = labels.extended(classes, kept.y.reshape(len(kept.y)).long(), y)
        targets = _as_logits(wanted, inputs, encoded) if losses.is_binary(wanted.loss) else encoded
    return Examples(pytree.tree_map(lambda v: v[None], inputs), targets[None]), classes


def both(kept: Any, x: Any, preprocessing: Mapping[str, Any] | None) -> Any:
    """Inputs and more of their kind after them."""
    if kinds_of(preprocessing) is not None:
        kept, x = wider(kept, x.shape[-1]), wider(x, kept.shape[-1])
    return pytree.tree_map(lambda a, b: torch.cat([a, b]), kept, x)


def _read(wanted: Wanted, x: Any, y: Any) -> tuple[Any, Any, dict[str, Any] | None]:
    """Pictures at these paths, their labels, and how those to come are read."""
    record = wanted.preprocessing
    kept = reading_of(record)
    if y is not None or not isinstance(x, str | Path):
        images, reading, dark = read_inputs(x, wanted.picture_shape, record)
    elif wanted.picture_shape is None:
        raise InputError("the shape of this learner's inputs is not known, so pictures cannot be read; give tensors")
    else:
        images, y, reading, dark = read_classes(Path(x), wanted.picture_shape, inverts(record), kept=kept)
    return images, y, record if (dark, reading) == (inverts(record), kept) else preprocessing_of(dark, reading, record)


def _targets(wanted: Wanted, x: Any, y: Any) -> tuple[Tensor, list[Any] | None]:
    """Values in the learner's dtype, or labels as its loss takes them and the names behind them."""
    loss = wanted.loss
    named = labels.is_classification(y) or (losses.short_form(loss) == "cross_entropy" and labels.whole(y))
    # A loss for values takes integers as values.
    if not named or losses.resolve(loss, torch.zeros(1, dtype=torch.int64)) in (losses.mse, losses.known_mse):
        values = as_tensor(y, "y")
        if values.ndim == 1:
            check_finite(values, "y")
        return values.to(wanted.dtype), None
    classes, encoded = labels.encode(y)
    return _as_logits(wanted, x, encoded) if losses.is_binary(loss) else encoded, classes


def _as_logits(wanted: Wanted, x: Any, y: Tensor) -> Tensor:
    """Labels 0/1 in the shape and dtype of the model's logits, (examples,) or (examples, 1), for a binary loss."""
    shape = wanted.output_shape(x)
    return y.to(wanted.dtype).reshape(shape) if shape.numel() == y.numel() else y
