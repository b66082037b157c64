"""Trains and evaluates a recipe, and writes result rows."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from innerloop.assemble import assemble, problem
from innerloop.core import Report, TaskFamily
from innerloop.errors import ConfigError, nearest
from innerloop.evaluation.evaluate import card, evaluate, mean_ci95
from innerloop.evaluation.instances import InstanceReport, by_instance
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.provenance import commit, environment
from innerloop.recipes import RECIPES
from innerloop.recipes.recipe import Evaluation, Recipe, recipe_hash, vary
from innerloop.recipes.result_rows import HEADER, append_rows, protocol, read_rows
from innerloop.registry import Entry, load
from innerloop.training.checkpoint import describe
from innerloop.training.config import make_config
from innerloop.training.fit import fit
from innerloop.training.placement import going_on, resolved
from innerloop.training.run_config import read_run_config


def run_recipe(
    name: str,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    quiet: bool = False,
    force: bool = False,
    resume: bool = False,
    device: str | None = None,
    minutes: float | None = None,
    results: str | Path | None = None,
) -> dict[str, Any]:
    """Train what the recipe says, evaluate it on the test split, and put the published numbers beside ours.

    Args:
        name: a key of `recipes.RECIPES`.
        seed: of weights and training tasks; the test tasks are the same for all seeds.
        out: run directory; None: runs/NAME-seedN.
        quiet: no progress.
        force: overwrite an earlier run there.
        resume: go on with the run that is there; its seconds count all sittings.
        device: as for `fit`; None: the recipe's, or that of the run that goes on.
        minutes: of wall-clock time for the training, schedule included; None: no limit.
        results: a CSV file to append the rows to.

    Returns:
        ``recipe, source, seed, steps, out`` and ``rows``: one a number, with the keys of the results header.

    Raises:
        ConfigError: an unknown recipe, a setting that a recipe without training has no use for, or a run there that is
            another than the recipe's.
        InputError: data that is not there, or a results file of another kind.
    """
    recipe = known_recipe(name)
    command = f"innerloop run {name} --seed {seed}" + (f" --device {device}" if device else "")
    command += f" --minutes {minutes:g}" if minutes is not None else ""
    started = time.perf_counter()
    earlier = 0.0
    folder: Path | None = None
    steps, place = 0, "cpu"
    if results is not None and Path(results).is_file() and Path(results).stat().st_size:
        read_rows(Path(results))  # what is no results file is told before the work, not after it
    if recipe.runner is not None:
        if resume or device is not None or minutes is not None or seed:
            raise ConfigError(
                f"expected a recipe that trains for --resume, --device, --minutes and --seed, got {name}, which has none of "
                "them; leave them out"
            )
        found = load("recipe", {name: Entry(recipe.runner, recipe.summary)}, name)()
    else:
        folder = Path(out) if out is not None else Path("runs") / f"{name}-seed{seed}"
        trained = train_recipe(
            recipe,
            folder,
            seed=seed,
            quiet=quiet,
            force=force,
            resume=resume,
            device=device,
            minutes=minutes,
            command=command,
        )
        learner, steps, place, earlier = trained.learner, trained.steps, str(trained.learner.device), trained.earlier
        found = []
        for evaluation in recipe.evaluations:
            found += [{**protocol(recipe, evaluation), **row} for row in numbers(learner, recipe, evaluation, folder)]
        if recipe.beside is not None:
            found += load("recipe", {name: Entry(recipe.beside, recipe.summary)}, name)(learner, trained.family.test)
    machine = environment()
    shared = {
        **protocol(recipe),
        "recipe": name,
        "published": recipe.published,
        "seed": seed,
        "steps": steps,
        "wall_seconds": round(time.perf_counter() - started + earlier, 1),
        "device": place,
        "threads": machine["threads"],
        "pillow": machine["pillow"],
        "commit": commit(),
        "recipe_hash": recipe_hash(recipe),
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


def known_recipe(name: str) -> Recipe:
    """The recipe of this name; ConfigError where there is none."""
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}: {nearest(name, RECIPES)}")
    return RECIPES[name]


def assemble_recipe(recipe: Recipe, seed: int) -> tuple[MetaLearner, TaskFamily]:
    """The learner and the problem of a recipe, before training."""
    return assemble(
        recipe.algorithm,
        recipe.tasks,
        recipe.model,
        algorithm_options=recipe.algorithm_options,
        task_options=recipe.task_options,
        model_options=recipe.model_options,
        seed=seed,
        recommended=False,
    )


class Trained(NamedTuple):
    """A recipe's training, done.

    Attributes:
        learner: with its best validated weights.
        family: the problem.
        steps: outer steps.
        earlier: seconds of earlier sittings.
    """

    learner: MetaLearner
    family: TaskFamily
    steps: int
    earlier: float


def train_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    seed: int = 0,
    quiet: bool = False,
    force: bool = False,
    resume: bool = False,
    device: str | None = None,
    minutes: float | None = None,
    command: str = "",
) -> Trained:
    """Train as a recipe says, in a run directory; arguments as those of `run_recipe`.

    Its stages have directories of their own beside it, named for their numbers; minutes are shared among all in proportion.
    """
    changed = ({f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)} for stage in recipe.stages)
    parts = [*(vary(recipe, stages=(), **changes) for changes in changed), recipe]
    learner, family = assemble_recipe(parts[0], seed)
    allowed: list[float] = [part.training.get("minutes", math.nan) for part in parts]
    total = sum(allowed)
    steps, earlier = 0, 0.0
    for number, part in enumerate(parts, 1):
        place = folder if part is recipe else folder.with_name(f"{folder.name}-stage-{number}")
        if number > 1:
            trained = learner
            learner, family = assemble_recipe(part, seed)
            learner.load_state_dict(trained.state_dict())
            learner.outer_step = trained.outer_step
            learner.carry |= {name: value for name, value in trained.carry.items() if name in learner.carry}
        settings = {**part.training, "seed": seed, **({"device": device} if device else {})}
        if minutes is not None and not math.isnan(total):
            settings["minutes"] = minutes * allowed[number - 1] / total
        elif minutes is not None and part is recipe:
            settings["minutes"] = minutes
        # Of a run that was stopped in an early stage, the later ones are still to be begun.
        goes_on = resume and (number == 1 or place.is_dir())
        if goes_on:
            where, moved = going_on(str(read_run_config(place)["training"].get("device", "cpu")))
            settings = {"device": where, **settings} if device is None else settings
            _expect_same(part, place, learner, describe(learner, family, make_config(settings)), device)
            if moved and not quiet:
                print(f"note: {moved}", file=sys.stderr, flush=True)
        started = time.perf_counter()
        done = fit(learner, family, out=place, resume=goes_on, force=force, quiet=quiet, command=command, **settings)
        if done.stopped == "interrupted":
            raise KeyboardInterrupt
        steps += done.steps
        earlier += max(0.0, done.wall_seconds - (time.perf_counter() - started)) if goes_on else 0.0
    return Trained(learner, family, steps, earlier)


def _expect_same(recipe: Recipe, folder: Path, learner: MetaLearner, own: dict[str, Any], device: str | None) -> None:
    """ConfigError where the run in ``folder`` is not of this recipe as it is today: its number would be another's.

    A run may go on where its device is not; one that is asked for has to be the run's. What is left to the method is the same as
    the method's own value written out, as an older version wrote it.
    """
    begun = read_run_config(folder)
    begun["training"] = make_config(begun["training"]).as_dict()  # an older version wrote fewer fields
    if device is None:
        own["training"]["device"] = begun["training"]["device"]
    else:
        own["training"]["device"] = resolved(own["training"]["device"])
    for name, value in own["training"].items():
        if value is None and begun["training"][name] == getattr(learner.outer, name.removeprefix("outer_"), None):
            begun["training"][name] = None
    for key, value in json.loads(json.dumps(own)).items():
        if begun.get(key) != value:
            raise ConfigError(
                f"expected a run of {recipe.name} as it is now in {folder}, got one whose {key} differs; give another --out"
            )


def numbers(learner: MetaLearner, recipe: Recipe, evaluation: Evaluation, folder: Path) -> list[dict[str, Any]]:
    """The rows of one evaluation; the first mean becomes the run's evaluation card."""
    tasks = problem(recipe.tasks, {**recipe.task_options, **evaluation.tasks}).test
    if evaluation.instances is not None:
        count = evaluation.num_tasks or Evaluation.num_tasks or 0
        return _instances(
            by_instance(learner, tasks, instances=evaluation.instances, num_tasks=count, seed=evaluation.seed),
            evaluation,
        )
    wanted = evaluation.steps or (learner.eval_steps,)
    rows = []
    for i, steps in enumerate(wanted):
        report = evaluate(
            learner,
            tasks,
            num_tasks=evaluation.num_tasks,
            seed=evaluation.seed,
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
    name = "accuracy %" if report.metric == "accuracy" else report.metric
    if evaluation.statistic == "share":
        # "not at most": a number that is not finite is among them.
        values = [100.0 * (not value <= evaluation.above) for value in values]
        name = f"% of tasks with {name} above {evaluation.above:g}"
    mean, ci95 = mean_ci95(values)
    median = evaluation.statistic == "median"
    besides = f", {evaluation.named}" if evaluation.named else ""
    besides += f", test tasks of seed {evaluation.seed}" if evaluation.seed else ""
    return {
        "metric": f"{'median ' if median else ''}{name} after {steps} steps"
        + (f", {shots}-shot" if shots else "")
        + besides,
        "value": round(statistics.median(values) if median else mean, 4),
        "ci95": "" if median else round(ci95, 4),
        "published": evaluation.published[index] if evaluation.published else "",
        "num_tasks": report.num_tasks,
        "transductive": report.transductive,
    }
