"""Own photographs and texts behind a frozen network that others have trained: what meta-training adds to its features.

From files alone: the zip of pictures, and the intents written to a table. Data of the tests of this project: 80 classes of
CIFAR-100 (Krizhevsky 2009), 52, 12 and 16 of them to train on, validate and test; CLINC150 (Larson et al. 2019,
arXiv:1909.02027; CC BY 3.0), tested on the 30 intents of travel and utility, validated on those of banking and meta. Both
networks have seen some of these classes in their own training. Steps and rate were chosen on validation tasks.
"""

from __future__ import annotations

import csv
import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from innerloop.recipes.recipe import Recipe

SHOTS = (1, 5)
_STEPS, _NUM_TASKS = 100, 600
_OURS = "protonet on an adapter"
_DOMAINS = {"test": ("travel", "utility"), "valid": ("banking", "meta")}


def recipes() -> list[Recipe]:
    source = "this project; class means of the frozen features are the row to beat"
    return [
        Recipe(
            name="photos-embedded",
            summary="Photographs of 16 unseen classes behind EfficientNet-Lite0, 5-way, 1 and 5 shots, 100 steps.",
            source=source,
            runner="innerloop.recipes.trained_networks:photographs",
        ),
        Recipe(
            name="intents-embedded",
            summary="Short texts of 30 unseen intents behind MiniLM, 5-way, 1 and 5 shots, 100 steps.",
            source=source,
            runner="innerloop.recipes.trained_networks:intents",
        ),
    ]


def photographs() -> list[dict[str, Any]]:
    """Rows of the photographs."""
    return [row for shots in SHOTS for row in rows(_there("photos", "photos80.zip"), {"embedding": "photos"}, shots)]


def intents() -> list[dict[str, Any]]:
    """Rows of the texts."""
    from innerloop.recipes.scratch_folder import scratch_folder

    with scratch_folder() as folder:
        table = written(folder / "intents.csv")
        columns = {"text": "text", "target": "intent", "split_by": "part"}
        return [row for shots in SHOTS for row in rows(table, columns, shots)]


def _there(folder: str, name: str) -> Path:
    from innerloop.data.locations import data_folder
    from innerloop.errors import InputError

    path = data_folder() / folder / name
    if not path.is_file():
        raise InputError(
            f"expected {folder}/{name} in the folder of data sets, got nothing at {str(path)!r}; put it there"
        )
    return path


def written(path: Path) -> Path:
    """The intents as a table of text, intent and part."""
    found = json.loads(lzma.decompress(_there("intents", "clinc150_data_full.json.xz").read_bytes()))
    domains = json.loads(_there("intents", "clinc150_domains.json").read_text(encoding="utf-8"))
    part = {intent: split for split, names in _DOMAINS.items() for name in names for intent in domains[name]}
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["text", "intent", "part"])
        lines.writerows(
            [text, intent, part.get(intent, "train")] for own in ("train", "val", "test") for text, intent in found[own]
        )
    return path


def rows(path: Path, options: Mapping[str, Any], shots: int) -> list[dict[str, Any]]:
    """The learner and the simplest predictors on the same test tasks, and its lead over class means, task by task."""
    from innerloop.assemble import assemble
    from innerloop.evaluation.evaluate import evaluate
    from innerloop.training.fit import fit

    learner, family = assemble("protonet", str(path), task_options={**options, "ways": 5, "shots": shots})
    done = fit(
        learner,
        family,
        steps=_STEPS,
        outer_lr=3e-4,
        schedule="cosine",
        validate_every=_STEPS // 4,
        valid_tasks=200,
        threads=1,
        quiet=True,
    )
    report = evaluate(learner, family.test, num_tasks=_NUM_TASKS)
    means = report.baselines["class_mean"]
    found = {
        _OURS: (report.mean, report.ci95),
        **{f"{name.replace('_', ' ')} of features": (own.mean, own.ci95) for name, own in report.baselines.items()},
        f"{_OURS} less class mean, task by task": (means.lead, means.lead_ci95),
    }
    return [
        {
            "metric": f"accuracy % 5-way {shots}-shot: {name}",
            "value": round(100 * value, 2),
            "ci95": round(100 * ci95, 2),
            "num_tasks": _NUM_TASKS,
            "transductive": False,
            "steps": done.steps if _OURS in name else 0,
        }
        for name, (value, ci95) in found.items()
    ]
