"""`innerloop compare` on training runs: learned optimizers beside known ones, each at its best rate, on the same runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.cli import output
from innerloop.errors import ConfigError
from innerloop.report.text import text_table

NAMES = ("sgd", "momentum", "adam", "rmsprop", "hypergradient_descent", "schedule_free", "prodigy")
_JOBS = 64  # held-out runs, where nobody says how many


def runs_training(problem_name: str | None) -> bool:
    """Whether a problem's tasks are training runs."""
    from innerloop.tasks import TRAINING_RUNS

    return problem_name in TRAINING_RUNS


def refuse(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for a flag that has no meaning here."""
    for flag, value in given.items():
        if value is not None and value is not False:
            raise ConfigError(f"{flag} expected a problem of tasks to adapt to, got training runs; leave it out")


def compare(
    labels: Sequence[str],
    problem_name: str,
    options: Mapping[str, Any],
    model: str | None,
    training: Mapping[str, Any],
    *,
    num_tasks: int | None,
    seed: int,
    out: Path,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Print and write what each optimizer reaches; curves too."""
    from innerloop import fit, load, methods
    from innerloop.assemble import jobs_of
    from innerloop.cli.boundary import say
    from innerloop.evaluation.evaluate import mean_ci95
    from innerloop.evaluation.optimizer_sweep import best_rate, curves_at, expect_known, run_jobs
    from innerloop.meta_learner.learned_optimizer import LearnedOptimizer

    for label in labels:
        if label in NAMES:
            expect_known(label)
    family = jobs_of(problem_name, model, options, None, typed=True)
    which = {"num_jobs": num_tasks or _JOBS, "seed": seed, "steps": int(family.test.objective.steps)}
    found: dict[str, Any] = {}
    rates: dict[str, float] = {}
    for label in labels:
        if label in NAMES:
            _, _, rates[label] = best_rate(label, family.valid)
            found[label] = curves_at(label, [rates[label]], family.test, **which)[0]
            continue
        if Path(label).is_dir():
            learner = load(Path(label))
        else:
            learner = methods.make(label, None, {}) if label in methods.OPTIMIZERS else None
            if learner is not None:
                if not quiet:
                    say(f"training {label}")
                fit(learner, family, out=out / label, force=force, quiet=quiet or as_json, **training)
        if not isinstance(learner, LearnedOptimizer):
            raise ConfigError(
                f"{label}: expected a learned optimizer or one of {', '.join(NAMES)} for training runs, got another"
            )
        learner.check(family.test.at(seed, 0, 1))
        found[Path(label).name] = run_jobs(learner.learner, learner.meta(), family.test, **which)[0]
    order = sorted(found, key=lambda label: _merit(found[label]))
    results = {
        label: {
            **{name: _two(mean_ci95(found[label].of(name).tolist())) for name in ("end", "curve")},
            **({} if found[label].accuracy is None else {"accuracy": _two(mean_ci95(found[label].accuracy.tolist()))}),
            **({"rate": rates[label]} if label in rates else {}),
            "losses": found[label].losses.mean(0).tolist(),
        }
        for label in order
    }
    best = order[0]
    differences = [
        {
            "first": best,
            "second": other,
            "metric": name,
            **_two(mean_ci95((found[best].of(name) - found[other].of(name)).tolist())),
        }
        for other in order[1:]
        for name in ("end", "curve")
    ]
    summary = {"metric": "end", "num_tasks": which["num_jobs"], "seed": seed, "steps": which["steps"], "results": results,
               "differences": differences}  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    output.write_json(out / "compare.json", summary)
    plot = out / "compare.png"
    plot.write_bytes(_figure(results))
    if as_json:
        output.print_json({**summary, "out": str(out)})
        return 0
    rows = []
    for label, result in results.items():
        rate = f"{result['rate']:.2g}" if "rate" in result else "learned"
        rows.append([label, rate, *(f"{result[n]['mean']:.4f} ± {result[n]['ci95']:.4f}" for n in ("end", "curve"))])
    header = [
        f"{which['num_jobs']} test runs of {which['steps']} steps, seed {seed}",
        "rate",
        "end",
        "mean of the curve",
    ]
    print(text_table(rows, header, ruled=False))
    print()
    pairs = [
        [f"{d['first']} - {d['second']}", d["metric"], f"{d['mean']:+.4f} ± {d['ci95']:.4f}",
         "clear" if abs(d["mean"]) > d["ci95"] else "not clear"]
        for d in differences
    ]  # fmt: skip
    print(text_table(pairs, ["difference, same runs", "metric", "mean", "95 % interval leaves 0 out"], ruled=False))
    print(f"\nfiles: {out / 'compare.json'}, {plot}")
    return 0


def _merit(curves: Any) -> tuple[bool, float]:
    """Sorts what diverged to the end."""
    value = float(curves.end.double().mean())
    return value != value or value == float("inf"), value


def _two(pair: tuple[float, float]) -> dict[str, float]:
    return {"mean": pair[0], "ci95": pair[1]}


def _figure(results: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The mean loss that each step saw."""
    from innerloop.report import style

    looks = style.assign(results)
    figure = style.new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    for label, result in results.items():
        losses = result["losses"]
        axes.plot(range(len(losses)), losses, label=label, **looks[label].line, markevery=max(1, len(losses) // 8))
    style.log_axis(axes)
    style.dress(axes, "step of the run", "mean loss of the batch", "held-out training runs")
    style.legend_below(figure, *axes.get_legend_handles_labels())
    return style.png(figure)
