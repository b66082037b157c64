"""A recipe: a published setting, written down so that its name is enough to run it again. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One line of numbers on the test split.

    Attributes:
        steps: inner steps after which to report; None: the learner's ``eval_steps``.
        tasks: options of the problem that differ from training's family (other shots, say).
        num_tasks: how many test tasks.
        published: the paper's numbers, one for each of ``steps`` (or ``instances``), as printed; "" where there is none.
        statistic: "mean", or "median" over tasks (its interval is left empty).
        transductive: None: the method's protocol.
        instances: accuracy at these presentations of a class along a sequence, instead (`evaluation.instances`).
        metric: of `evaluate`; None: the problem's first.
    """

    steps: tuple[int, ...] | None = None
    tasks: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_tasks: int = 600
    published: tuple[str, ...] = ()
    statistic: Literal["mean", "median"] = "mean"
    transductive: bool | None = None
    instances: tuple[int, ...] | None = None
    metric: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A setting: method, problem, model, training, evaluation.

    Attributes:
        name: what `innerloop run` takes; "-cpu" marks the variant that one CPU core can finish.
        summary: one sentence.
        source: paper or code that the setting comes from, and how sure its numbers are.
        algorithm, tasks, model: registry names; model None: the problem's default.
        training: fields of `training.config.TrainConfig`.
        runner: "module:function" for a recipe that trains nothing.
        beside: "module:function" called with the trained learner and the problem's test split; its rows come after the others'.
    """

    name: str
    summary: str
    source: str = ""
    algorithm: str = ""
    tasks: str = ""
    algorithm_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    task_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: str | None = None
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluations: tuple[Evaluation, ...] = (Evaluation(),)
    runner: str | None = None
    beside: str | None = None


def with_cpu(recipe: Recipe, **training: Any) -> list[Recipe]:
    """The full recipe and its "-cpu" variant, which differs in ``training`` only."""
    cheap = dataclasses.replace(
        recipe,
        name=f"{recipe.name}-cpu",
        summary=f"{recipe.summary} Cut for one CPU core.",
        training={**recipe.training, "threads": 1, **training},
    )
    return [recipe, cheap]
