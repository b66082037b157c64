"""Errors on Lake's official one-shot runs, as rows: apart from the recipes, whose hashes have this file's code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from innerloop.core import Examples, Task, TaskDistribution
from innerloop.data.lake_runs import load_lake_runs
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.tasks.pictures.lake import OneShotError, modified_hausdorff_error, one_shot_error


def run_hausdorff() -> list[dict[str, Any]]:
    """The error of the Modified Hausdorff baseline on the official runs, in percent."""
    return _rows(modified_hausdorff_error())


def on_the_runs(learner: MetaLearner, tasks: TaskDistribution) -> list[dict[str, Any]]:
    """The error of a trained learner on the official runs, in pictures of the size that it was trained on."""
    return _rows(error_of(learner, tasks.input_shape[-1]))


def error_of(learner: MetaLearner, size: int) -> OneShotError:
    """How often a learner takes a run's test picture for the wrong one of its 20 classes.

    Args:
        learner: of pictures (1, size, size) with ink 1, for 20 classes.
        size: height and width in pixels.

    Returns:
        The error; each test picture is judged beside the run's 20 training pictures alone.
    """

    def distance(test: Tensor, training: Tensor) -> Tensor:
        classes = torch.arange(len(training))
        support, query = (pictures[None, :, None].to(dtype) / 255 for pictures in (training, test))
        task = Task(support=Examples(support, classes[None]), query=Examples(query, torch.zeros(1, len(test)).long()))
        return -learner.predict_queries(task, learner.eval_steps, True)[0].cpu()

    dtype = next(learner.parameters()).dtype
    return one_shot_error(distance, load_lake_runs(size))


def _rows(found: OneShotError) -> list[dict[str, Any]]:
    """One row; its interval is over the 20 runs."""
    _, ci95 = mean_ci95([100 * error for error in found.per_run])
    return [
        {
            "metric": "error % (20-way one-shot)",
            "value": round(100 * found.error, 4),
            "ci95": round(ci95, 4),
            "num_tasks": found.trials,
            "transductive": False,
        }
    ]
