"""A page of drawn molecules: the most promising of a library, each beside the most alike of those that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.data.molecules import picture, record_of
from innerloop.report.html import render
from innerloop.report.page import Picture, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from innerloop.meta_learner.molecules import Screened

_DRAWN = 10  # molecules of the library
_WIDE, _HIGH = 2.5, 2.0  # inches of a molecule
_IN_NUMBERS = 200


def write_page(fitted: Any, found: Sequence[Screened], path: Path, *, ranked: bool) -> Path:
    """Write the page; ``found`` as `il.screen` gives it."""
    record = record_of(fitted.preprocessing)
    what = "a value" if fitted.classes_ is None else "the class " + " or ".join(map(str, fitted.classes_))
    said = (
        f"{len(found)} molecules, of which {what} is predicted from {fitted.num_examples} measured ones"
        f" by {fitted.owner.name}. Beside each stand the measured molecules that are most like it (Tanimoto's similarity of "
        "their fragments, 1 for the same ones): where none is like it, little is known of it."
    )
    shown = list(found[:_DRAWN])
    order = "The most promising" if ranked else "The first"
    target = f", {record.target}" if record is not None and record.target else ""
    sections = [
        Section(
            f"{order} {len(shown)}{target}",
            [
                said,
                Picture("molecules", figure(shown), "Left: the molecule and its prediction. Right: the measured ones."),
            ],
        ),
        Section(
            "In numbers",
            [Table([_row(one) for one in found[:_IN_NUMBERS]], ["row", "SMILES", "predicted", "nearest, similarity"])],
        ),
    ]
    return render(f"Molecules by {fitted.owner.name}", sections, path)


def figure(found: Sequence[Screened]) -> Figure:
    """A row for each molecule: itself, then the measured ones that are nearest."""
    from innerloop.report import style

    columns = 1 + max((len(one.nearest) for one in found), default=0)
    made = style.new_figure(_WIDE * columns, _HIGH * len(found))
    axes = made.subplots(len(found), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for line, one in zip(axes, found, strict=True):
        _draw(line[0], one.smiles, f"{place(one)}\n{predicted(one)}")
        for axis, near in zip(line[1:], one.nearest, strict=False):
            _draw(axis, near.smiles, f"{near.similarity:.2f} alike\nmeasured {_answer(near.answer)}")
    return made


def place(one: Screened) -> str:
    return f"row {one.row}" + (f", {one.name[:18]}" if one.name else "")


def predicted(one: Screened) -> str:
    """What is said of it, with how sure that is."""
    if not one.chances:
        return f"{one.score:.3g}" + (f" ± {one.std:.2g}" if one.std is not None else "")
    return f"{one.prediction} ({max(one.chances):.2f})"


def _answer(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _draw(axis: Any, smiles: str, title: str) -> None:
    axis.imshow(picture(smiles, 360, 220))
    axis.set_title(title, fontsize=8)


def _row(one: Screened) -> list[str]:
    near = f"{one.nearest[0].smiles}, {one.nearest[0].similarity:.2f}" if one.nearest else ""
    return [str(one.row), one.smiles, predicted(one), near]
