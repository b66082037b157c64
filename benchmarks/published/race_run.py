"""One method of a race, in a process of its own (``python -m benchmarks.published.race_run RECIPE SEED FOLDER``).

Prints one JSON line: peak memory of an outer step. The training's log in FOLDER has the rest.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.published.races import RACERS
from benchmarks.speed import memory_probe
from innerloop.recipes.recipe import Recipe
from innerloop.recipes.run_recipe import assemble_recipe, train_recipe
from innerloop.training.config import make_config
from innerloop.training.placement import settle

_WARM_UP, _MEASURED = 2, 3


def step_memory(recipe: Recipe, seed: int) -> float | None:
    """Peak memory of an outer step of the recipe beyond what stays between steps, MiB; None where it cannot be read.

    Of a learner of its own, before any training: what training leaves behind in the process would hide it.
    """
    if memory_probe.readable() is not None:
        return None
    learner, family = assemble_recipe(recipe, seed)
    config = make_config({**recipe.training, "seed": seed})
    settle(learner, config)
    batches = family.train.batches(config.num_tasks or learner.outer.num_tasks, seed=seed)

    def steps(count: int) -> None:
        for _ in range(count):
            learner.backward(next(batches))

    steps(_WARM_UP)
    return memory_probe.peak_mib(lambda: steps(_MEASURED))


def main(name: str, seed: int, folder: Path) -> None:
    """Measure the memory, then train in ``folder``."""
    recipe = RACERS[name]
    peak = step_memory(recipe, seed)
    train_recipe(recipe, folder, seed=seed, quiet=True, force=True)
    print(json.dumps({"peak_mib": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
