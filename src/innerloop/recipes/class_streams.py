"""Streams of Omniglot's characters: OML and ANML, judged after 50, 100 and 600 classes at rates chosen on validation streams."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from innerloop.recipes.recipe import Recipe

if TYPE_CHECKING:
    from innerloop.core import TaskDistribution

_CLASSES = (50, 100, 600)
_STREAMS = 10
_SEED = 1  # of the test streams: those of seed 0 were judged before the settings were changed
# Accuracy after 600 classes, theirs with pictures of 84x84, larger networks and rates chosen on the test characters.
_PUBLISHED = {
    "oml": "Beaulieu et al. 2020, arXiv:2002.09571: 18.2 after 600 classes; method of Javed and White 2019, arXiv:1905.12588",
    "anml": "Beaulieu et al. 2020, arXiv:2002.09571: 63.8 after 600 classes",
}
_STEPS = {"60min": 40_000, "20min": 15_000, "5min": 5_000}


def recipes() -> list[Recipe]:
    """Each method for about an hour of one core, and for five minutes."""
    return [_recipe(method, budget) for method in _PUBLISHED for budget in _STEPS]


def _recipe(method: str, budget: str) -> Recipe:
    return Recipe(
        name=f"omniglot-stream-{method}-{budget}",
        summary=f"Characters one after another, each seen once: {method}, about {budget.replace('min', ' minutes')} on one core.",
        source=_PUBLISHED[method],
        algorithm=method,
        tasks="omniglot_stream",
        model="conv4",
        model_options={"outputs": None, "norm": "none", "spatial": "flatten", "halvings": 3, "last_relu": False},
        training={
            "steps": _STEPS[budget],
            "num_tasks": 1,
            "outer_lr": 1e-3,
            "schedule": "cosine",
            "validate_every": 0,
            "threads": 1,
        },
        evaluations=(),
        beside="innerloop.recipes.class_streams:beside_streams",
    )


def beside_streams(learner: Any, test: TaskDistribution) -> list[dict[str, Any]]:
    """Accuracy at the end of streams; the same pictures shuffled, the nearest class mean, and the body before training."""
    import torch

    from innerloop import methods
    from innerloop.evaluation.streams import evaluate_stream

    torch.manual_seed(0)
    untrained = methods.make(learner.name, test.default_model(), dict(learner.options))
    trained, fresh = (
        evaluate_stream(one, test, classes=_CLASSES, streams=_STREAMS, seed=_SEED) for one in (learner, untrained)
    )
    rows: list[dict[str, Any]] = []
    for number, score in trained.classes.items():
        found = {
            f"accuracy % after {number} classes": (100 * score.mean, 100 * score.ci95),
            f"accuracy % after {number} classes, on what was shown": (100 * score.learned, math.nan),
            f"accuracy % after {number} classes, shuffled": (100 * score.shuffled, math.nan),
            f"accuracy % after {number} classes, nearest class mean of the same features": (
                100 * score.class_means,
                math.nan,
            ),
            f"accuracy % after {number} classes, untrained features": (
                100 * fresh.classes[number].mean,
                100 * fresh.classes[number].ci95,
            ),
        }
        for metric, (value, ci95) in found.items():
            interval = "" if math.isnan(ci95) else round(ci95, 4)
            rows.append(
                {
                    "metric": metric,
                    "value": round(value, 4),
                    "ci95": interval,
                    "num_tasks": _STREAMS,
                    "transductive": False,
                }
            )
    return rows
