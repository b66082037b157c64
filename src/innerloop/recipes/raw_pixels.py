"""Nearest neighbour on raw pixels: what a table of 5-way 1-shot accuracies starts from."""

from __future__ import annotations

from typing import Any

from innerloop.recipes.recipe import Recipe

_TASKS: dict[str, dict[str, Any]] = {
    "omniglot": {"ways": 5, "shots": 1, "queries": 5, "split": "random", "rotations": True},
    "glyphs": {"ways": 5, "shots": 1, "queries": 5},
}
_NUM_TASKS = 600


def recipes() -> list[Recipe]:
    return [
        Recipe(
            name=f"{problem}-5w1s-pixels",
            summary=f"{problem} 5-way 1-shot, nearest neighbour on raw pixels: nothing is learned.",
            source="this project; no published number",
            task_options=options,
            runner=f"innerloop.recipes.raw_pixels:run_{problem}",
        )
        for problem, options in _TASKS.items()
    ]


def run_omniglot() -> list[dict[str, Any]]:
    return _rows("omniglot")


def run_glyphs() -> list[dict[str, Any]]:
    return _rows("glyphs")


def _rows(problem: str) -> list[dict[str, Any]]:
    """Each query takes the label of the support picture at the smallest squared distance; the interval is over tasks."""
    import torch

    from innerloop import tasks
    from innerloop.evaluation.evaluate import in_batches, mean_ci95

    found: list[float] = []
    for batch in in_batches(getattr(tasks, problem)(**_TASKS[problem]).test, _NUM_TASKS):
        nearest = torch.cdist(batch.query.x.flatten(2), batch.support.x.flatten(2)).argmin(-1)
        right = batch.support.y.gather(1, nearest) == batch.query.y
        found += (100 * right.double().mean(1)).tolist()
    mean, ci95 = mean_ci95(found)
    return [
        {
            "metric": "accuracy % of raw-pixel nearest neighbour, 1-shot",
            "value": round(mean, 4),
            "ci95": round(ci95, 4),
            "num_tasks": len(found),
            "transductive": False,
        }
    ]
