"""What a report is made of: sections of sentences, tables and pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Table:
    """A table. Cells are plain text: they are escaped when the page is written.

    Attributes:
        rows: the cells, one sequence a row.
        header: names of the columns; None: the first column names its row.
        caption: one sentence above the table.
    """

    rows: Sequence[Sequence[str]]
    header: Sequence[str] | None = None
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with what is said about it.

    Attributes:
        name: of its file, plots/NAME.png.
        figure: a matplotlib figure.
        caption: what the reader sees and what to make of it.
        alt: for those who cannot see it; the caption where empty.
        wide: several panels side by side; on a phone it scrolls sideways instead of shrinking.
    """

    name: str
    figure: Figure
    caption: str = ""
    alt: str = ""
    wide: bool = False


@dataclasses.dataclass(frozen=True)
class Note:
    """A sentence set apart: something is missing, or should be read with care."""

    text: str


Part = str | Note | Table | Picture


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in order; a plain string is a paragraph.

    Attributes:
        title: the heading.
        parts: what stands below.
        folded: whether the reader opens it by a click: what most need not see.
    """

    title: str
    parts: Sequence[Part]
    folded: bool = False
