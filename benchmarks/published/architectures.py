"""Pictures of architecture search: ``python -m benchmarks.published.architectures [CELL]``.

With a cell's text, that cell. Without, the searches on NAS-Bench-201 are run and their regret is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from innerloop.models.cells import read_cell
from innerloop.recipes.nas201_transfer import curves
from innerloop.storage import write_atomically

PICTURE, CELL = "nas201.png", "cell.png"
_SHOWN = {
    "transfer": "with 50 known of each other data set",
    "sources alone": "these alone, nothing learned",
    "gp": "Gaussian process, cold",
    "evolution, 3 alive": "evolution",
    "random": "random",
}


def plot(found: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> None:
    """A panel a data set: points of error above the best after each evaluation, with 95 % intervals over draws."""
    from innerloop.report import style

    figure = style.new_figure(11.0, 4.2)
    looks = style.assign(_SHOWN)
    handles = []
    for axes, (target, sets) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        handles = []
        for name, look in looks.items():
            own = sets[name]
            half = 1.96 * own.std(0, ddof=1) / np.sqrt(len(own))
            at, mean = list(range(1, own.shape[1] + 1)), own.mean(0).tolist()
            handles.append(style.line_with_band(axes, at, mean, half.tolist(), look, positive=True, markersize=5))
        style.log_axis(axes)
        style.dress(axes, "networks tried", "points of error above the best" if target == next(iter(found)) else "")
        axes.set_title(target, fontsize=10)
    style.legend_below(figure, handles, list(_SHOWN.values()))
    write_atomically(path, style.png(figure))


def draw_cell(cell: str, path: Path) -> None:
    """The nodes of a cell from left to right, and an arc with its operation for each edge."""
    from matplotlib.patches import FancyArrowPatch

    from innerloop.report import style

    edges = [(name, source, node) for node, own in enumerate(read_cell(cell), 1) for name, source in own]
    nodes = max(node for _, _, node in edges)
    figure = style.new_figure(9.0, 3.0)
    axes = figure.subplots()
    looks = style.assign(sorted({name for name, _, _ in edges}))
    for name, source, node in edges:
        far = node - source - 1
        bend = 0.0 if far == 0 else 0.3 if far % 2 else -0.36
        colour = looks[name].colour
        ends = {"posA": (source + 0.13, 0.0), "posB": (node - 0.13, 0.0), "arrowstyle": "-|>", "mutation_scale": 16}
        axes.add_patch(FancyArrowPatch(**ends, connectionstyle=f"arc3,rad={bend}", color=colour, linewidth=2))
        height = -bend * (node - source) / 2
        axes.text(
            (source + node) / 2, height + 0.05, name, ha="center", va="bottom", color=colour, fontsize=style.SMALL
        )
    for node in range(nodes + 1):
        said = "input" if node == 0 else str(node)
        box = {"boxstyle": "circle,pad=0.35", "facecolor": "white", "edgecolor": style.INK}
        axes.text(node, 0.0, said, ha="center", va="center", fontsize=style.SMALL, color=style.INK, bbox=box)
    axes.set_xlim(-0.3, nodes + 0.3)
    axes.set_ylim(-0.5, 0.6)
    axes.set_aspect("equal")
    axes.axis("off")
    write_atomically(path, style.png(figure))


if __name__ == "__main__":
    docs = Path(__file__).resolve().parents[2] / "docs"
    if len(sys.argv) > 1:
        draw_cell(sys.argv[1], docs / CELL)
    else:
        plot(curves(), docs / PICTURE)
