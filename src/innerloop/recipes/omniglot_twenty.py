"""Omniglot 5-way 1-shot, twenty minutes on one core: what each method reaches there, beside its published number."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from innerloop.recipes import (
    implicit,
    memory_methods,
    omniglot,
    omniglot_heads,
    omniglot_metric,
    omniglot_sequences,
    omniglot_short,
)
from innerloop.recipes.recipe import Recipe

_FIVE_QUERIES = {"train_queries": 5}


class _Longer(NamedTuple):
    """How a method's short recipe becomes one of twenty minutes.

    Attributes:
        of: the short recipe's ending; "" starts from the full recipe, with half its filters.
        steps: outer steps.
        training, tasks, options: what else differs.
    """

    of: str
    steps: int
    training: Mapping[str, Any] = {}
    tasks: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}


# A compiler would take minutes of the twenty.
_VMAPPED, _LOOPED = {"strategy": "vmapped"}, {"strategy": "looped"}
_METHODS: dict[str, _Longer] = {
    "fomaml": _Longer("5min", 8_000, _VMAPPED, _FIVE_QUERIES),
    "reptile": _Longer("", 4_000, _VMAPPED, options={"inner_lr": 1e-3, "eval_steps": 50}),
    "reptile-transductive": _Longer("", 4_000, _VMAPPED),
    "anil": _Longer("5min", 9_000, _VMAPPED, _FIVE_QUERIES),
    "boil": _Longer("5min", 7_500, _VMAPPED, _FIVE_QUERIES),
    "meta-sgd": _Longer("5min", 12_000, _VMAPPED, _FIVE_QUERIES),
    "mamlpp": _Longer("5min", 3_800, _VMAPPED, _FIVE_QUERIES),
    "imaml": _Longer("cpu", 3_800, _VMAPPED, _FIVE_QUERIES),
    "matching": _Longer("cpu", 9_000, _LOOPED),
    "relation": _Longer("cpu", 4_200, _LOOPED),
    "siamese": _Longer("cpu", 8_500, _LOOPED),
    "r2d2": _Longer("cpu", 9_000, _LOOPED),
    "proto-maml": _Longer("cpu", 2_700, _LOOPED),
    "snail": _Longer("cpu", 4_800, _VMAPPED),
    "metanet": _Longer("cpu", 4_500, _LOOPED),
    "mann": _Longer("cpu", 6_200, _VMAPPED),
    "lstm-metalearner": _Longer("cpu", 3_300, _LOOPED),
}


def _longer(label: str, change: _Longer, known: Mapping[str, Recipe]) -> Recipe:
    full = known[f"omniglot-5w1s-{label}"]
    short = known[f"{full.name}-{change.of}"] if change.of else _small(full)
    # Judged with the full recipe's queries: where they inform each other, five a class are another question than one.
    queries = full.task_options["queries"]
    tasks = {} if queries == short.task_options["queries"] else {"queries": queries}
    evaluation = dataclasses.replace(
        short.evaluations[0], num_tasks=600, tasks=tasks, published=full.evaluations[0].published
    )
    return dataclasses.replace(
        short,
        name=f"{full.name}-20min",
        summary=f"Omniglot 5-way 1-shot, {label}, twenty minutes on one core.",
        source=f"{full.source}; this budget's settings are ours",
        algorithm_options={**short.algorithm_options, **change.options},
        task_options={**short.task_options, **change.tasks},
        training={
            **short.training,
            "steps": change.steps,
            "valid_tasks": 100,
            "validate_every": change.steps // 5,
            **change.training,
        },
        evaluations=(evaluation,),
    )


def _small(full: Recipe) -> Recipe:
    return dataclasses.replace(
        full, model_options={**full.model_options, "filters": 32}, training={**full.training, "threads": 1}
    )


def recipes() -> list[Recipe]:
    families: Iterable[Any] = (
        omniglot, omniglot_heads, omniglot_metric, omniglot_sequences, omniglot_short, implicit, memory_methods,
    )  # fmt: skip
    known = {recipe.name: recipe for family in families for recipe in family.recipes()}
    return [_longer(label, change, known) for label, change in _METHODS.items()]
