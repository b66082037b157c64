"""The picture of searches on NAS-Bench-201: ``python -m benchmarks.published.architectures`` runs them and draws it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from innerloop.recipes.nas201_transfer import curves
from innerloop.storage import write_atomically

PICTURE = "nas201.png"
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


if __name__ == "__main__":
    plot(curves(), Path(__file__).resolve().parents[2] / "docs" / PICTURE)
