"""A picture of a few tasks of images, before anything is trained: support above, some queries below, a column a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from innerloop.core import TaskDistribution
from innerloop.errors import ShapeError
from innerloop.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WAYS, _ROWS = 8, 3  # columns, and rows a side, that are shown at most
_FEW = 3  # classes of tasks that are drawn beside each other
_GAP = 0.08  # of a picture's height


def task_sheet(tasks: TaskDistribution, *, num_tasks: int = 3, seed: int = 0) -> Figure:
    """The first tasks of a split as pictures.

    Args:
        tasks: of images (1 or 3 channels, height, width) with class labels.
        num_tasks: how many: one below the other, or beside each other where they have few classes.
        seed: which.

    Raises:
        ShapeError: tasks of something else than images.
    """
    shape = tuple(tasks.input_shape)
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ShapeError(f"a picture of tasks expected inputs (1 or 3, height, width), got {shape}; leave out --out")
    batch = tasks.at(seed, 0, num_tasks)
    sheets = [_sheet(batch, i, shape) for i in range(num_tasks)]
    height, width = (max(image.shape[side] for image, _ in sheets) for side in (0, 1))
    most = max(len(labels) for _, labels in sheets)
    columns = num_tasks if most <= _FEW else 1
    rows = num_tasks // columns
    inches = max(1.1 * most, 2.7 if columns > 1 else 4.0)  # of one task
    figure = style.new_figure(columns * inches, rows * (inches * height / width + 0.75))
    for i, (image, labels) in enumerate(sheets):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(image, interpolation="nearest")
        step = width / len(labels)
        names = []
        for label in labels:
            named = getattr(tasks, "class_name", None)
            known = batch.class_ids is not None and named is not None
            name = (
                str(named(int(batch.class_ids[i, label])))
                if known and named and batch.class_ids is not None
                else str(label)
            )
            names.append(style.plain(name if len(name) <= 14 else "…" + name[-13:]))
        axes.set_xticks([(k + 0.5) * step for k in range(len(labels))], names, fontsize=style.SMALL)
        axes.set_yticks([])
        axes.set_title(
            style.plain(f"task {i + 1}: support above," + ("\n" if columns > 1 else " ") + "queries below the line"),
            fontsize=style.FONT,
            loc="left",
        )
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def _sheet(batch: Any, i: int, shape: tuple[int, ...]) -> tuple[Float[np.ndarray, "rows columns 3"], list[int]]:
    _channels, height, width = shape
    gap = max(1, round(_GAP * height))
    sides = []
    labels = sorted({int(v) for v in batch.support.y[i].tolist()})[:_WAYS]
    for side in (batch.support, batch.query):
        x, y = side.x[i].detach().cpu().double().numpy(), side.y[i].cpu().numpy()
        found = [np.flatnonzero(y == label)[:_ROWS] for label in labels]
        sides.append((x, found, max(map(len, found))))
    rows = sum(count for _, _, count in sides)
    sheet = np.ones((rows * (height + gap) + 2 * gap, len(labels) * (width + gap) - gap, 3))
    top = 0
    for number, (x, found, count) in enumerate(sides):
        for column, members in enumerate(found):
            for row, k in enumerate(members):
                low, left = top + row * (height + gap), column * (width + gap)
                sheet[low : low + height, left : left + width] = np.clip(x[k], 0, 1).transpose(1, 2, 0)
        top += count * (height + gap)
        if number == 0:
            sheet[top : top + max(1, gap // 2)] = 0.2
            top += 2 * gap
    return sheet, labels
