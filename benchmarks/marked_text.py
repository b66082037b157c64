"""Markdown that a program writes into a page between two marks; what a person wrote around them stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
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


def replaced(text: str, begin: str, end: str, body: str, page: Path | str) -> str:
    """``text``, of ``page``, with ``body`` between the two marks.

    Raises:
        InputError: the two marks are not there; it names the page.
    """
    before, first, rest = text.partition(begin)
    _, second, after = rest.partition(end)
    if not first or not second:
        lacking = " and ".join(repr(mark) for mark in (begin, end) if mark not in text)
        got = f"no {lacking}" if lacking else "the second before the first"
        raise InputError(f"{page} expected the marks {begin!r} and then {end!r}, got {got}; put them back")
    return f"{before}{begin}\n\n{body}\n{end}{after}"
