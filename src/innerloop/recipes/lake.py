"""Lake's 20-way one-shot runs."""

from __future__ import annotations

from typing import Any

from innerloop.recipes.recipe import Recipe


def recipes() -> list[Recipe]:
    return [
        Recipe(
            name="lake-hausdorff",
            summary="Lake's 20-way one-shot runs, Modified Hausdorff distance: 38.8 % error proves the harness.",
            source="Lake et al. 2015, Science 350 (published)",
            runner="innerloop.recipes.lake:run_hausdorff",
        )
    ]


def run_hausdorff() -> list[dict[str, Any]]:
    """The error of the Modified Hausdorff baseline on the official runs, in percent."""
    from innerloop.evaluation.intervals import mean_ci95
    from innerloop.tasks.lake_one_shot import modified_hausdorff_error

    found = modified_hausdorff_error()
    _, ci95 = mean_ci95([100 * error for error in found.per_run])
    return [
        {
            "metric": "error % (20-way one-shot)",
            "value": 100 * found.error,
            "ci95": ci95,
            "published": "38.8",
            "num_tasks": found.trials,
            "transductive": False,
        }
    ]
