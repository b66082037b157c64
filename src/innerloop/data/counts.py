"""Sparse rows: of each row, which of many entries are not zero, and how large. Fingerprints, words, baskets.

Models read them as one dense tensor (rows, 2, entries): at [:, 0] the numbers of a row's entries, at [:, 1] their counts, zeros
behind them. So a row of 50 among a million takes 100 numbers, and tasks are tensors like any others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from innerloop.data.arrays import as_tensor
from innerloop.errors import InputError, ShapeError, expect_whole

KIND, MOLECULES = "counts", "molecules"  # of the preprocessing record; molecules' is one of counts with more in it
_BLOCK = 1 << 14  # rows that are taken at a time
_LARGEST = 1 << 24  # entry numbers are exact in float32 below it


class Counts:
    """Sparse rows, one after another.

    Args:
        index: (entries,) whole numbers from 0 up: which entries are there.
        count: (entries,) how much of each, above 0.
        start: (rows + 1,) where each row begins in these, and the end of the last; or (rows,) without the end.
        kinds: how many different entries there are; None: the largest index and one.

    Raises:
        ShapeError: arrays of unlike lengths or with more axes.
        InputError: counts or entries below 0, starts that go back, or entries from ``kinds`` up.

    Example:
        >>> import innerloop as il
        >>> rows = il.Counts(index=[0, 3, 3], count=[2, 1, 5], start=[0, 2, 3])
        >>> rows
        Counts(2 rows of 4 kinds, 3 entries)
        >>> rows.dense().tolist()
        [[2.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 5.0]]
    """

    def __init__(self, index: Any, count: Any, start: Any, kinds: int | None = None) -> None:
        found = {
            "index": as_tensor(index, "index"),
            "count": as_tensor(count, "count"),
            "start": as_tensor(start, "start"),
        }
        for name, value in found.items():
            if value.ndim != 1:
                raise ShapeError(f"{name} expected one axis, got shape {tuple(value.shape)}; flatten it")
        index, count, start = found.values()
        if len(index) != len(count):
            raise ShapeError(
                f"index and count expected one length, got {len(index)} and {len(count)}; give one count an entry"
            )
        for name, value in (("index", index), ("start", start)):
            if value.is_floating_point() and len(value):
                raise InputError(f"{name} expected whole numbers, got {value.dtype}; convert them")
        start = start.to(torch.int64)
        if len(start) and int(start[-1]) != len(index):
            start = torch.cat([start, torch.tensor([len(index)])])
        if not len(start) or int(start[0]) != 0 or bool((start.diff() < 0).any()):
            raise InputError(
                f"start expected to rise from 0 to the {len(index)} entries, got {_shown(start)}; give where each row begins"
            )
        if len(start) < 2:
            raise InputError("Counts expected at least one row, got none; give the rows")
        if count.is_floating_point() and not bool(torch.isfinite(count).all()):
            raise InputError("count expected finite numbers, got NaN or infinite ones; clean them first")
        for name, value in (("index", index), ("count", count)):
            if len(value) and float(value.min()) < 0:
                at = int((value < 0).nonzero()[0])
                row = int(torch.searchsorted(start, at, right=True))
                raise InputError(f"{name} expected numbers from 0 up, got {value[at].item()} in row {row}; mend it")
        _expect_each_once(index, start)
        top = int(index.max()) + 1 if len(index) else 1
        if kinds is not None:
            expect_whole("kinds", kinds)
        self.kinds: int = top if kinds is None else kinds
        if top > self.kinds:
            raise InputError(
                f"index expected numbers below {self.kinds}, the kinds of entries, got {top - 1}; raise kinds"
            )
        if self.kinds > _LARGEST:
            raise InputError(f"index expected numbers below {_LARGEST}, got {self.kinds - 1}; number the entries anew")
        self.index: Tensor = index.to(torch.int32)
        self.start: Tensor = start
        small = count.dtype in (torch.uint8, torch.float32)
        self.count: Tensor = count if small else count.to(torch.float32)

    def __len__(self) -> int:
        return len(self.start) - 1

    def __repr__(self) -> str:
        return f"Counts({len(self):,} rows of {self.kinds:,} kinds, {len(self.index):,} entries)"

    @property
    def longest(self) -> int:
        """The most entries in a row, at least 1."""
        return max(1, int(self.start.diff().max()))

    def take(self, rows: Any) -> Counts:
        """These rows, in this order; one may come more than once."""
        rows = as_tensor(rows, "rows").to(torch.int64)
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(self):
            raise InputError(
                f"rows expected numbers from 0 to {len(self) - 1}, got {int(rows.min())} to {int(rows.max())}"
            )
        length = self.start.diff()[rows]
        start = torch.cat([length.new_zeros(1), length.cumsum(0)])
        index, count = self.index.new_empty(int(start[-1])), self.count.new_empty(int(start[-1]))
        for first in range(0, len(rows), _BLOCK):  # place by place would take ten times the memory
            own = slice(first, first + _BLOCK)
            begin, end = int(start[first]), int(start[min(first + _BLOCK, len(rows))])
            at = torch.arange(begin, end) + (self.start[rows[own]] - start[:-1][own]).repeat_interleave(length[own])
            index[begin:end], count[begin:end] = self.index[at], self.count[at]
        return Counts(index, count, start, self.kinds)

    def packed(
        self, rows: Tensor | None = None, width: int | None = None, dtype: torch.dtype | None = None
    ) -> Float[Tensor, "*rows 2 entries"]:
        """Rows as models read them.

        Args:
            rows: their numbers, of any shape; None: all.
            width: entries of a row, of which it may have fewer; None: those of the longest of all.
            dtype: None: torch's default.
        """
        rows = torch.arange(len(self)) if rows is None else rows
        at = torch.arange(self.longest if width is None else width)
        first, length = self.start[rows][..., None], self.start.diff()[rows][..., None]
        inside = at < length
        place = (first + at) * inside
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not len(self.index):
            return torch.zeros(*rows.shape, 2, len(at), dtype=dtype)
        return torch.stack([self.index[place].to(dtype) * inside, self.count[place].to(dtype) * inside], -2)

    def dense(self) -> Float[Tensor, "rows kinds"]:
        """All rows in full."""
        return dense(self.packed(), self.kinds)


def _expect_each_once(index: Tensor, start: Tensor) -> None:
    """Raise InputError where an entry comes twice in a row: nets would take each for itself."""
    rises = index.diff() > 0
    ends = start[1:-1]
    rises[ends[(ends > 0) & (ends < len(index))] - 1] = True  # from one row to the next it may fall
    if bool(rises.all()):
        return
    row = torch.repeat_interleave(torch.arange(len(start) - 1), start.diff())
    both = (row * (int(index.max()) + 1) + index).sort().values
    twice = (both.diff() == 0).nonzero()
    if len(twice):
        at = int(both[twice[0]])
        number, entry = divmod(at, int(index.max()) + 1)
        raise InputError(
            f"index expected each entry once in a row, got {entry} twice in row {number + 1}; add their counts up"
        )


def _shown(start: Tensor) -> str:
    return f"{start[:3].tolist()}...{start[-1].item()}" if len(start) > 4 else str(start.tolist())


def is_sparse(x: Any) -> bool:
    """Whether these are `Counts`, or a matrix of scipy's sparse kinds."""
    return isinstance(x, Counts) or (hasattr(x, "tocsr") and hasattr(x, "nnz"))


def as_counts(x: Any, kinds: int | None = None) -> Counts:
    """`Counts` as they are; a sparse matrix of scipy's, or a dense one (rows, kinds), as `Counts`.

    Raises:
        InputError: numbers below 0, or entries that are not known.
        ShapeError: another number of columns.
    """
    if isinstance(x, Counts):
        if kinds is not None and x.kinds != kinds:
            return Counts(x.index, x.count, x.start, kinds)
        return x
    if is_sparse(x):
        rows = x.tocsr()
        if not rows.has_canonical_format:
            rows = rows.copy()
            rows.sum_duplicates()
        found = Counts(rows.indices, rows.data, rows.indptr, rows.shape[1])
    else:
        values = as_tensor(x, "x")
        if values.ndim != 2:
            raise ShapeError(f"x expected sparse rows, or (rows, kinds) of counts, got shape {tuple(values.shape)}")
        row, column = values.nonzero(as_tuple=True)
        start = torch.searchsorted(row, torch.arange(len(values) + 1))
        found = Counts(column, values[row, column], start, values.shape[1])
    if kinds is not None and found.kinds != kinds:
        raise ShapeError(
            f"x expected {kinds} columns as the training rows had, got {found.kinds}; give the same columns"
        )
    return found


def dense(packed: Shaped[Tensor, "*rows 2 entries"], kinds: int) -> Float[Tensor, "*rows kinds"]:
    """Packed rows in full."""
    index, count = packed[..., 0, :].to(torch.int64), packed[..., 1, :]
    return count.new_zeros(*count.shape[:-1], kinds).scatter_add(-1, index, count)


def kinds_of(preprocessing: Mapping[str, Any] | None) -> int | None:
    """How many kinds of entries inputs have, where they are packed rows; None: they are not."""
    of_counts = preprocessing is not None and preprocessing.get("kind") in (KIND, MOLECULES)
    return int(preprocessing["kinds"]) if of_counts and preprocessing is not None else None


def record(kinds: int) -> dict[str, Any]:
    """What says that inputs are packed rows."""
    return {"kind": KIND, "kinds": kinds}


def as_packed(x: Any, preprocessing: Mapping[str, Any] | None, width: int = 1) -> Any:
    """Inputs as the record says: sparse or full rows packed, with room for ``width`` entries at least; else as they are.

    Raises:
        InputError: sparse rows for a learner of dense ones.
    """
    kinds = kinds_of(preprocessing)
    if kinds is None:
        if is_sparse(x):
            name = type(x).__name__
            raise InputError(
                f"x expected a dense array, got {name}; use x.{'dense' if isinstance(x, Counts) else 'toarray'}()"
            )
        return x
    if isinstance(x, str | Path | Mapping) or hasattr(x, "columns"):
        raise InputError(
            f"x expected sparse rows (il.Counts, or a matrix of scipy's) or an array (rows, {kinds}), which files do not hold, "
            f"got {type(x).__name__}; read it in Python and give the array"
        )
    given_tensor = isinstance(x, Tensor)
    x = x if is_sparse(x) else as_tensor(x, "x")
    if isinstance(x, Tensor) and x.ndim == 3 and x.shape[1] == 2:  # packed already
        packed = wider(x, width)
    else:
        found = as_counts(x, kinds)
        packed = found.packed(width=max(width, found.longest))
    return packed if given_tensor else packed.numpy()


def wider(packed: Tensor, width: int) -> Tensor:
    """Packed rows with room for so many entries at least."""
    more = width - packed.shape[-1]
    return F.pad(packed, (0, more)) if more > 0 else packed
