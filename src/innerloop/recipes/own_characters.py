"""Omniglot unpacked to a plain folder: the same small learner, trained on the folder's path alone and on the built-in problem."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.recipes.recipe import Recipe

_TRAINING_TASKS = {"train_ways": 20, "train_queries": 5}
_NETWORK = {"filters": 32, "outputs": None, "downsample": "max_pool"}
_STEPS = 150
_NUM_TASKS = 300


def recipes() -> list[Recipe]:
    return [
        Recipe(
            name="own-characters",
            summary="Omniglot as a plain folder, its path alone, beside the built-in problem: protonet, 5-way 1-shot, 150 steps.",
            source="this project; no published number. The folder's pictures are made smaller with another filter",
            runner="innerloop.recipes.own_characters:run",
        )
    ]


def run(steps: int = _STEPS, num_tasks: int = _NUM_TASKS) -> list[dict[str, Any]]:
    """The accuracy on the same test tasks, from the folder, from the built-in problem, and the difference."""
    from innerloop.data.omniglot_archive import load_omniglot
    from innerloop.evaluation.evaluate import mean_ci95
    from innerloop.recipes.scratch_folder import scratch_folder
    from innerloop.tasks.pictures.omniglot import omniglot_splits

    splits = omniglot_splits(load_omniglot(), "background", valid_alphabets=5, valid_characters=100, seed=0)
    built_in = accuracies("omniglot", steps, num_tasks)
    with scratch_folder() as folder:
        unpack(folder / "characters", splits)
        own = accuracies(str(folder / "characters"), steps, num_tasks)
    values = {
        "the folder's path": own,
        "the built-in problem": built_in,
        "folder minus built-in, the same tasks": [a - b for a, b in zip(own, built_in, strict=True)],
    }
    rows = []
    for name, per_task in values.items():
        mean, ci95 = mean_ci95([100 * value for value in per_task])
        rows.append(
            {
                "metric": f"accuracy % 5-way 1-shot: {name}",
                "value": round(mean, 2),
                "ci95": round(ci95, 2),
                "num_tasks": num_tasks,
                "transductive": False,
                "split": "background",
                "steps": steps,
            }
        )
    return rows


def unpack(folder: Path, splits: Mapping[str, Sequence[int]]) -> None:
    """The drawings of these characters as they are in the archives: ``folder/SPLIT/Alphabet/characterNN/NAME.png``."""
    from innerloop.data.omniglot_archive import CONTENTS, list_drawings, omniglot_folder
    from innerloop.data.zip_reading import open_zip

    split_of = {number: split for split, numbers in splits.items() for number in numbers}
    number = 0
    for contents in CONTENTS.values():
        path = omniglot_folder() / contents.file
        with open_zip(path, "omniglot") as archive:
            for (alphabet, character), drawings in list_drawings(archive, path, contents).items():
                if number in split_of:
                    place = folder / split_of[number] / alphabet / character
                    place.mkdir(parents=True)
                    for drawing in drawings:
                        (place / Path(drawing).name).write_bytes(archive.read(drawing))
                number += 1


def accuracies(tasks: str, steps: int, num_tasks: int) -> list[float]:
    """Of each test task, after so many steps of the one setting on this problem."""
    import torch

    from innerloop.assemble import assemble
    from innerloop.evaluation.evaluate import evaluate
    from innerloop.training.fit import fit

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner, family = assemble(
            "protonet", tasks, "conv4", task_options=_TRAINING_TASKS, model_options=_NETWORK, recommended=False
        )
        done = fit(
            learner,
            family,
            out=Path(folder) / "run",
            quiet=True,
            steps=steps,
            validate_every=0,
            threads=1,
            strategy="looped",
            schedule="constant",
        )
    if done.stopped == "interrupted":
        raise KeyboardInterrupt
    with torch.no_grad():
        return list(evaluate(learner, family.test, num_tasks=num_tasks, baselines=False).per_task)
