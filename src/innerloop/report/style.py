"""How every picture looks: colours that colour-blind readers tell apart, sizes, no global state.

Figures are made through matplotlib's object interface, so a report never touches the pyplot state (or the
backend) of the program that asks for it. The colours are those of Okabe and Ito (2008, "Color universal
design"), in an order that keeps neighbours apart in grey print as well; every colour comes with its own
marker and dash pattern.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from innerloop.report.numbers import is_fraction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONT = 12.0  # points, in figures about six inches wide: still 10 pixels on a phone
SMALL = 10.5
DPI = 150
INK = "#222222"
GRID = "#d9d9d9"
RIGHT = "#0072B2"  # blue and vermilion, not green and red: these two stay apart for colour-blind readers
WRONG = "#D55E00"


class LineStyle(NamedTuple):
    """How one method is drawn, in every picture of a report."""

    colour: str
    marker: str
    dashes: str | tuple[int, tuple[int, ...]]

    @property
    def line(self) -> dict[str, Any]:
        """As arguments of `Axes.plot`."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.dashes}


_STYLES = (
    LineStyle("#0072B2", "o", "-"),
    LineStyle("#D55E00", "s", "--"),
    LineStyle("#009E73", "^", "-."),
    LineStyle("#CC79A7", "D", ":"),
    LineStyle("#E69F00", "v", (0, (5, 1, 1, 1, 1, 1))),
    LineStyle("#56B4E9", "P", (0, (7, 2))),
    LineStyle("#333333", "X", (0, (1, 1))),
    LineStyle("#8C6D31", "h", (0, (4, 1, 1, 1))),
)


def assign(labels: Iterable[str]) -> dict[str, LineStyle]:
    """A style for each label, in their order. Make it once for a report and hand it to every picture."""
    return {label: _STYLES[i % len(_STYLES)] for i, label in enumerate(dict.fromkeys(labels))}


def pick(styles: Mapping[str, LineStyle] | None, labels: Sequence[str]) -> dict[str, LineStyle]:
    """The given styles, with fresh ones for labels they lack."""
    known = dict(styles or {})
    return assign([*known, *labels]) | known


def plain(text: object) -> str:
    """Text drawn letter by letter: no formula between dollar signs, no label hidden by its underscore."""
    drawn = str(text).replace("$", r"\$")
    return " " + drawn if drawn.startswith("_") else drawn


def shortened(text: str, letters: int) -> str:
    """The end of a text that is longer: names of classes begin alike, with their alphabet or folder."""
    return text if len(text) <= letters else "…" + text[1 - letters :]


def new_figure(width: float, height: float, *, arranged: bool = True) -> Figure:
    """An empty figure, in inches; ``arranged`` makes room for labels, else axes stay where they are put."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained" if arranged else None, facecolor="white")


def dress(axes: Axes, x_label: str, y_label: str, title: str = "") -> None:
    """Labels, a pale grid and no frame on the sides that carry no numbers."""
    axes.set_xlabel(x_label, fontsize=FONT, color=INK)
    axes.set_ylabel(y_label, fontsize=FONT, color=INK)
    if title:
        axes.set_title(plain(title), fontsize=FONT, color=INK, loc="left", fontweight="bold")
    axes.tick_params(which="both", labelsize=SMALL, colors=INK)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend under the axes, where it cannot cover data."""
    widest = max((len(label) for label in labels), default=1)
    room = int(figure.get_figwidth() * 11)  # letters in a line of the legend
    fitting = max(1, min(len(labels), room // (widest + 7)))
    figure.legend(
        list(handles),
        [plain(label) for label in labels],
        loc="outside lower center",
        ncols=fitting,
        fontsize=SMALL,
        frameon=False,
        handlelength=2.6,
    )


def wants_log(values: Iterable[float], decades: float = 1.3) -> bool:
    """Whether positive values span a factor of 20 or more: a linear axis would flatten the small ones."""
    finite = np.asarray([v for v in values if np.isfinite(v)], dtype=float)
    if finite.size == 0 or finite.min() <= 0:
        return False
    return bool(np.log10(finite.max() / finite.min()) >= decades)


def log_axis(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    """A logarithmic axis with plain numbers (0.1, 1, 10) where they are short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(**{f"{which}scale": "log"})
    axis, (low, high) = (axes.yaxis, axes.get_ylim()) if which == "y" else (axes.xaxis, axes.get_xlim())
    span = np.log10(high / low)
    # Below two decades the powers of ten alone would leave one or two numbers on the axis, or none.
    steps = (1.0, 2.0, 3.0, 4.0, 6.0) if span < 0.9 else (1.0, 2.0, 5.0) if span < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


def whole_steps(axes: Axes) -> None:
    """Only whole numbers on the x axis: there is no half step."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def percent_axis(axes: Axes) -> None:
    """Fractions shown as per cent."""
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, symbol=""))


def value_axis(axes: Axes, metric: str, values: Iterable[float]) -> None:
    """The y axis of a metric: per cent for a fraction, logarithmic where positive values span decades."""
    if is_fraction(metric):
        percent_axis(axes)
    elif wants_log(values):
        log_axis(axes)


def line_with_band(
    axes: Axes,
    x: Sequence[int] | np.ndarray,
    mean: Sequence[float],
    ci95: Sequence[float],
    look: LineStyle,
    *,
    positive: bool,
    **marks: Any,
) -> Any:
    """Means with the band of their intervals, without what is not finite; the line, for the legend.

    Args:
        axes: to draw on.
        x, mean: (points,) each.
        ci95: (points,) half-widths; empty: no band.
        look: colour, marker and dashes.
        positive: a logarithmic axis has no place for an interval that reaches zero: it ends at a twentieth of the mean.
        **marks: of the markers.
    """
    half = np.nan_to_num(np.asarray(ci95 or 0.0, dtype=float), posinf=0.0)
    middle = np.where(np.isfinite(mean), mean, np.nan)
    low = np.maximum(middle - half, middle / 20 if positive else -np.inf)
    axes.fill_between(x, low, middle + half, color=look.colour, alpha=0.18, linewidth=0)
    (line,) = axes.plot(x, middle, linewidth=2, **look.line, **marks)
    return line


def png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    buffer = io.BytesIO()
    # matplotlib writes its version into the file; without it the same data give the same bytes on every
    # machine.
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
