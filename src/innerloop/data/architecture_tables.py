"""NAS-Bench-201's table: how wrong each of 15,625 small networks is on three data sets of pictures.

Dong and Yang 2020, "NAS-Bench-201: extending the scope of reproducible neural architecture search", arXiv:2001.00326; in the form
that came with Salinas, Shen and Perrone 2020, arXiv:1909.13595. A cell has four nodes and six edges, each with one of five
operations; as text ``|conv~0|+|conv~0|skip~1|+|conv~0|skip~1|skip~2|``.
"""

from __future__ import annotations

import csv
import functools
import io
import lzma
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from innerloop.data.locations import data_folder
from innerloop.errors import InputError, first_line

FILE = Path("hpo") / "nas_bench102.csv.xz"
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = (
    (0, 1),
    (0, 2),
    (1, 2),
    (0, 3),
    (1, 3),
    (2, 3),
)  # (from, to) in the text's order; node 0 is the input, 3 the output
_LAST = EDGES[-1][1]
_COLUMNS = ("task", "arch_str", "metric_error")
_WORD = re.compile(r"([a-z_0-9]+)~(\d)")


class ArchitectureTable(NamedTuple):
    """A table of evaluated architectures.

    Attributes:
        names: each architecture as text.
        operations: of each edge, a place in `OPERATIONS`.
        errors: of each data set, the share of test pictures that each architecture gets wrong, in percent.
    """

    names: tuple[str, ...]
    operations: Int64[np.ndarray, "architectures edges"]
    errors: dict[str, Float[np.ndarray, " architectures"]]


def reachable(operations: Int64[np.ndarray, "architectures edges"]) -> Int64[np.ndarray, "architectures edges"]:
    """The same with "none" on each edge that no way from the input to the output goes along, since it does nothing."""
    nothing = OPERATIONS.index("none")
    there = operations != nothing
    begins = np.zeros((len(operations), _LAST + 1), dtype=bool)
    ends = begins.copy()
    begins[:, 0] = ends[:, _LAST] = True
    for edge, (a, b) in enumerate(EDGES):  # each goes into a later node, so one pass in this order is enough
        begins[:, b] |= begins[:, a] & there[:, edge]
    for edge, (a, b) in reversed(list(enumerate(EDGES))):
        ends[:, a] |= ends[:, b] & there[:, edge]
    first, last = (list(side) for side in zip(*EDGES, strict=True))
    return np.where(begins[:, first] & ends[:, last], operations, nothing)


def load_nas201(path: Path | None = None) -> ArchitectureTable:
    """The table of NAS-Bench-201.

    Args:
        path: of the file; None: INNERLOOP_DATA/hpo/nas_bench102.csv.xz.

    Raises:
        InputError: missing, damaged, or not all architectures on all data sets.
    """
    path = data_folder() / FILE if path is None else path
    if not path.is_file():
        raise InputError(
            f"expected NAS-Bench-201's {FILE.name} in {str(path.parent)!r}, found nothing there; put the file there, or set "
            "INNERLOOP_DATA to the folder above"
        )
    return _read(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _read(path: Path, written: int) -> ArchitectureTable:
    del written  # a file that was exchanged is read again
    found: dict[str, dict[str, float]] = {}
    try:
        with lzma.open(path) as file:
            rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8"))
            lacking = sorted(set(_COLUMNS) - set(rows.fieldnames or ()))
            if lacking:
                raise InputError(f"{path} expected a column {lacking[0]}, got none; put the official file there")
            for row in rows:
                found.setdefault(row["task"], {})[row["arch_str"]] = float(row["metric_error"])
    except (lzma.LZMAError, EOFError, UnicodeDecodeError, csv.Error, ValueError, TypeError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({first_line(error)}); put the official file there") from error
    names = tuple(sorted(next(iter(found.values()), {})))
    if len(found) < 2 or any(set(own) != set(names) for own in found.values()):
        raise InputError(
            f"{path} expected all architectures on at least two data sets, got others; put the official file there"
        )
    errors = {task: np.array([own[name] for name in names]) for task, own in sorted(found.items())}
    if not all(np.isfinite(own).all() for own in errors.values()):
        raise InputError(f"{path} expected finite errors, got others; put the official file there")
    return ArchitectureTable(names, edges_of(names), errors)


def edges_of(names: Sequence[str]) -> Int64[np.ndarray, "architectures edges"]:
    """The operations of architectures that are given as text.

    Raises:
        InputError: another cell, or an unknown operation.
    """
    wanted = [str(source) for source, _ in EDGES]
    found = []
    for name in names:
        words = _WORD.findall(name)
        if [source for _, source in words] != wanted or any(word not in OPERATIONS for word, _ in words):
            raise InputError(
                f"expected a cell such as |nor_conv_3x3~0|+|none~0|skip_connect~1|+|..., of {', '.join(OPERATIONS)}, got {name!r}"
            )
        found.append([OPERATIONS.index(word) for word, _ in words])
    return np.array(found, dtype=np.int64).reshape(len(found), len(EDGES))
