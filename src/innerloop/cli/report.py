"""`innerloop demo`, `run` and `report`: thin doors to the parts of the library that do these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerloop.cli import given_again, output, program
from innerloop.cli.boundary import still_wanted
from innerloop.cli.listing import registry_of
from innerloop.cli.options import own_flags
from innerloop.errors import ConfigError
from innerloop.report.text import text_table
from innerloop.training.seeds import parse_seeds


def demo(argv: Sequence[str]) -> int:
    return program.run("demo", _demo, argv)


def run(argv: Sequence[str]) -> int:
    words = program.dashed(argv)
    names, _ = program.split(words, own_flags(_run), 1)
    if names and names[0] not in registry_of("recipes"):  # told before torch is loaded
        hint = program.closest(names[0], registry_of("recipes"), "see innerloop list recipes")
        raise ConfigError(f"unknown recipe {names[0]!r}: {hint}")
    return program.run("run", _run, words)


def report(argv: Sequence[str]) -> int:
    return program.run("report", _report, argv)


def _demo(*, out: Path = Path("demo-report"), quiet: bool = False) -> int:
    """Meta-train on built-in data, adapt to unseen tasks, compare with transfer learning, report with plots.

    Args:
        out: the folder of the report; an older demo there is replaced.
        quiet: no progress bars.
    """
    output.folder(out)
    from innerloop.recipes import demo as main_job

    still_wanted()
    main_job.run(out, quiet=quiet)
    return 0


def _run(
    recipe: str,
    /,
    *,
    seed: int | None = None,
    seeds: str | None = None,
    out: Path | None = None,
    results: Path | None = None,
    force: bool = False,
    resume: bool = False,
    device: str | None = None,
    minutes: float | None = None,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Run a published setting by its name (innerloop list recipes) and print the published number beside
    ours.

    Args:
        recipe: its name.
        seed: of initial weights and tasks; left out: 0.
        seeds: several seeds, 0,1,2: the mean over them and its 95 % interval; --minutes is then the time of all together.
        out: the run directory; left out: runs/RECIPE-seedN. With --seeds: the folder of seed-0, seed-1, ...
        results: a CSV file to append the numbers to.
        force: overwrite an existing run directory.
        resume: go on with the run that was stopped there; as often as it takes.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps; left out: the recipe's, which is auto unless it says
            otherwise, or that of the run that goes on.
        minutes: wall-clock time for the training, schedule included; the recipe's number of steps stays a limit.
        quiet: no progress bar.
        json: print one JSON object and nothing else.
    """
    from innerloop import recipes

    found = recipes.RECIPES.get(recipe)
    if out is not None and found is not None and found.runner is not None:
        raise ConfigError(
            f"--out expected a recipe that trains, got {recipe}, which makes no run directory; "
            "leave it out, or give --results FILE for its numbers"
        )
    if out is not None:
        output.folder(out)
    if results is not None:
        output.file(results, "--results")
    if seed is not None and seeds is not None:
        raise ConfigError("expected --seed or --seeds, got both; leave one out")
    if seeds is not None and found is not None and found.runner is not None:
        raise ConfigError(
            f"--seeds expected a recipe that trains, got {recipe}, which is the same for every seed; leave it out"
        )
    chosen = (seed or 0,) if seeds is None else parse_seeds(seeds)

    def once(own: int) -> dict[str, Any]:
        return recipes.run(
            recipe,
            seed=own,
            out=out if out is None or seeds is None else out / f"seed-{own}",
            quiet=quiet or json,
            force=force,
            resume=resume,
            device=device,
            minutes=None if minutes is None else minutes / len(chosen),
            results=results,
        )

    every = [once(own) for own in chosen]
    result = every[0] if seeds is None else _together(every)
    if json:
        output.print_json(result)
        return 0
    which = f"seed {chosen[0]}" if seeds is None else f"seeds {seeds}, intervals over them"
    print(f"{recipe}, {which}, {every[0]['steps']} outer steps: {result['source']}")
    header = ["metric", "value", "ci95", "published", "num_tasks", "transductive"]
    rows = [[_cell(row.get(name)) for name in header] for row in result["rows"]]
    print(text_table(rows, header, ruled=False))
    for one in every:
        if one.get("out"):
            print(f"run directory: {one['out']}")
    return 0


def _together(every: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Results of one recipe from several seeds: each number's mean over them, and the interval of it."""
    from innerloop.evaluation.evaluate import mean_ci95

    rows = []
    for same in zip(*(one["rows"] for one in every), strict=True):
        mean, ci95 = mean_ci95([float(row["value"]) for row in same])
        rows.append({**same[0], "seed": [row["seed"] for row in same], "value": mean, "ci95": ci95})
    return {
        **every[0],
        "seed": [one["seed"] for one in every],
        "ci95_over": "seeds",
        "rows": rows,
        "seeds": list(every),
    }


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None or value == "" else str(value)


def _report(
    *runs: Path,
    out: Path | None = None,
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
) -> int:
    """Write one self-contained HTML file about one or more runs.

    Args:
        runs: run directories.
        out: the HTML file; left out: report.html in the first run.
        algorithm, tasks, model: the run's own, given again as package.module:name; of the runs that lack it.
    """
    if not runs:
        raise ConfigError(
            "expected RUN, one or more run directories, got nothing; for example: innerloop report runs/a runs/b"
        )
    for path in runs:
        program.existing_folder(path, "a run directory", "see the folders that `innerloop train` made")
    if out is not None:
        is_page = out.suffix.lower() in (".html", ".htm")
        (output.file if is_page else output.folder)(out)
    from innerloop.report import build

    again = given_again.checked(*runs, algorithm=algorithm, tasks=tasks, model=model)
    print(f"report: {build(list(runs), out, **again)}")
    return 0
