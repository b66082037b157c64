"""What a program holds in memory as tensors and class names: arrays of any library, layout, byte order and kind of cell.

The one way in. What torch or numpy would change without a word (masks, missing cells, 1 beside '1') is refused here.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.errors import InputError, ShapeError

Name = bool | int | float | str
_KINDS = {bool: "truth values", int: "whole numbers", float: "fractions", str: "texts"}
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def as_tensor(value: Any, name: str) -> Tensor:
    """A dense tensor without a graph, from a tensor, an array or nested lists of numbers or tensors; memory may be shared.

    Raises:
        InputError: no numbers, missing, masked or complex ones, or a tensor without values of its own (sparse, meta).
        ShapeError: a list of tensors of unlike shapes.
    """
    if isinstance(value, Tensor):
        return _plain(value, name)
    if isinstance(value, list | tuple) and any(isinstance(part, Tensor) for part in value):
        parts = [as_tensor(part, name) for part in value]
        shapes = {tuple(part.shape) for part in parts}
        if len(shapes) > 1:
            raise ShapeError(f"{name} expected tensors of one shape, got {sorted(shapes)}; pad or resize them")
        return torch.stack(parts)
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
        try:
            return _plain(torch.from_dlpack(value), name)
        except (BufferError, RuntimeError, TypeError, ValueError):
            pass  # what torch cannot share numpy may still copy
    array = _array(value, name)
    if array.dtype == object:
        if array.ndim == 1 and _nested(array.tolist()):  # a column that holds an array in each cell
            return as_tensor(array.tolist(), name)
        array = _numbers(array, name)
    kind = array.dtype.kind
    if kind not in "biuf":
        got = {"U": "texts", "S": "bytes", "M": "dates", "m": "durations", "c": "complex numbers"}.get(kind)
        raise InputError(f"{name} expected numbers, got {got or array.dtype}; convert them to floats first")
    wanted = np.float64 if kind == "f" and array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return _plain(torch.from_numpy(np.require(array, wanted, ["C", "W"])), name)


def expect_collected(value: Any, name: str) -> None:
    """Raise InputError for a query of polars that was not run yet."""
    if hasattr(value, "collect") and hasattr(value, "collect_schema"):
        raise InputError(
            f"{name} expected rows in memory, got a {type(value).__name__}; collect it first: {name}.collect()"
        )


def expect_dense(value: Tensor, name: str) -> None:
    """Raise InputError for a tensor whose values do not lie in memory one by one."""
    if value.device.type == "meta":
        raise InputError(f"{name} expected a tensor with values, got one on the meta device; load its values first")
    if value.layout != torch.strided or value.is_nested:
        layout = "nested" if value.is_nested else value.layout
        raise InputError(f"{name} expected a dense tensor, got layout {layout}; use {name}.to_dense()")
    if value.is_quantized:
        raise InputError(f"{name} expected plain numbers, got {value.dtype}; use {name}.dequantize()")
    if torch.masked.is_masked_tensor(value):
        raise InputError(f"{name} expected numbers without a mask, got a MaskedTensor; use {name}.to_tensor(fill)")


def _plain(value: Tensor, name: str) -> Tensor:
    expect_dense(value, name)
    if value.is_complex():
        raise InputError(f"{name} expected real numbers, got {value.dtype}; use torch.view_as_real({name})")
    value = value.detach().resolve_neg()
    if value.dtype in _UNSIGNED:
        signed = value.to(torch.int64)
        if bool((signed < 0).any()):
            raise InputError(f"{name} expected integers below 2**63, got larger ones in {value.dtype}; use floats")
        return signed
    if value.is_floating_point() and value.itemsize == 1:
        return value.to(torch.float32)  # eight bits: torch only stores them
    return value.clone() if value.is_inference() else value


def _array(value: Any, name: str) -> np.ndarray:
    """Any library's array as numpy's; refuses what numpy would change or wrap."""
    expect_collected(value, name)
    if hasattr(value, "collect_schema"):  # a frame of polars, which would turn dates into numbers
        for column, kind in value.collect_schema().items():
            if not (kind.is_numeric() or kind.is_nested() or str(kind) in ("Boolean", "Object")):
                raise InputError(f"{name} column {column!r} expected numbers, got {kind}; convert it or leave it out")
    if hasattr(value, "toarray"):
        raise InputError(f"{name} expected a dense array, got {type(value).__name__}; use {name}.toarray()")
    if np.ma.is_masked(value):
        row = int(np.argwhere(np.ma.getmaskarray(value))[0][0]) if np.ndim(value) else 0
        raise InputError(f"{name} row {row + 1} expected a value, got a masked one; fill it in: {name}.filled(value)")
    try:
        array = np.asarray(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{name} expected a tensor, an array or lists of numbers, got {type(value).__name__} ({error})"
        ) from None
    if array.dtype.fields:
        raise InputError(
            f"{name} expected a plain array, got a structured one with the fields {', '.join(array.dtype.fields)}; use "
            f"numpy.lib.recfunctions.structured_to_unstructured"
        )
    return array


def _numbers(array: np.ndarray, name: str) -> np.ndarray:
    """An object array's numbers in their common kind."""
    if array.ndim == 0:
        got = "nothing" if array.item() is None else type(array.item()).__name__
        raise InputError(f"{name} expected a tensor, an array or lists of numbers, got {got}; give one")
    for place, cell in np.ndenumerate(array):
        if isinstance(cell, bool | int | float | Decimal | Fraction | np.bool | np.integer | np.floating):
            continue
        what = "nothing" if _is_missing(cell) else type(cell).__name__
        raise InputError(
            f"{name} row {place[0] + 1} expected numbers, got {what} ({_said(cell)}); fill it in or convert it first"
        )
    found = np.asarray(array.tolist())
    return found if found.dtype.kind in "biuf" else array.astype(np.float64)


def _said(cell: Any) -> str:
    """A value in a message: on one line, and not the whole of a long one."""
    return " ".join(f"{cell!r:.40}".split())


def _is_missing(cell: Any) -> bool:
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):  # pandas' own
        return True
    if isinstance(cell, Decimal):
        return cell.is_nan()
    return isinstance(cell, float | np.floating | np.datetime64 | np.timedelta64) and bool(cell != cell)


def is_classification(y: Any) -> bool:
    """Integers, truth values, texts and pandas' categories are classes; numbers with floats among them are targets."""
    dtype = getattr(y, "dtype", None)
    kind = getattr(dtype, "kind", "f" if isinstance(y, Tensor) and (y.is_floating_point() or y.is_complex()) else "O")
    if kind != "O" or str(dtype) == "category":
        return kind not in "fc"
    cells = _cells(y, "y")[0]
    numbers = [v for v in cells if not _is_missing(v) or isinstance(v, float)]
    floats = any(isinstance(v, float | complex | Decimal | Fraction) for v in numbers)
    return not floats or any(isinstance(v, bool | str | bytes) for v in numbers)


def label_names(y: Any, name: str = "y") -> list[Name]:
    """The class of each example as a value of Python; a column (examples, 1) is taken too.

    Raises:
        InputError: more axes, a missing label, or one of another kind than those before it, with its row.
    """
    cells, shape = _cells(y, name)
    if not shape:
        raise InputError(
            f"{name}: class labels expected shape (examples,), got {type(y).__name__}; give a list of them"
        )
    if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
        raise InputError(
            f"{name}: class labels expected shape (examples,), got {shape}; for one-hot rows give {name}.argmax(1)"
        )
    found: list[Name] = []
    for row, cell in enumerate(cells, 1):
        if _is_missing(cell):
            raise InputError(
                f"{name} row {row} expected a class label, got none ({_said(cell)}); label it or leave it out"
            )
        kind = next((k for k in (bool, int, float, str) if isinstance(cell, k)), None)
        if kind is None:
            raise InputError(
                f"{name} row {row} expected a class label (a text, an integer or a truth value), got "
                f"{type(cell).__name__} ({_said(cell)}); give texts"
            )
        if found and type(found[0]) is not kind:
            raise InputError(
                f"{name} expected class labels of one kind, got {_KINDS[type(found[0])]} ({_said(found[0])}, row 1) and "
                f"{_KINDS[kind]} ({_said(cell)}, row {row}); give them alike"
            )
        found.append(str.__str__(cell) if isinstance(cell, str) else kind(cell))
    return found


def alike(names: list[Name], classes: list[Any]) -> list[Name]:
    """Labels in the kind of known classes; whole floats are taken for the integers that they are, and the other way about.

    Raises:
        InputError: another kind.
    """
    if not names or type(names[0]) is type(classes[0]):
        return names
    if type(classes[0]) is int and all(type(v) is float and v.is_integer() and abs(v) < 2**53 for v in names):
        return [int(v) for v in names]
    if type(classes[0]) is float and all(type(v) is int and abs(v) < 2**53 for v in names):
        return [float(v) for v in names]
    wanted, got = _KINDS.get(type(classes[0]), "other values"), _KINDS[type(names[0])]
    raise InputError(f"class names expected {wanted} as the support set had, got {got}; give them alike")


def _cells(y: Any, name: str) -> tuple[list[Any], tuple[int, ...]]:
    """(every entry as a value of Python, the shape) of labels; a list is not cast to one kind first."""
    if isinstance(y, Tensor) or (hasattr(y, "__dlpack__") and not hasattr(y, "__array__")):
        y = as_tensor(y, name)
        return y.reshape(-1).tolist(), tuple(y.shape)
    if isinstance(y, list | tuple) and not _nested(y):
        return [_unboxed(v) for v in y], (len(y),)
    array = _array(y, name)
    if array.dtype == object and array.ndim == 1 and _nested(array.tolist()):
        array = _array(array.tolist(), name)
    flat = array.reshape(-1)
    return [_unboxed(v) for v in (flat if array.dtype.kind in "mMf" else flat.tolist())], array.shape


def _nested(cells: list[Any] | tuple[Any, ...]) -> bool:
    return any(isinstance(cell, list | tuple) or getattr(cell, "ndim", 0) for cell in cells)


def _unboxed(cell: Any) -> Any:
    """A numpy scalar or a tensor without axes as the value that it holds; dates stay, for they would become integers."""
    if isinstance(cell, np.floating):
        return float(cell)
    boxed = isinstance(cell, np.generic | np.ndarray | Tensor) and not isinstance(cell, np.datetime64 | np.timedelta64)
    return cell.item() if boxed else cell
