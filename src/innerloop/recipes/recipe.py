"""A recipe: a published setting, written down so that its name is enough to run it again. Imports nothing heavy."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One line of numbers on the test split.

    Attributes:
        steps: inner steps after which to report; None: the learner's ``eval_steps``.
        tasks: options of the problem that differ from training's family (other shots, say).
        num_tasks: how many test tasks; None: each distinct one, in several draws (`evaluate`).
        published: the paper's numbers, one for each of ``steps`` (or ``instances``), as printed; "" where there is none.
        statistic: "mean", or "median" over tasks (its interval is left empty), or "share": in percent, of the tasks whose number
            is above ``above`` or not finite.
        above: of "share".
        transductive: None: the method's protocol.
        instances: accuracy at these presentations of a class along a sequence, instead (`evaluation.instances`).
        metric: of `evaluate`; None: the problem's first.
        named: what the number's name says besides, where two lines of a recipe would have the same.
        seed: of the test tasks; another than 0 where settings were changed after a number on the tasks of seed 0 was seen.
    """

    steps: tuple[int, ...] | None = None
    tasks: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_tasks: int | None = 600
    published: tuple[str, ...] = ()
    statistic: Literal["mean", "median", "share"] = "mean"
    above: float = 0.0
    transductive: bool | None = None
    instances: tuple[int, ...] | None = None
    metric: str | None = None
    named: str = ""
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A training before the recipe's own, on tasks that are easier to learn from or cheaper.

    Attributes:
        algorithm_options, task_options, training: what differs from the recipe's.
    """

    algorithm_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    task_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A setting: method, problem, model, training, evaluation.

    Attributes:
        name: what `innerloop run` takes; "-cpu" marks the variant that one CPU core can finish.
        summary: one sentence.
        source: paper or code that the setting comes from, and how sure its numbers are.
        algorithm, tasks, model: registry names; model None: the problem's default.
        training: fields of `training.config.TrainConfig`.
        stages: of training before it, one after another; each goes on from where the last ended.
        published: the paper's number for rows that come from ``runner`` or ``beside``.
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
    stages: tuple[Stage, ...] = ()
    evaluations: tuple[Evaluation, ...] = (Evaluation(),)
    published: str = ""
    runner: str | None = None
    beside: str | None = None


def vary(recipe: Recipe, *, evaluation: Mapping[str, Any] | None = None, **changes: Any) -> Recipe:
    """The recipe with some fields changed.

    Args:
        recipe: where all else comes from.
        evaluation: fields that change in each of its evaluations.
        **changes: fields given anew; of the method's and the problem's options and of the training, only what changes. A
            net's options are given whole.
    """
    for field in ("algorithm_options", "task_options", "training"):
        changes[field] = {**getattr(recipe, field), **changes.get(field, {})}
    evaluations = tuple(dataclasses.replace(own, **(evaluation or {})) for own in recipe.evaluations)
    return dataclasses.replace(recipe, evaluations=evaluations, **changes)


def with_cpu(recipe: Recipe, *, note: str = "Cut for one CPU core.", **changes: Any) -> list[Recipe]:
    """The full recipe and its "-cpu" variant, on one thread; ``changes`` as those of `vary`."""
    changes["training"] = {"threads": 1, **changes.get("training", {})}
    return [recipe, vary(recipe, name=f"{recipe.name}-cpu", summary=f"{recipe.summary} {note}", **changes)]


def quarter(recipe: Recipe, *, name: str) -> Recipe:
    """The recipe with a quarter of its steps: short enough for several seeds."""
    training = {key: recipe.training[key] // 4 for key in ("steps", "validate_every") if key in recipe.training}
    summary = f"{recipe.summary} A quarter of the steps, for several seeds."
    return vary(recipe, name=name, summary=summary, training=training)


# What a recipe says about numbers, and not how they come about: mending a quotation makes no number of ours older.
_TOLD = {"name", "summary", "source", "published", "named"}


def definition(recipe: Recipe) -> dict[str, Any]:
    """All that decides a recipe's numbers, as JSON values; of a function that it names, its file's code.

    Fields at their defaults are left out, so that a field that is new changes no older recipe.
    """
    found = _said(recipe)
    for field in ("runner", "beside"):
        if field in found:
            found[f"{field} code"] = _code(found[field].partition(":")[0])
    return found


def recipe_hash(recipe: Recipe) -> str:
    """Twelve hexadecimal digits that change when the recipe's `definition` does."""
    text = json.dumps(definition(recipe), sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _said(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {}
        for field in dataclasses.fields(value):
            own = getattr(value, field.name)
            factory = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            if field.name not in _TOLD and _said(own) != _said(default):
                found[field.name] = _said(own)
        return found
    if isinstance(value, Mapping):
        return {str(key): _said(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_said(own) for own in value]
    return value


@functools.cache
def _code(module: str) -> str:
    """A hash of a module's lines without comments, docstrings and empty lines; the same on every version of Python."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, f"no file of {module}"
    text = Path(spec.origin).read_text(encoding="utf-8")
    lines = dict(enumerate(text.splitlines(), 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            told = node.body[0]
            for number in range(told.lineno, (told.end_lineno or told.lineno) + 1):
                del lines[number]
    kept = [line.rstrip() for line in lines.values() if line.strip() and not line.lstrip().startswith("#")]
    return hashlib.blake2b("\n".join(kept).encode(), digest_size=6).hexdigest()
