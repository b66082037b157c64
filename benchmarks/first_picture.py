"""The picture at the head of the README: a sine before and after adapting, and five new characters from one drawing of each.

    python -m benchmarks.first_picture    # trains MAML on the sine for a minute; the characters are `builtin:characters`

Nothing in it is chosen by hand: the sine is the one of nine test tasks whose values have the median spread, the characters are
the first test task of seed 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import innerloop as il
from innerloop import keys as random_keys
from innerloop.report import style
from innerloop.report.sine_plots import middle_task

FILE = Path(__file__).resolve().parents[1] / "docs" / "first.png"
_TRUE, _BEFORE, _ONE, _TEN = "#222222", "#8a8a8a", "#7fb2e5", "#1f6fb4"


def sine() -> tuple[Any, Any, list[Any]]:
    """Of a test task: its support set, x, the curve itself, and MAML's after 0, 1 and 10 steps."""
    tasks = il.tasks.sinusoid()
    torch.manual_seed(0)
    learner = il.maml(il.models.mlp(1, 1), inner_lr=0.01, inner_steps=5, eval_steps=10)
    il.fit(learner, tasks, steps=6000, seed=0, validate_every=0)
    which = middle_task(tasks.test, seed=0)
    task = tasks.test.at(seed=0, step=0, num_tasks=1, start=which)
    x = torch.linspace(-5, 5, 200)[:, None]
    support = il.Examples(task.support.x[0], task.support.y[0])
    curves = [learner.adapt(support.x, support.y, steps=steps).predict(x)[:, 0].detach() for steps in (0, 1, 10)]
    truth = tasks.test.curve(random_keys.task_keys(0, "test", 0, which, 1), x.T)[0]
    return support, x[:, 0], [truth, *curves]


def characters() -> tuple[Any, Any, Any, Any, Any]:
    """One drawing of each of five characters that it never saw, five others of them, and what it takes these for."""
    learner: Any = il.load("builtin:characters")
    tasks = il.tasks.glyphs(ways=5, shots=1, queries=1)
    task = tasks.test.at(0, 0, 1)
    fitted = learner.adapt(task.support.x[0], task.support.y[0])
    share = torch.as_tensor(fitted.predict_proba(task.query.x[0]))
    return task.support.x[0], task.support.y[0], task.query.x[0], task.query.y[0], share


def main() -> None:
    """Draw it."""
    figure = style.new_figure(11.0, 3.6)
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.15, 1.0))
    left, right = halves
    support, x, (truth, before, one, ten) = sine()
    axes = left.subplots()
    axes.plot(x, truth, color=_TRUE, linewidth=6, alpha=0.18, label="the curve")
    axes.plot(x, before, "--", color=_BEFORE, linewidth=1.8, label="before")
    axes.plot(x, one, color=_ONE, linewidth=2, label="after 1 step")
    axes.plot(x, ten, color=_TEN, linewidth=2.8, label="after 10 steps")
    axes.plot(
        support.x[:, 0],
        support.y[:, 0],
        "o",
        color=style.WRONG,
        markeredgecolor="white",
        markersize=8,
        label="ten points",
    )
    style.dress(axes, "x", "y", "A curve it never saw, from ten points")
    axes.legend(fontsize=style.SMALL, frameon=False, loc="best")
    shown, names, asked, meant, share = characters()
    grid = right.subplots(2, 5)
    right.suptitle(
        "Characters it never saw, from one drawing of each", fontsize=style.FONT, fontweight="bold", x=0.02, ha="left"
    )
    order = torch.argsort(names)
    for c in range(5):
        grid[0, c].imshow(1 - np.asarray(shown[order[c]][0]), cmap="gray", vmin=0, vmax=1)
        grid[0, c].set_title("ABCDE"[c], fontsize=style.FONT)
        place = int(torch.nonzero(meant == names[order[c]])[0, 0])
        guess = int(share[place].argmax())
        grid[1, c].imshow(1 - np.asarray(asked[place][0]), cmap="gray", vmin=0, vmax=1)
        right_one = guess == int(meant[place])
        grid[1, c].set_xlabel(
            f"{'ABCDE'[guess]}, {float(share[place, guess]):.0%}",
            fontsize=style.FONT,
            color=_TEN if right_one else style.WRONG,
        )
    for axes in grid.reshape(-1):
        axes.set_xticks([])
        axes.set_yticks([])
    grid[0, 0].set_ylabel("shown", fontsize=style.FONT)
    grid[1, 0].set_ylabel("asked", fontsize=style.FONT)
    FILE.write_bytes(style.png(figure))
    print(FILE)


if __name__ == "__main__":
    main()
