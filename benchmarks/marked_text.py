"""Markdown that a program writes into a page between two marks; what a person wrote around them stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from innerloop.errors import InputError

T = TypeVar("T")
Column = tuple[str, Callable[[T], str]]


def table(columns: Sequence[Column[T]], rows: Iterable[T]) -> list[str]:
    """The lines of a Markdown table; a cell may not hold a bar, so it becomes a slash."""
    lines = ["| " + " | ".join(title for title, _ in columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(show(row).replace("|", "/") or " " for _, show in columns) + " |")
    return lines


def replaced(text: str, begin: str, end: str, body: str) -> str:
    """``text`` with ``body`` between the two marks.

    Raises:
        InputError: the two marks are not there.
    """
    before, first, rest = text.partition(begin)
    _, second, after = rest.partition(end)
    if not first or not second:
        raise InputError(f"expected the marks {begin!r} and {end!r} in the page, got none; put them back")
    return f"{before}{begin}\n\n{body}\n{end}{after}"
