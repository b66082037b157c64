"""What commands print: one JSON object, or aligned text."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.cli import places


def plain(value: Any) -> Any:
    """The same with lists, texts and numbers only; JSON has no NaN or infinity, so these become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    item = getattr(value, "item", None)  # a number of torch or numpy
    return plain(item()) if item is not None else str(value)


def print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def write_json(path: Path, value: Any) -> None:
    """The whole file or none."""
    part = path.with_name(path.name + ".part")
    text = json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False)
    with places.writing(path):
        try:
            part.write_text(text + "\n", encoding="utf-8")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns lined up by spaces: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
