"""New examples of a score model as pictures: a sheet of them, and beside right, wrong and no support with the loss by level."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from innerloop.engine import take
from innerloop.errors import ShapeError
from innerloop.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP = 2  # pixels of paper between pictures, before they are made larger
_RATIOS = tuple(0.5 * i for i in range(-5, 8))  # ln(sigma / sigma_data) of the levels that are shown
_GREY = 0.93


def mosaic(
    pictures: Float[np.ndarray, "examples channels height width"], across: int, scale: int = 3
) -> UInt8[np.ndarray, ...]:
    """Pictures in rows of ``across``, (height, width) or (height, width, 3) bytes; grey ones as ink on paper.

    Raises:
        ShapeError: no pictures.
    """
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
        raise ShapeError(
            f"expected pictures (examples, 1 or 3 channels, height, width), got {pictures.shape}; give those"
        )
    number, channels, height, width = pictures.shape
    values = np.clip(pictures, 0, 1)
    values = 1 - values if channels == 1 else values
    rows = math.ceil(number / across)
    sheet = np.full((channels, rows * (height + _GAP) + _GAP, across * (width + _GAP) + _GAP), _GREY)
    for i, picture in enumerate(values):
        top, left = (i // across) * (height + _GAP) + _GAP, (i % across) * (width + _GAP) + _GAP
        sheet[:, top : top + height, left : left + width] = picture
    found = (255 * sheet).round().astype(np.uint8).repeat(scale, 1).repeat(scale, 2)
    return found[0] if channels == 1 else found.transpose(1, 2, 0)


def sheet_png(pictures: Float[Tensor, "examples channels height width"], across: int | None = None) -> bytes:
    """New pictures as a PNG file; ``across`` None: as many in a row as there are rows."""
    from PIL import Image

    across = math.ceil(math.sqrt(len(pictures))) if across is None else across
    buffer = io.BytesIO()
    Image.fromarray(mosaic(pictures.cpu().numpy(), across)).save(buffer, format="PNG")
    return buffer.getvalue()


def drawings_figure(
    learner: Any,
    tasks: Any,
    *,
    kinds: int = 6,
    made: int = 5,
    seed: int = 0,
    steps: int = 25,
    guidance: float = 0.0,
) -> Figure:
    """Kinds never seen: their support, new ones beside it, beside another kind's support, and beside none; the loss by level.

    Args:
        learner: a score model of pictures.
        tasks: one split, such as ``tasks.test``.
        kinds: rows.
        made: new pictures in each part of a row.
        seed: of the tasks and of the new pictures.
        steps, guidance: as of `FittedScore.sample`.
    """
    batch = tasks.at(seed, 0, kinds)
    each = [take(batch, i) for i in range(kinds)]
    fitted = [learner.adapt(task.support) for task in each]
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("few", "right", "wrong", "none")}
    losses: dict[str, list[Tensor]] = {name: [] for name in ("right", "wrong", "none")}
    spread = fitted[0].levels.sigma_data
    for i, own in enumerate(fitted):
        other = fitted[(i + 1) % kinds]
        options = {"seed": seed + i, "steps": steps}
        blank = own.unconditional().sample(made, **options)
        parts = (
            own.sample(made, guidance=guidance, **options),
            other.sample(made, guidance=guidance, **options),
            blank,
        )
        columns["few"].append(mosaic(own.support[:made].cpu().numpy(), made))
        for name, pictures in zip(losses, parts, strict=True):
            columns[name].append(mosaic(pictures.cpu().numpy(), made))
        for name, task, adapted in (("right", own, True), ("wrong", other, True), ("none", own, False)):
            levels = [task.loss_at(each[i].query, spread * math.exp(r), seed=seed, adapted=adapted) for r in _RATIOS]
            losses[name].append(torch.stack([level.mean() for level in levels]))
    figure = style.new_figure(11.0, 0.62 * kinds + 1.0)
    grid = figure.add_gridspec(1, 5, width_ratios=(1, 1, 1, 1, 1.35))
    titles = {"few": "shown", "right": "made from these", "wrong": "from the next kind's", "none": "from none"}
    for place, (name, title) in enumerate(titles.items()):
        axes = figure.add_subplot(grid[0, place])
        height = max(part.shape[0] for part in columns[name])
        width = max(part.shape[1] for part in columns[name])
        padded = [
            np.pad(
                p, ((0, height - p.shape[0]), (0, width - p.shape[1]), *[(0, 0)] * (p.ndim - 2)), constant_values=237
            )
            for p in columns[name]
        ]
        axes.imshow(np.concatenate(padded), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(title, fontsize=style.FONT, color=style.INK)
        axes.set_axis_off()
    axes = figure.add_subplot(grid[0, 4])
    looks = style.assign(losses)
    for name, values in losses.items():
        axes.plot([math.exp(r) for r in _RATIOS], torch.stack(values).mean(0).tolist(), label=name, **looks[name].line)
    axes.set_xscale("log")
    style.dress(axes, "noise / spread of the data", "denoising loss", "")
    axes.legend(fontsize=style.SMALL, frameon=False)
    return figure
