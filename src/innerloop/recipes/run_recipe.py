"""Trains and evaluates a recipe, and writes result rows."""

from __future__ import annotations

import csv
import io
import statistics
import time
from pathlib import Path
from typing import Any

from innerloop.assemble import assemble, problem
from innerloop.core import Report
from innerloop.errors import ConfigError, InputError, nearest
from innerloop.evaluation.evaluate import card, evaluate
from innerloop.evaluation.instances import InstanceReport, by_instance
from innerloop.evaluation.intervals import mean_ci95
from innerloop.meta_learner import MetaLearner
from innerloop.provenance import commit, environment
from innerloop.recipes import RECIPES
from innerloop.recipes.recipe import Evaluation, Recipe
from innerloop.registry import Entry, load
from innerloop.training.fit import fit

# One header for all results files.
HEADER: tuple[str, ...] = (
    "recipe", "metric", "value", "ci95", "published", "num_tasks", "transductive",
    "seed", "steps", "wall_seconds", "device", "threads", "commit", "command",
)  # fmt: skip
_TEST_SEED = 0


def run_recipe(
    name: str,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    quiet: bool = False,
    force: bool = False,
    results: str | Path | None = None,
) -> dict[str, Any]:
    """Train what the recipe says, evaluate it on the test split, and put the published numbers beside ours.

    Args:
        name: a key of `recipes.RECIPES`.
        seed: of weights and training tasks; the test tasks are the same for all seeds.
        out: run directory; None: runs/NAME-seedN.
        quiet: no progress.
        force: overwrite an earlier run there.
        results: a CSV file to append the rows to.

    Returns:
        ``recipe, source, seed, steps, out`` and ``rows``: one a number, with the keys of the results header.

    Raises:
        ConfigError: an unknown recipe.
        InputError: data that is not there, or a results file of another kind.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}: {nearest(name, RECIPES)}")
    recipe = RECIPES[name]
    command = f"innerloop run {name} --seed {seed}"
    started = time.perf_counter()
    folder: Path | None = None
    steps = 0
    device = "cpu"
    if recipe.runner is not None:
        found = load("recipe", {name: Entry(recipe.runner, recipe.summary)}, name)()
    else:
        folder = Path(out) if out is not None else Path("runs") / f"{name}-seed{seed}"
        learner, family = assemble(
            recipe.algorithm,
            recipe.tasks,
            recipe.model,
            algorithm_options=recipe.algorithm_options,
            task_options=recipe.task_options,
            model_options=recipe.model_options,
            seed=seed,
            recommended=False,
        )
        settings = {**recipe.training, "seed": seed}
        done = fit(learner, family, out=folder, force=force, quiet=quiet, command=command, **settings)
        if done.stopped == "interrupted":
            raise KeyboardInterrupt
        steps, device = done.steps, str(learner.device)
        found = []
        for evaluation in recipe.evaluations:
            found += numbers(learner, recipe, evaluation, folder)
        if recipe.beside is not None:
            found += load("recipe", {name: Entry(recipe.beside, recipe.summary)}, name)(learner, family.test)
    shared = {
        "recipe": name,
        "seed": seed,
        "steps": steps,
        "wall_seconds": round(time.perf_counter() - started, 1),
        "device": device,
        "threads": environment()["threads"],
        "commit": commit(),
        "command": command,
    }
    rows = [{key: {**shared, **row}.get(key, "") for key in HEADER} for row in found]
    if results is not None:
        append_rows(Path(results), rows)
    return {
        "recipe": name,
        "source": recipe.source,
        "seed": seed,
        "steps": steps,
        "out": None if folder is None else str(folder),
        "rows": rows,
    }


def numbers(learner: MetaLearner, recipe: Recipe, evaluation: Evaluation, folder: Path) -> list[dict[str, Any]]:
    """The rows of one evaluation; the first mean becomes the run's evaluation card."""
    tasks = problem(recipe.tasks, {**recipe.task_options, **evaluation.tasks}).test
    if evaluation.instances is not None:
        return _instances(
            by_instance(
                learner, tasks, instances=evaluation.instances, num_tasks=evaluation.num_tasks, seed=_TEST_SEED
            ),
            evaluation,
        )
    wanted = evaluation.steps or (learner.eval_steps,)
    rows = []
    for i, steps in enumerate(wanted):
        report = evaluate(
            learner,
            tasks,
            num_tasks=evaluation.num_tasks,
            seed=_TEST_SEED,
            steps=steps,
            transductive=evaluation.transductive,
            allow_diverged=True,
            metric=evaluation.metric,
        )
        if i == len(wanted) - 1 and evaluation is recipe.evaluations[0]:
            card(report, folder)
        rows.append(_row(report, steps, evaluation, i, getattr(tasks, "shots", None)))
    return rows


def _instances(report: InstanceReport, evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "metric": f"accuracy % at instance {number}",
            "value": round(100 * report.mean[i], 4),
            "ci95": round(100 * report.ci95[i], 4),
            "published": evaluation.published[i] if evaluation.published else "",
            "num_tasks": report.num_tasks,
            "transductive": False,
        }
        for i, number in enumerate(report.instances)
    ]


def _row(report: Report, steps: int, evaluation: Evaluation, index: int, shots: int | None) -> dict[str, Any]:
    # Accuracy is printed in percent, as papers do.
    scale = 100.0 if report.metric == "accuracy" else 1.0
    values = [scale * v for v in report.per_task]
    mean, ci95 = mean_ci95(values)
    median = evaluation.statistic == "median"
    name = "accuracy %" if report.metric == "accuracy" else report.metric
    return {
        "metric": f"{'median ' if median else ''}{name} after {steps} steps" + (f", {shots}-shot" if shots else ""),
        "value": round(statistics.median(values) if median else mean, 4),
        "ci95": "" if median else round(ci95, 4),
        "published": evaluation.published[index] if evaluation.published else "",
        "num_tasks": report.num_tasks,
        "transductive": report.transductive,
    }


def append_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append rows to a results CSV, made with the common header where it is not there yet."""
    new = not path.exists() or path.stat().st_size == 0
    if not new and path.read_text(encoding="utf-8").splitlines()[0] != ",".join(HEADER):
        raise InputError(f"{path} expected the header {','.join(HEADER)}, got another; choose a new file")
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, HEADER, lineterminator="\n")
    if new:
        writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(buffer.getvalue())
