"""Pictures of a stream: what is reached on every part after every part, and on all so far along the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from innerloop.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from innerloop.lifelong.stream_report import StreamReport

_MOST_NUMBERS = 12  # parts whose cells have room for a number


def stream_figure(report: StreamReport) -> Figure:
    """To the left the matrix, a row after each part and a column for each; to the right the mean over parts so far."""
    figure = style.new_figure(10.5, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    matrix = report.matrix[1:]
    worst_first = "viridis" if report.higher_is_better else "viridis_r"
    limits = {"vmin": 0, "vmax": 1} if report.metric == "accuracy" else {}
    image = left.imshow(matrix, cmap=worst_first, aspect="auto", interpolation="nearest", **limits)
    if matrix.size <= _MOST_NUMBERS**2:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                text = f"{100 * value:.0f}" if report.metric == "accuracy" else f"{value:.2g}"
                share = image.norm(value) if report.higher_is_better else 1 - image.norm(value)
                left.text(
                    column, row, text, ha="center", va="center", fontsize=7, color="black" if share > 0.6 else "white"
                )
    left.set_xlabel("judged on part", fontsize=style.FONT, color=style.INK)
    left.set_ylabel("after part", fontsize=style.FONT, color=style.INK)
    for axis, count in ((left.xaxis, matrix.shape[1]), (left.yaxis, matrix.shape[0])):
        step = max(1, -(-count // 10))
        axis.set_ticks(range(0, count, step), [str(i + 1) for i in range(0, count, step)])
    left.tick_params(labelsize=style.SMALL, colors=style.INK)
    left.set_title(style.plain(f"{report.metric}: {report.method} on {report.stream}"), fontsize=style.FONT, loc="left")
    figure.colorbar(image, ax=left, shrink=0.9)
    after = range(1, len(matrix) + 1)
    lines = [("on all parts so far", report.so_far())]
    if report.order == "stream" and matrix.shape[0] == matrix.shape[1]:
        lines += [("on the part just learned", np.diag(matrix)), ("on the first part", matrix[:, 0])]
    looks = style.assign([name for name, _ in lines])
    handles = [right.plot(after, values, **looks[name].line)[0] for name, values in lines]
    style.dress(right, "parts learned", report.metric)
    style.whole_steps(right)
    style.value_axis(right, report.metric, np.concatenate([values for _, values in lines]).tolist())
    if report.metric == "accuracy":
        right.set_ylim(0, 1)
        right.set_ylabel("accuracy, %", fontsize=style.FONT, color=style.INK)
    style.legend_below(figure, handles, [name for name, _ in lines])
    return figure
