"""`innerloop evaluate`: a run on tasks it never saw, with its 95 % interval."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from innerloop.builtin import place_for_findings
from innerloop.cli import given_again, output, parts, shifts, trust
from innerloop.cli.options import own_flags
from innerloop.cli.program import dashed, existing_folder, run, split
from innerloop.errors import ConfigError, InputError
from innerloop.training.seeds import Seeds, has_seeds, read_seeds, runs_of

_USAGE = "evaluate RUN [OPTIONS]"


def evaluate(argv: Sequence[str]) -> int:
    """The flags are the command's own and those of the run's problem."""
    words, own = dashed(argv), own_flags(_evaluate)
    found, rest = split(words, own, 1)
    if {"--help", "-h"} & set(words) and (not found or not Path(found[0]).is_dir()):
        made = parts.parts({"tasks": None}, own)
        return run("evaluate", made.command(_evaluate, Path(), {}, made), ["--help"], usage=_USAGE)
    if not found:
        raise ConfigError(
            "expected RUN, a run directory, got nothing; for example: innerloop evaluate runs/maml-sinusoid-seed0"
        )
    from innerloop.training.run_config import read_run_config

    path = existing_folder(Path(found[0]), "a run directory", "see the folders that `innerloop train` made")
    path = runs_of(path)[0] if runs_of(path) else path
    again = given_again.checked(path, **given_again.read(words))
    problem = again.get("tasks")
    if problem is None:
        from innerloop.assemble import expect_problem

        record = read_run_config(path)
        expect_problem(record, path)
        problem = parts.known("tasks", record["tasks"]["name"], typed=False)
    made = parts.parts({"tasks": problem}, own)
    found, rest = split(words, {**made.arity(), **own}, 1)
    return run("evaluate", made.command(_evaluate, Path(found[0]), again, made), rest, usage=_USAGE)


def _evaluate(
    path: Path,
    again: dict[str, str],
    made: parts.Parts,
    records: dict[str, Any],
    /,
    *,
    num_tasks: int | None = None,
    seed: int = 0,
    split: Literal["train", "valid", "test"] = "test",
    steps: int | None = None,
    metric: str | None = None,
    every_task: bool = False,
    draws: int | None = None,
    shift: str | None = None,
    curve_steps: int | None = None,
    device: str = "auto",
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
    json: bool = False,
) -> int:
    """Evaluate a run on tasks it never saw.

    Prints the mean and its 95 % interval and writes evaluation.json into the run (of a built-in learner: into
    runs/builtin-NAME). The problem's own flags (innerloop evaluate RUN
    --help) change what it is tested on.

    Args:
        num_tasks: How many tasks are drawn; left out: 600, or each distinct task where there are no more than that.
        seed: Which tasks: equal seeds give equal tasks.
        split: Which split of the problem.
        steps: Inner steps; left out: the method's.
        metric: A metric, or several with commas between, the first is reported: accuracy, f1, roc_auc, average_precision;
            mse, mae, rmse, r2; log_likelihood; the problem's own. Left out: the problem's first, the others beside it.
        every_task: Judge each distinct task, where they are a finite number.
        draws: With --every-task: how often each task is drawn, with other rows shown.
        shift: Move the tasks away from training's: KIND=AMOUNT or KIND=AMOUNT,AMOUNT,... (phase=0,0.5,1).
        curve_steps: Also the metric after 0, 1, ... this many inner steps.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        algorithm: The run's method again, as package.module:name, where no installed package offers it.
        tasks: The run's problem again, as package.module:name, where no installed package offers it.
        model: The run's model again, as package.module:name, where no installed package offers it.
        json: Print one JSON object and nothing else.
    """
    del algorithm, tasks, model  # read before: they say what other flags there are
    from innerloop import evaluate as measure
    from innerloop import load
    from innerloop.assemble import problem_of
    from innerloop.training.placement import device_of
    from innerloop.training.run_config import read_run_config

    at_least_one(num_tasks, "--num-tasks")
    if draws is not None and not every_task:
        raise ConfigError("--draws expected --every-task, which says how often each task is drawn; give both or none")
    if curve_steps is not None and curve_steps < 0:
        raise ConfigError(f"--curve-steps expected an integer of at least 0, got {curve_steps}")
    if curve_steps is not None and shift is not None:
        raise ConfigError("--curve-steps expected tasks as in training, got --shift too; leave one of them out")
    place = device_of(device)
    several = read_seeds(path) if has_seeds(path) else None
    if several is not None:
        missing = [own for own, folder in several.folders.items() if not (folder / "checkpoint.safetensors").is_file()]
        if missing:
            raise InputError(
                f"expected a run of every seed in {str(path)!r}, got none of {missing[0]}; train it: innerloop train --resume "
                f"{shlex.quote(str(path))}"
            )
    if several is not None and shift is not None:
        raise ConfigError(
            f"--shift expected one run, got those of several seeds; give {next(iter(several.folders.values()))}"
        )
    first = path if several is None else next(iter(several.folders.values()))
    changed = made.merged(records).get("tasks", {})
    family = problem_of(read_run_config(first), first, again.get("tasks"), changed, model=again.get("model"))

    def opened(run: Path) -> Any:
        learner: Any = load(run, **again)
        return learner.to(place)

    name = "evaluation.json" if split == "test" else f"evaluation-{split}.json"

    def judged(run: Path) -> Any:
        report = measure(
            opened(run),
            getattr(family, split),
            num_tasks=num_tasks,
            seed=seed,
            steps=steps,
            metric=None if metric is None else [name.strip() for name in metric.split(",")],
            every_task=every_task,
            draws=draws,
            curve_steps=curve_steps,
        )
        output.write_json(place_for_findings(run) / name, report)
        return report

    if several is not None:
        reports = {own: judged(folder) for own, folder in several.folders.items()}
        return _told_together(several, reports, path / name, json)
    if shift is not None:
        curves = shifts.measure({path.name: opened(path)}, getattr(family, split), shift, num_tasks, seed, steps)
        found = {**shifts.write(curves, place_for_findings(path), f"shift-{curves.kind}"), "run": str(path)}
        if len(found["results"]) == 1:  # as without a shift
            found |= {key: found["results"][0][key] for key in ("mean", "ci95", "transductive")}
        shifts.say(curves, found, json)
        return 0
    report, file = judged(path), place_for_findings(path) / name
    if json:
        keys = ("mean", "ci95", "metric", "num_tasks", "seed", "split", "transductive", "wall_seconds")
        keys += () if curve_steps is None else ("curve", "curve_ci95")
        keys += () if report.distinct is None else ("distinct",)
        keys += ("metrics", "baselines", "ece")
        found = {key: getattr(report, key) for key in keys} | {"run": str(path), "card": str(file)}
        output.print_json(found | {key: value for key, value in report.config["tasks"].items() if key == "draws"})
        return 0
    _print_mean(report, "tasks")
    print(_tasks_line(report))
    if report.distinct is not None and report.distinct < report.num_tasks:
        of = f"they are draws of {report.distinct} distinct tasks, over which the interval is taken"
        print(f"{of}; --every-task judges each once")
    if unit := trust.error_unit(getattr(family, split).preprocessing):
        print(unit)
    others = [f"{name} {one.mean:.4f} ± {one.ci95:.4f}" for name, one in list(report.metrics.items())[1:]]
    if others:
        print(f"also: {', '.join(others)}")
    if report.ece is not None:
        print(calibration_line(report.ece))
    if curve_steps is not None:
        print(curve_line(report.curve))
    print(f"card: {file}")
    return 0


def _print_mean(report: Any, over: str) -> None:
    """The number and what the baselines reach; a learner that loses to one says so first."""
    lines = [
        f"{report.metric} {report.mean:.4f} ± {report.ci95:.4f} (mean and 95 % interval over {over})",
        report.beside,
    ]
    for line in sorted(filter(None, lines), key=lambda line: not line.startswith("LOSES")):
        print(line)


def _tasks_line(report: Any) -> str:
    transductive = "yes" if report.transductive else "no"
    draws = report.config.get("tasks", {}).get("draws", 1)
    each = f", {draws} draws of the rows of each" if draws > 1 else ""
    return f"{report.num_tasks} {report.split} tasks{each}, seed {report.seed}, transductive {transductive}"


def _told_together(several: Seeds, reports: Mapping[int, Any], file: Path, as_json: bool) -> int:
    """The mean over seeds and its 95 % interval over seeds; the numbers of each seed beside them."""
    from innerloop.evaluation.evaluate import over_seeds

    together = over_seeds(list(reports.values()))
    keys = ("metric", "num_tasks", "seed", "split", "transductive", "wall_seconds")
    rows = [
        {"seed": own, "mean": report.mean, "ci95": report.ci95, "run": str(several.folders[own])}
        for own, report in reports.items()
    ]
    found: dict[str, Any] = {
        "mean": together.mean,
        "ci95": together.ci95,
        "ci95_over": "seeds",
        **{key: getattr(together, key) for key in keys},
        "baselines": together.baselines,
        "ece": together.ece,
        "seeds": rows,
    }
    if together.curve:
        found |= {"curve": together.curve, "curve_ci95": together.curve_ci95}
    output.write_json(file, found)
    if as_json:
        output.print_json({**found, "run": str(several.path), "card": str(file)})
        return 0
    _print_mean(together, f"{len(rows)} seeds")
    for row in rows:
        print(f"  seed {row['seed']}: {row['mean']:.4f} ± {row['ci95']:.4f} (mean and 95 % interval over tasks)")
    print(_tasks_line(together))
    if together.ece is not None:
        print(calibration_line(together.ece))
    if together.curve:
        print(curve_line(together.curve))
    print(f"card: {file}")
    return 0


def calibration_line(ece: float) -> str:
    """How far the probabilities hold, in one line."""
    from innerloop.evaluation.confidence import off_by

    return f"calibration: the probability of a prediction is off by {off_by(ece)}"


def curve_line(curve: Sequence[float]) -> str:
    """The metric after 0, 1, ... inner steps as one line; of a long curve about ten of its numbers."""
    last = len(curve) - 1
    shown = sorted({*range(0, last, max(1, math.ceil(last / 10))), last})
    return f"after inner steps: {', '.join(f'{i}: {curve[i]:.4f}' for i in shown)}"


def at_least_one(value: int | None, flag: str) -> None:
    if value is not None and value < 1:
        raise ConfigError(f"{flag} expected an integer of at least 1, got {value}")
