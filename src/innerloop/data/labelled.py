"""Examples with labels from what a program has in memory: arrays, tensors, data frames, data sets of torch or Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from innerloop.data.arrays import as_tensor, expect_collected, label_names
from innerloop.data.class_images import ClassArrays, ClassImages
from innerloop.errors import InputError, nearest

TEXT_COLUMNS = ("text", "sentence")
IMAGE_COLUMNS = ("image", "img", "picture", "embedding", "features", "x")
LABEL_COLUMNS = ("label", "labels", "class", "fine_label", "y")


class Labelled(NamedTuple):
    """Examples and the name of each one's class."""

    x: Tensor  # uint8 pictures (examples, channels, height, width), or floats (examples, *shape)
    y: list[str]


def pair_of(x: Any, y: Any = None) -> tuple[Any, Any]:
    """(inputs, labels) of a data frame, or of a data set of Hugging Face, by its columns; any other ``x`` and ``y`` as they came.

    Texts of any library come as a list of strings. Where ``y`` stays None, ``x`` is a data set for `from_dataset`.

    Args:
        x: a frame of pandas, polars or Arrow: its columns of numbers are the inputs, or its one column of texts or of arrays.
        y: the name of a column, or None for the one called label or the like; else labels.

    Raises:
        InputError: rows that are not in memory yet, or no such column.
    """
    expect_collected(x, "x")
    if hasattr(x, "column_names") and isinstance(getattr(x, "features", None), dict):
        return _of_columns(x, y)
    frame = _frame(x)
    if frame is not None:
        if y is None or isinstance(y, str):
            columns = list(frame.columns)
            label = _column(columns, LABEL_COLUMNS if y is None else (y,), y or "label")
            frame, y = frame[[name for name in columns if name != label]], frame[label]
        if len(frame.columns) == 1 and len(frame):
            cells = frame[frame.columns[0]].to_list()
            return (cells if isinstance(cells[0], str) or hasattr(cells[0], "__len__") else frame), y
        return frame, y
    return (x if y is None else _listed(x)), y


def _frame(x: Any) -> Any:
    """A data frame of pandas or polars as it is, one of another library as pandas'; None for anything else."""
    if not hasattr(x, "columns") or not (hasattr(x, "iloc") or hasattr(x, "to_pandas")):
        return None
    return x if hasattr(x, "iloc") or hasattr(x, "collect_schema") else x.to_pandas()


def taken_out(x: Any, names: Mapping[str, str]) -> tuple[Any, dict[str, Any]]:
    """(a data frame without some columns, {what: the column's values}); ``names`` are {what: the column's name}.

    Raises:
        InputError: no data frame, or no such column.
    """
    expect_collected(x, "x")
    frame = _frame(x)
    if frame is None:
        what, name = next(iter(names.items()))
        raise InputError(
            f"{what} expected a value for each row, or the name of a column of a data frame, got {name!r} beside "
            f"{type(x).__name__}; give the values"
        )
    columns = list(frame.columns)
    for what, name in names.items():
        if name not in columns:
            raise InputError(f"{what} expected a column of the data frame, got {name!r}: {nearest(name, columns)}")
    found = {what: frame[name].to_numpy() for what, name in names.items()}
    return frame[[name for name in columns if name not in names.values()]], found


def _listed(x: Any) -> Any:
    """A column of texts of any library as a list; all else as it came."""
    if isinstance(x, list | tuple | str | Tensor) or getattr(x, "ndim", 1) != 1 or not hasattr(x, "__getitem__"):
        return x
    one = next(iter(x), None) if hasattr(x, "__len__") and hasattr(x, "__iter__") else None
    return list(x) if isinstance(one, str) else x


def _of_columns(data: Any, y: Any) -> tuple[Any, Any]:
    """`pair_of` a data set of Hugging Face."""
    _expect_finite(data)
    if not (y is None or isinstance(y, str)):
        raise InputError(f"y expected the name of a column beside a data set, got {type(y).__name__}; give one or none")
    columns = list(data.column_names)
    label = _column(columns, LABEL_COLUMNS if y is None else (y,), y or "label")
    rest = [name for name in columns if name != label]
    image = next((name for name in IMAGE_COLUMNS if name in rest), None)
    if image is not None:
        return (data if y is None else data.select_columns([image, label]).rename_column(label, LABEL_COLUMNS[0])), None
    kinds = {name: str(getattr(data.features[name], "dtype", "")) for name in rest}
    texts = [name for name, kind in kinds.items() if kind in ("string", "large_string")]
    names = _class_names(data, label)
    labels = [_named(value, names, row) for row, value in enumerate(data[label], 1)]
    text = next((name for name in TEXT_COLUMNS if name in texts), texts[0] if len(texts) == 1 else None)
    if text is not None:
        return list(data[text]), labels
    if not rest or not all(re.match(r"u?int|float|bool", kind) for kind in kinds.values()):
        _column(rest, IMAGE_COLUMNS, "image")
    rows = data.with_format("numpy", columns=rest)[:]
    return np.stack([rows[name] for name in rest], 1), labels


def inputs_of(x: Any) -> Tensor:
    """Inputs (examples, *shape) of an array or a tensor: bytes as pictures, other numbers as floats.

    Raises:
        InputError: no examples, one axis, or values that are no numbers.
    """
    values = as_tensor(x, "x").cpu()
    if values.ndim < 2:
        raise InputError(f"x expected (examples, *shape), got shape {tuple(values.shape)}; give one row an example")
    if not values.numel():
        raise InputError(f"x expected at least one example and one number in each, got shape {tuple(values.shape)}")
    return _pictures(values) if values.dtype == torch.uint8 else _floats(values)


def from_pair(x: Any, y: Any) -> Labelled:
    """Arrays or tensors of inputs and labels.

    Raises:
        InputError: as `inputs_of`, another number of labels, or labels with more than one axis.
    """
    values, labels = inputs_of(x), _labels(y)
    if len(values) != len(labels):
        raise InputError(f"y expected one label an example, got {len(labels)} for {len(values)}; give one each")
    return Labelled(values, labels)


def from_dataset(data: Any, size: int | Sequence[int] | None = None, channels: int | None = None) -> Labelled:
    """All examples of a data set: one of torch's (items are pairs of input and label) or of Hugging Face's (columns).

    Args:
        data: has a length and gives an item, or has the columns image (or embedding) and label.
        size, channels: of pictures that come as PIL images; None: from the first ones.

    Raises:
        InputError: no length, no such columns, items that are no pairs, or inputs of differing shapes.
    """
    splits = getattr(data, "keys", None)
    if isinstance(data, dict) or (callable(splits) and not hasattr(data, "column_names") and hasattr(data, "values")):
        raise InputError(
            f"expected one data set, got one for each of {', '.join(map(str, data))}; give one, such as data['train']"
        )
    _expect_finite(data)
    inputs, labels = [], []
    names = _class_names(data)
    for row, (item_x, item_y) in enumerate(_items(data), 1):
        if item_x is None:
            raise InputError(f"row {row} expected an input, got none; leave such rows out")
        inputs.append(item_x)
        labels.append(_named(item_y, names, row))
    if not inputs:
        raise InputError("expected a data set with items, got an empty one")
    if hasattr(inputs[0], "convert") and hasattr(inputs[0], "getbands"):
        return Labelled(_decoded(inputs, size, channels), _labels(labels))
    shapes = {tuple(np.shape(x)) for x in inputs}
    if len(shapes) > 1:
        first, second, *_ = sorted(shapes)
        raise InputError(
            f"inputs expected to have one shape, got {first} and {second}; resize them in the data set's transform"
        )
    stacked = torch.stack([as_tensor(x, "an item's input").cpu() for x in inputs])
    return from_pair(stacked[:, None] if stacked.ndim == 1 else stacked, labels)


def _expect_finite(data: Any) -> None:
    """InputError for a stream: whole classes go into one split, so all examples have to be known, and it may have no end."""
    kind = type(data).__name__
    if isinstance(data, DataLoader):
        raise InputError(f"expected a data set, got a {kind}; give what it loads: loader.dataset")
    if hasattr(data, "take") and hasattr(data, "features") and not hasattr(data, "__len__"):  # of Hugging Face
        raise InputError(
            f"expected a data set with a length, got a stream ({kind}); take as much as fits into memory: "
            "datasets.Dataset.from_list(list(data.shuffle(seed=0).take(10_000)), features=data.features)"
        )
    if isinstance(data, IterableDataset) or not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise InputError(
            f"expected arrays x and y, or a data set with a length and labelled items, got {kind}; of a stream take as much as "
            "fits into memory: list(itertools.islice(data, 10_000))"
        )


def _items(data: Any) -> Iterator[tuple[Any, Any]]:
    columns = getattr(data, "column_names", None)
    if columns is not None:
        image, label = (
            _column(columns, known, what) for known, what in ((IMAGE_COLUMNS, "image"), (LABEL_COLUMNS, "label"))
        )
        for i in range(len(data)):
            row = data[i]
            yield row[image], row[label]
        return
    for i in range(len(data)):
        item = data[i]
        if isinstance(item, dict):
            keys = list(item)
            yield item[_column(keys, IMAGE_COLUMNS, "image")], item[_column(keys, LABEL_COLUMNS, "label")]
        elif isinstance(item, tuple | list) and len(item) >= 2:
            yield item[0], item[1]
        else:
            raise InputError(
                f"item {i} expected a pair of input and label, got {type(item).__name__}; give a labelled data set"
            )


def _column(columns: Sequence[str], known: Sequence[str], what: str) -> str:
    for name in known:
        if name in columns:
            return name
    raise InputError(f"expected a column {what}, got {', '.join(map(str, columns))}; rename one (rename_column)")


def _class_names(data: Any, label: str | None = None) -> list[str] | None:
    """The names behind numbered labels, where the data set knows them."""
    features = getattr(data, "features", None)
    if isinstance(features, dict):
        for name in LABEL_COLUMNS if label is None else (label,):
            if name in features and getattr(features[name], "names", None):
                return [str(n) for n in features[name].names]
    classes = getattr(data, "classes", None)  # as torch's image data sets have
    return [str(n) for n in classes] if isinstance(classes, list | tuple) else None


def _named(label: Any, names: Sequence[str] | None, row: int) -> Any:
    """A label by the name of its class, where that is known."""
    value = label.item() if hasattr(label, "item") and getattr(label, "ndim", 0) == 0 else label
    if names is None or not isinstance(value, int):
        return value
    if value == -1:
        raise InputError(f"row {row} expected a label, got -1, which stands for none; leave such rows out")
    return names[value] if 0 <= value < len(names) else value


def _floats(values: Tensor) -> Tensor:
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())


def _pictures(values: Tensor) -> Tensor:
    """Bytes as pictures with the channels first; other bytes as numbers."""
    if values.ndim == 3:
        return values[:, None]
    if values.ndim == 4:
        if values.shape[1] not in (1, 3) and values.shape[-1] in (1, 3):
            return values.movedim(-1, 1).contiguous()
        if values.shape[1] in (1, 3):
            return values
    return _floats(values)


def as_pictures(values: Tensor) -> UInt8[Tensor, "examples channels height width"]:
    """Pictures of bytes, or of floats in [0, 1], grey or in colour, as bytes with the channels first.

    Raises:
        InputError: other numbers, or another shape.
    """
    if values.dtype != torch.uint8:
        low, high = (float(v) for v in values.aminmax()) if values.numel() else (0.0, 0.0)
        if not 0 <= low <= high <= 1:
            raise InputError(f"expected pictures of numbers in [0, 1] or of bytes, got {low:g} to {high:g}; scale them")
        values = (values.to(torch.float32) * 255).round().to(torch.uint8)
    found = _pictures(values)
    if found.ndim != 4 or found.dtype != torch.uint8:
        raise InputError(
            f"expected pictures of 1 or 3 channels, got shape {tuple(values.shape)}; give (examples, channels, height, width)"
        )
    return found


def _decoded(pictures: Sequence[Any], size: int | Sequence[int] | None, channels: int | None) -> Tensor:
    from innerloop.data.own_classes import look_at
    from innerloop.data.picture_decoding import read_together

    seen = look_at(pictures[:: max(1, len(pictures) // 48)][:49], "the data set")
    sides = seen.size if size is None else (size, size) if isinstance(size, int) else tuple(size)
    shape = (seen.channels if channels is None else channels, int(sides[0]), int(sides[1]))
    found = read_together(len(pictures), lambda i: pictures[i], shape, seen.dark_ink)
    for place, why in found.left_out:
        raise InputError(f"example {place} expected a picture, got one that is {why}; leave it out")
    return torch.from_numpy(found.images)


def _labels(y: Any) -> list[str]:
    names = label_names(y)
    if any(isinstance(v, float) and not v.is_integer() for v in names):
        raise InputError("y expected class labels (integers or texts), got fractions; few-shot tasks are of classes")
    return [str(int(v) if isinstance(v, float) else v) for v in names]


def in_their_order(labels: Iterable[str]) -> list[str]:
    """Names of classes, each once: numbers in their order, else texts in theirs."""
    names = set(labels)
    numbers = all(re.fullmatch(r"-?\d{1,20}", name) for name in names)
    return sorted(names, key=(lambda n: (int(n), n)) if numbers else (lambda n: (0, n)))


def by_class(data: Labelled) -> ClassImages:
    """Sorted by class: numbers in their order, else texts in theirs; one class after the other, each in the order it came in."""
    names = in_their_order(data.y)
    place = {name: i for i, name in enumerate(names)}
    of = torch.tensor([place[label] for label in data.y])
    order = torch.argsort(of, stable=True)
    counts = tuple(torch.bincount(of, minlength=len(names)).tolist())
    kind = ClassImages if data.x.dtype == torch.uint8 and data.x.ndim == 4 else ClassArrays
    return kind(data.x[order].contiguous(), tuple(names), ("",) * len(names), counts)
