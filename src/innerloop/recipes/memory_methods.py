"""Omniglot with memory-augmented and meta networks, full and for one CPU core."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from innerloop.recipes.recipe import Evaluation, Recipe

_OMNIGLOT = {"split": "random", "ways": 5, "rotations": True}
_SANTORO = "Santoro et al. 2016, arXiv:1605.06065, table 1"
_RAW = {"hidden": (), "outputs": None}
_PAPER = {"steps": 100_000, "num_tasks": 16, "outer_lr": 1e-3, "valid_tasks": 300, "clip_norm": 10.0}
_ONE_CORE = {"threads": 1, "schedule": "cosine", "valid_tasks": 100, "clip_norm": 10.0}
# On one core: inputs of equal size and mean, a memory no larger than the sequence needs, and reading that starts out sharp.
_SHARP = {"sharpen": True, "memory_rows": 16, "units": 128}
_LEVEL = {"outputs": None, "hidden": (128,), "batch_norm": True, "activation": "tanh"}


def _cpu(recipe: Recipe, training: Mapping[str, Any], **changes: Any) -> list[Recipe]:
    """The recipe and its variant for one core, which has smaller networks too."""
    cheap = dataclasses.replace(
        recipe,
        name=f"{recipe.name}-cpu",
        training={**_ONE_CORE, "validate_every": max(1, training["steps"] // 4), **training},
        **{"summary": f"{recipe.summary} Smaller, for one CPU core.", **changes},
    )
    return [recipe, cheap]


def recipes() -> list[Recipe]:
    mann = Recipe(
        name="omniglot-5w1s-mann",
        summary="Omniglot 5-way 1-shot, mann without convolutions, trained on sequences of 50 pictures.",
        source=f"{_SANTORO}, second presentation, as reported by Finn et al. 2017, arXiv:1703.03400, table 1 (published)",
        algorithm="mann",
        tasks="omniglot",
        task_options={**_OMNIGLOT, "shots": 1, "queries": 1, "train_shots": 5, "train_queries": 5},
        model="mlp",
        model_options=_RAW,
        training=_PAPER,
        evaluations=(Evaluation(num_tasks=600, published=("82.8",)),),
    )
    instances = dataclasses.replace(
        mann,
        name="omniglot-5w-mann-instances",
        summary="Omniglot, accuracy at the 1st, 2nd, 5th and 10th presentation of 5 classes, mann on sequences of 50 pictures.",
        source=f"{_SANTORO} (2nd and 5th published, 1st and 10th recalled, check); pictures are 28x28 here, 20x20 there",
        task_options={**_OMNIGLOT, "shots": 5, "queries": 5},
        evaluations=(Evaluation(instances=(1, 2, 5, 10), num_tasks=600, published=("36.4", "82.8", "94.9", "98.1")),),
    )
    metanet = Recipe(
        name="omniglot-5w1s-metanet",
        summary="Omniglot 5-way 1-shot, metanet.",
        source="Munkhdalai and Yu 2017, arXiv:1703.00837, as reported by Mishra et al. 2018, arXiv:1707.03141 (published); outer "
        "loop is ours",
        algorithm="metanet",
        tasks="omniglot",
        task_options={**_OMNIGLOT, "shots": 1, "queries": 5, "train_queries": 10},
        model="conv4",
        model_options={"outputs": None, "downsample": "max_pool", "norm": "none"},
        training={"steps": 60_000, "num_tasks": 1, "outer_lr": 1e-3, "clip_norm": 10.0, "valid_tasks": 300},
        evaluations=(Evaluation(num_tasks=600, published=("98.95",)),),
    )
    return [
        *_cpu(
            mann,
            {"steps": 2_000, "num_tasks": 12, "outer_lr": 1e-3},
            summary="Omniglot 5-way 1-shot, mann behind convolutions, about five minutes on one core.",
            # Many queries a support set, each its next moment, tell it sooner what was bound; convolutions what is alike.
            algorithm_options={**_SHARP, "whole_sequence": False},
            task_options={**_OMNIGLOT, "shots": 1, "queries": 5},
            model="conv4",
            model_options={"outputs": None, "filters": 32},
        ),
        *_cpu(
            instances,
            {"steps": 1_000, "num_tasks": 16, "outer_lr": 2e-3},
            algorithm_options={**_SHARP, "memory_rows": 64},
            model_options=_LEVEL,
        ),
        *_cpu(
            metanet,
            {"steps": 800, "num_tasks": 4, "outer_lr": 2e-3},
            algorithm_options={"groups": 1, "adapt": ["body.9.weight"]},
            task_options={**_OMNIGLOT, "shots": 1, "queries": 5, "train_queries": 3},
            model_options={**metanet.model_options, "filters": 32},
        ),
    ]
