"""`innerloop compare`: which method fits my tasks? The same tasks for all, paired intervals, a table and a
plot.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.cli import compare_optimizers, given_again, output, parts, shifts
from innerloop.cli.evaluate import at_least_one
from innerloop.cli.listing import offered
from innerloop.cli.options import own_flags
from innerloop.cli.program import dashed, run, split
from innerloop.cli.seeds import begin
from innerloop.errors import ConfigError, InputError, ShapeError
from innerloop.registry import is_place
from innerloop.report.text import text_table
from innerloop.training.config import Strategy, TrainConfig
from innerloop.training.seeds import has_seeds, parse_seeds, read_seeds

EVERY = "all"  # in place of ALG,ALG,...: every method; those that the problem does not suit are left out, and named


def compare(argv: Sequence[str]) -> int:
    """The flags are the command's own and those of the problem."""
    words, own = dashed(argv), own_flags(_compare)
    names, rest = split(words, own, 2, offered("tasks"))
    asked = {"--help", "-h"} & set(words)
    if len(names) < 2 and not asked:
        example = "for example: innerloop compare maml,reptile sinusoid"
        raise ConfigError(f"expected ALG,ALG,... and TASKS, got {' '.join(names) or 'nothing'}; {example}")
    problem = parts.known("tasks", names[1]) if len(names) > 1 else None
    labels = (
        _labels(names[0], compare_optimizers.NAMES if compare_optimizers.runs_training(problem) else ())
        if names
        else []
    )
    made = parts.parts({"tasks": problem}, own)
    names, rest = split(words, {**made.arity(), **own}, 2, offered("tasks"))
    usage = "compare ALG,ALG,... TASKS [OPTIONS]"
    every = bool(names) and names[0] == EVERY
    command = made.command(_compare, labels, problem, every, made)
    return run(" ".join(["compare", *names]), command, rest, usage=usage)


def _labels(text: str, others: Sequence[str] = ()) -> list[str]:
    """Algorithms and run directories, comma-separated; each is known and there only once. ``all``: every algorithm.

    Args:
        text: as it was typed.
        others: words beside algorithms that this problem knows; then ``all`` is none.
    """
    if text == EVERY and not others:
        return list(offered("algorithms"))
    labels = [label.strip() for label in text.split(",") if label.strip()]
    if len(labels) < 2:
        raise ConfigError(f"expected at least two of ALG,ALG,..., got {text!r}; separate them by commas without spaces")
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"expected different algorithms, got {label!r} twice; leave one out")
        if not Path(label).is_dir() and label not in others:
            parts.known("algorithm", label)
    return labels


_ALL_PAIRS = 5  # with more methods only the differences from the best are printed


def _compare(
    labels: list[str],
    problem_name: str | None,
    every: bool,
    made: parts.Parts,
    records: dict[str, Any],
    /,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    num_tasks: int | None = None,
    seed: int = 0,
    seeds: str | None = None,
    shift: str | None = None,
    model: str | None = None,
    algorithm: str | None = None,
    out: Path | None = None,
    device: str = "auto",
    precision: str | None = None,
    strategy: Strategy | None = None,
    threads: int | None = None,
    chunk_size: int | None = None,
    recompute: bool = False,
    force: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Compare methods on the same tasks.

    Each is trained with its recommended settings for the same number of outer steps; a run directory in place of a name is taken
    as it is. ALG may be the one word all: every method that suits TASKS. Where TASKS are training runs, ALG may also be an
    optimizer, each at its best of 14 rates: sgd, momentum, adam, rmsprop, hypergradient_descent,
    schedule_free, prodigy.

    Args:
        steps: Outer steps of each method that is trained here; left out: 1,000, or with --minutes as many as there is time for.
        minutes: Wall-clock time for all training of this command, shared evenly over the methods that are trained here.
        num_tasks: Test tasks, the same for all; left out: 600, or each distinct task where there are no more than that.
        seed: Of initial weights, training tasks and test tasks; with --seeds of the test tasks alone.
        seeds: Several seeds, 0,1,2: each method is trained from each of them, intervals are over seeds, and differences are
            taken seed by seed. A run directory is then one of several seeds, as train --seeds makes it.
        shift: Move the test tasks away from training's: KIND=AMOUNT,AMOUNT,... (phase=0,0.5,1), and plot the metric against it.
        model: A name of `innerloop list models`, or package.module:factory; left out: the problem's own. Of a run directory that
            lacks its model: that model.
        algorithm: The method of a run directory among ALG,ALG,..., as package.module:function, where no installed package offers
            it.
        out: The folder for the runs, compare.json and the plot; left out: runs/compare-TASKS-seedN, or -seedsN-N-N.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        precision: float32, float64, bfloat16 or tf32.
        strategy: How the engine runs many tasks.
        threads: CPU threads of torch.
        chunk_size: Tasks held in memory at once.
        recompute: Compute inner steps again in the backward pass, to save memory.
        force: Overwrite existing runs.
        quiet: No progress bars.
        json: Print one JSON object and nothing else.
    """
    if problem_name is None:
        raise ConfigError("expected ALG,ALG,... and TASKS, got nothing; see innerloop list")
    task_options = made.merged(records).get("tasks", {})
    chosen = (seed,) if seeds is None else parse_seeds(seeds)
    training = {"steps": steps, "minutes": minutes, "seed": chosen[0], "device": device, "precision": precision}
    training |= {"strategy": strategy, "threads": threads, "chunk_size": chunk_size, "recompute": recompute}
    training = {name: value for name, value in training.items() if value is not None}
    at_least_one(num_tasks, "--num-tasks")
    TrainConfig(**training)  # wrong numbers are told before the work
    if model is not None:
        parts.known("model", model)
    if seeds is not None and shift is not None:
        raise ConfigError("--shift expected one seed, got --seeds too; leave one of them out")
    several = f"seed{seed}" if seeds is None else f"seeds{'-'.join(map(str, chosen))}"
    out = output.folder(out or Path("runs") / f"compare-{parts.short(problem_name)}-{several}")
    if (out / "compare.json").exists() and not force:
        raise InputError(f"expected a new folder, got the existing {str(out)!r}; add --force or another --out")
    if compare_optimizers.runs_training(problem_name):
        refuse = {"--seeds": seeds, "--shift": shift, "--algorithm": algorithm}
        compare_optimizers.refuse(refuse)
        how = {"num_tasks": num_tasks, "seed": seed, "out": out, "force": force, "quiet": quiet}
        return compare_optimizers.compare(labels, problem_name, task_options, model, training, as_json=json, **how)
    folders = {label: _runs(Path(label), chosen, seeds) for label in labels if Path(label).is_dir()}
    from innerloop import compare as measure
    from innerloop import load
    from innerloop.assemble import problem
    from innerloop.cli.boundary import say
    from innerloop.training.load import lacked
    from innerloop.training.placement import device_of
    from innerloop.training.run_config import read_run_config

    place = device_of(device)
    if shift is not None:
        shifts.check(problem(problem_name, task_options, typed=True).test, shift)  # before the first method is trained
    about = (problem_name, model, task_options)
    if minutes is not None:  # shared among those that are trained here
        trained = [label for label in labels if label not in folders]
        suiting = sum(_suits(label, *about, chosen[0]) for label in trained) if every else len(trained)
        training["minutes"] = minutes / max(1, suiting)
    learners: dict[str, list[Any]] = {}
    again = {
        **given_again.checked(*itertools.chain(*folders.values()), algorithm=algorithm),
        "tasks": problem_name,
        "model": model,
    }
    again = {name: word for name, word in again.items() if word is not None and is_place(word)}
    for label in labels:
        if label in folders:
            opened: list[Any] = [load(folder, **lacked(read_run_config(folder), again)) for folder in folders[label]]
            learners[Path(label).name] = [learner.to(place) for learner in opened]
            continue
        try:
            pairs = [_suited(label, *about, own) for own in chosen]
        except (ConfigError, InputError, ShapeError) as error:
            if not every:
                raise
            say(f"{label} is left out: {error}")
            continue
        folder, whole = out / parts.short(label), training
        places = {chosen[0]: folder}
        if seeds is not None:
            names = {"algorithm": label, "tasks": problem_name, **({} if model is None else {"model": model})}
            shared = {name: value for name, value in training.items() if name != "seed"}
            merged = {"training": shared, "tasks": task_options, "model": {}}
            places = begin(folder, chosen, merged, names, force, f"innerloop compare {label}").folders
            whole = {**training, "minutes": None if minutes is None else training["minutes"] / len(chosen)}
        learners[label] = [
            _trained(label, *pair, {**whole, "seed": own}, places[own], folder, force, quiet or json)
            for own, pair in zip(chosen, pairs, strict=True)
        ]
    if not learners:
        raise ConfigError(f"expected a method that {problem_name} can be learned with, got none; see the lines above")
    test = problem(problem_name, task_options, typed=True).test
    if shift is not None:
        curves = shifts.measure({label: own[0] for label, own in learners.items()}, test, shift, num_tasks, seed)
        shifts.say(curves, {**shifts.write(curves, out, "compare"), "out": str(out)}, json)
        return 0
    from innerloop.report import style
    from innerloop.report.comparison import comparison_figure

    # One method's divergence must not throw the others' training away: it is shown, and comes last.
    comparison = measure(learners, test, num_tasks=num_tasks, seed=seed, allow_diverged=True, with_costs=True)
    out.mkdir(parents=True, exist_ok=True)
    found = _summary(comparison, None if seeds is None else chosen)
    output.write_json(out / "compare.json", found)
    plot = out / "compare.png"
    plot.write_bytes(style.png(comparison_figure(comparison)))
    if json:
        output.print_json({**found, "out": str(out)})
    else:
        _print(found, comparison)
        print(f"\nfiles: {out / 'compare.json'}, {plot}")
    return 0


def _suited(
    label: str, problem_name: str, model: str | None, task_options: dict[str, Any], seed: int
) -> tuple[Any, Any]:
    """(learner, problem); ConfigError, InputError or ShapeError where the method does not suit the problem."""
    from innerloop.assemble import assemble

    learner, family = assemble(label, problem_name, model, task_options=task_options, seed=seed, typed=True)
    learner.check(family.train.at(seed, 0, 1))
    return learner, family


def _suits(*about: Any) -> bool:
    try:
        _suited(*about)
    except (ConfigError, InputError, ShapeError):
        return False
    return True


def _runs(path: Path, chosen: Sequence[int], asked: str | None) -> list[Path]:
    """The run directories in place of a method: one, or that of each seed."""
    if asked is None and not has_seeds(path):
        return [path]
    if asked is None:
        raise ConfigError(
            f"expected --seeds with {str(path)!r}, which has runs of several seeds, got none; --seeds 0,1,2, say"
        )
    if not has_seeds(path):
        raise ConfigError(
            f"--seeds expected methods, or runs of several seeds as train --seeds makes them, got {str(path)!r}"
        )
    folders = read_seeds(path).folders
    if missing := [own for own in chosen if own not in folders]:
        raise ConfigError(f"--seeds expected seeds of {str(path)!r}, {', '.join(map(str, folders))}, got {missing[0]}")
    return [folders[own] for own in chosen]


def _trained(
    label: str, learner: Any, family: Any, training: dict[str, Any], out: Path, whole: Path, force: bool, quiet: bool
) -> Any:
    """The learner after its training, in a run directory of its own; ``whole`` is that of all its seeds."""
    from innerloop import fit
    from innerloop.cli.boundary import INTERRUPTED, Stop, say

    if not quiet:
        say(f"training {label}" + ("" if out == whole else f", seed {training['seed']}"))
    result = fit(learner, family, out=out, force=force, quiet=quiet, command=f"innerloop compare {label}", **training)
    if result.stopped == "interrupted":
        say(f"stopped by Ctrl-C; {label} can go on with: innerloop train --resume {whole}")
        raise Stop(INTERRUPTED)
    return learner


def _summary(comparison: Any, seeds: Sequence[int] | None) -> dict[str, Any]:
    from innerloop.report.comparison import verdict

    first = next(iter(comparison.reports.values()))

    def each(label: str) -> dict[str, Any]:
        rows = zip(seeds or (), comparison.seeds.get(label, ()), strict=True)
        found = [{"seed": own, "mean": r.mean, "ci95": r.ci95} for own, r in rows]
        return {"seeds": found} if found else {}

    return {
        "verdict": verdict(comparison),
        "metric": first.metric,
        "num_tasks": first.num_tasks,
        "seed": first.seed,
        "split": first.split,
        **({} if seeds is None else {"ci95_over": "seeds", "seeds": list(seeds)}),
        "results": {
            label: {
                "mean": r.mean,
                "ci95": r.ci95,
                "transductive": r.transductive,
                "adapt_seconds": comparison.costs[label].seconds,
                "adapt_peak_bytes": comparison.costs[label].peak_bytes,
                **each(label),
            }
            for label, r in comparison.reports.items()
        },
        "baselines": {name: {"mean": b.mean, "ci95": b.ci95} for name, b in first.baselines.items()},
        "differences": [
            {"first": d.first, "second": d.second, "mean": d.mean, "ci95": d.ci95} for d in comparison.differences
        ],
    }


def _print(found: Mapping[str, Any], comparison: Any) -> None:
    from innerloop.report.comparison import milliseconds, size

    header = [
        f"{found['num_tasks']} {found['split']} tasks, seed {found['seed']}",
        found["metric"],
        "transductive",
        "time to adapt",
        "tensors",
    ]
    rows = []
    for label, result in found["results"].items():
        value = f"{result['mean']:.4f} ± {result['ci95']:.4f}"
        cost = [milliseconds(result["adapt_seconds"]), size(result["adapt_peak_bytes"])]
        rows.append([label, value, "yes" if result["transductive"] else "no", *cost])
    rows += [
        [f"{name} (baseline)", f"{b['mean']:.4f} ± {b['ci95']:.4f}", "no", "", ""]
        for name, b in found["baselines"].items()
    ]
    print(text_table(rows, header, ruled=False))
    print()
    pairs = []
    few = len(comparison.reports) <= _ALL_PAIRS
    for d in comparison.differences:
        if not few and d.first != comparison.best:
            continue  # 24 methods have 276 pairs; all of them are in compare.json
        clear = math.isfinite(d.mean) and abs(d.mean) > d.ci95
        pairs.append([f"{d.first} - {d.second}", f"{d.mean:+.4f} ± {d.ci95:.4f}", "clear" if clear else "not clear"])
    same = f"difference, {len(found['seeds'])} seeds" if "seeds" in found else "difference, same tasks"
    print(text_table(pairs, [same, found["metric"], "95 % interval leaves 0 out"], ruled=False))
    print(f"\n{found['verdict']}")
    if found["baselines"]:
        print(f"{comparison.best}: {comparison.reports[comparison.best].beside}")
