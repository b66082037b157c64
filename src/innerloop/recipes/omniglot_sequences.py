"""Omniglot with learned ways of adapting: a network that reads the support set, and an LSTM that takes the inner steps."""

from __future__ import annotations

import dataclasses

from innerloop.recipes.recipe import Evaluation, Recipe, with_cpu

_SNAIL = {(5, 1): "99.07±0.16", (5, 5): "99.78±0.09", (20, 1): "97.64±0.30", (20, 5): "99.36±0.18"}
_SMALL = {"filters": 32, "keys": (32, 64, 64), "values": (32, 64, 64)}


def _tasks(ways: int, shots: int, queries: int) -> dict:
    """1,200 characters with rotations as classes to train on and, a hundred of them, to validate on."""
    return {
        "split": "random", "ways": ways, "shots": shots, "queries": shots, "train_queries": queries, "rotations": True,
    }  # fmt: skip


def _snail(ways: int, shots: int) -> Recipe:
    return Recipe(
        name=f"omniglot-{ways}w{shots}s-snail",
        summary=f"Omniglot {ways}-way {shots}-shot, SNAIL.",
        source="Mishra et al. 2018, arXiv:1707.03141, table 1 (published); outer steps and rate are ours",
        algorithm="snail",
        tasks="omniglot",
        algorithm_options={"max_examples": ways * shots},
        task_options=_tasks(ways, shots, 1),
        model="conv4",
        model_options={"outputs": None, "downsample": "max_pool"},
        training={"steps": 40_000, "num_tasks": 32, "outer_lr": 1e-3, "schedule": "cosine", "valid_tasks": 300},
        evaluations=(Evaluation(num_tasks=600, published=(_SNAIL[ways, shots],)),),
    )


def _lstm() -> Recipe:
    return Recipe(
        name="omniglot-5w1s-lstm-metalearner",
        summary="Omniglot 5-way 1-shot, LSTM meta-learner.",
        source="this project; Ravi and Larochelle 2017 have no Omniglot number; inner steps, clip and rate of the authors' code",
        algorithm="lstm_metalearner",
        tasks="omniglot",
        algorithm_options={"inner_steps": 12},
        task_options=_tasks(5, 1, 5),
        model="conv4",
        model_options={"filters": 32, "downsample": "max_pool"},
        training={
            "steps": 50_000,
            "num_tasks": 1,
            "outer_lr": 1e-3,
            "clip_norm": 0.25,
            "recompute": True,
            "valid_tasks": 100,
        },
    )


def recipes() -> list[Recipe]:
    """The full settings, and one of each method for a few minutes on one core, with smaller networks."""
    found = [_snail(ways, shots) for ways, shots in _SNAIL]
    short = {"schedule": "cosine", "valid_tasks": 50}
    snail, cheap = with_cpu(
        found[0], num_tasks=8, steps=600, outer_lr=3e-3, strategy="vmapped", validate_every=200, **short
    )
    cheap = dataclasses.replace(
        cheap,
        algorithm_options={**snail.algorithm_options, **_SMALL},
        task_options=_tasks(5, 1, 2),
        model_options={**snail.model_options, "filters": 32},
    )
    lstm, quick = with_cpu(
        _lstm(),
        num_tasks=4,
        steps=300,
        outer_lr=3e-3,
        rule_lr=2e-2,
        clip_norm=1.0,
        recompute=False,
        validate_every=100,
        **short,
    )
    quick = dataclasses.replace(
        quick, algorithm_options={"inner_steps": 5}, task_options=_tasks(5, 1, 1), model_options={"filters": 16}
    )
    return [*found, cheap, lstm, quick]
