"""Example image tasks: support images with their labels, query images with their predictions; and a sheet of untouched tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from innerloop.core import Task, TaskDistribution
from innerloop.errors import ShapeError
from innerloop.report import style
from innerloop.report.page import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACROSS = 10  # images in a row
_LETTERS = 8  # of a name below an image
# Inches: an image with its gap, the image, the line above a row, a whole row, the figure's margin.
_CELL, _IMAGE, _TITLE, _ROW, _EDGE = 1.0, 0.9, 0.3, 1.68, 0.08


@dataclasses.dataclass(frozen=True)
class ImageTask:
    """One task of pictures, with what one or several learners said.

    Attributes:
        support_images: (support, height, width) or (support, height, width, 3), any range of values.
        support_labels: names of their classes.
        query_images: as the support's.
        query_labels: the true names.
        predictions: label of a learner to the names it predicted, one a query image.
        legend: what labels stand for, where names are too long to stand below a picture.
    """

    support_images: Float[np.ndarray, "support height width *rgb"]
    support_labels: Sequence[str]
    query_images: Float[np.ndarray, "query height width *rgb"]
    query_labels: Sequence[str]
    predictions: Mapping[str, Sequence[str]]
    legend: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _channels_last(x: Any) -> np.ndarray:
    """(examples, channels, height, width) with the channels last, grey images without that axis."""
    images = np.asarray(x, dtype=float)
    return images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1)


def class_names(tasks: Task, i: int, distribution: Any) -> dict[int, str]:
    """The names of one task's labels, where the tasks know their classes and these have names; else the labels."""
    named = getattr(distribution, "class_name", None)
    ways = tasks.class_ids.shape[1] if tasks.class_ids is not None else int(tasks.support.y[i].max()) + 1
    if tasks.class_ids is None or named is None:
        return {label: str(label) for label in range(ways)}
    return {label: str(named(int(tasks.class_ids[i, label]))) for label in range(ways)}


def predicted_images(
    learners: Mapping[str, Any], tasks: Task, *, queries: int = _ACROSS, distribution: Any = None
) -> list[ImageTask]:
    """Batched tasks of images with every learner's predictions, ready for `image_figure`.

    Args:
        learners: label to MetaLearner.
        tasks: batched tasks with inputs (tasks, examples, channels, height, width), channels 1 or 3.
        queries: query images shown a task, spread evenly over the query set so that every class has its turn.
        distribution: knows the names of classes; None: their labels are shown.
    """
    said = {label: learner.predict_queries(tasks).argmax(-1).cpu().numpy() for label, learner in learners.items()}
    found = []
    for i in range(tasks.support.x.shape[0]):
        support, query = (_channels_last(side.x[i].detach().cpu()) for side in (tasks.support, tasks.query))
        s_labels, q_labels = (side.y[i].cpu().numpy() for side in (tasks.support, tasks.query))
        s_keep, q_keep = (
            np.flatnonzero(side.mask[i].cpu().numpy()) if side.mask is not None else np.arange(side.y.shape[1])
            for side in (tasks.support, tasks.query)
        )
        s_keep = s_keep[np.argsort(s_labels[s_keep], kind="stable")]
        q_keep = q_keep[_spread(len(q_keep), queries)]
        names, legend = class_names(tasks, i, distribution), {}
        if max(map(len, names.values())) > _LETTERS:
            legend = {str(label): name for label, name in names.items()}
            names = {label: str(label) for label in names}
        found.append(
            ImageTask(
                support[s_keep],
                [names[int(k)] for k in s_labels[s_keep]],
                query[q_keep],
                [names[int(k)] for k in q_labels[q_keep]],
                {label: [names.get(int(k), str(k)) for k in labels[i][q_keep]] for label, labels in said.items()},
                legend,
            )
        )
    return found


def _label(axes: Any, text: str, colour: str) -> None:
    axes.set_xlabel(style.plain(text), fontsize=style.SMALL, color=colour, labelpad=4, linespacing=1.05)


def _image(axes: Any, image: np.ndarray, colour: str | None) -> None:
    if image.ndim == 3:
        low, high = float(image.min()), float(image.max())
        image = (image - low) / (high - low) if high > low else np.zeros_like(image)
    axes.imshow(image, cmap="gray", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(colour or "#999999")
        spine.set_linewidth(3.0 if colour else 0.8)


def image_figure(task: ImageTask) -> Figure:
    """A row of support images with their labels, then for every learner a row of query images with its
    predictions.

    A right prediction has a blue frame and a tick, a wrong one a vermilion frame, a cross and the true label:
    the sign says it without the colour. At most ten images a row; where there are more in the support set, it is said.
    """
    across = min(_ACROSS, max(len(task.query_labels), len(task.support_labels)))
    rows = 1 + len(task.predictions)
    width, height = max(5.6, across * _CELL + 2 * _EDGE), rows * _ROW + _EDGE
    figure = style.new_figure(width, height, arranged=False)

    def place(row: int, column: int) -> Any:
        """Axes for one image; placed by hand, so that images of all rows stand below each other."""
        left, top = _EDGE + column * _CELL, _EDGE + row * _ROW + _TITLE
        box = (left / width, 1 - (top + _IMAGE) / height, _IMAGE / width, _IMAGE / height)
        return figure.add_axes(box)

    def heading(row: int, text: str) -> None:
        figure.text(
            _EDGE / width,
            1 - (_EDGE + row * _ROW + _TITLE / 2 - 0.02) / height,
            style.plain(text),
            fontsize=style.FONT,
            color=style.INK,
            fontweight="bold",
            va="center",
        )

    shown = min(across, len(task.support_labels))
    sample = f", {shown} of {len(task.support_labels)}" if shown < len(task.support_labels) else ""
    heading(0, f"support: what the learner adapts to{sample}")
    for column, i in enumerate(_spread(len(task.support_labels), across)):
        axes = place(0, column)
        _image(axes, task.support_images[i], None)
        _label(axes, style.shortened(task.support_labels[i], 10), style.INK)
    for row, (learner, said) in enumerate(task.predictions.items(), start=1):
        right = sum(p == t for p, t in zip(said, task.query_labels, strict=True))
        heading(row, f"{learner}: predictions for the query images, {right} of {len(said)} right")
        for column, i in enumerate(_spread(len(task.query_labels), across)):
            correct = said[i] == task.query_labels[i]
            colour = style.RIGHT if correct else style.WRONG
            axes = place(row, column)
            _image(axes, task.query_images[i], colour)
            told = f"{style.shortened(said[i], _LETTERS)} {'✓' if correct else '✗'}"
            _label(axes, told if correct else f"{told}\n(is {style.shortened(task.query_labels[i], 6)})", colour)
    return figure


def _spread(count: int, room: int) -> list[int]:
    """Up to ``room`` indices spread evenly over ``count``."""
    return list(range(count)) if count <= room else [round(i) for i in np.linspace(0, count - 1, room)]


def task_pictures(learners: Mapping[str, Any], distribution: TaskDistribution) -> list[Picture]:
    """The first three tasks of a distribution with what learners in memory say, a picture each with its caption."""
    shown = predicted_images(learners, distribution.at(0, 0, 3), distribution=distribution)
    return [
        Picture(
            f"task-{number}",
            image_figure(task),
            f"Example task {number}. Above, the support images with their labels; below, query images with the predicted "
            "label: ✓ and a blue frame is right, ✗ and an orange frame is wrong, with the true label in brackets."
            + "".join(f" {label}: {name}." for label, name in task.legend.items()),
            wide=True,
        )
        for number, task in enumerate(shown, start=1)
    ]


# ---- a few tasks before anything is trained: support above, some queries below, a column a class -----------------
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
        known = class_names(batch, i, tasks)
        names = [style.plain(style.shortened(known[label], 14)) for label in labels]
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
