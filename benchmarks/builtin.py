"""`python -m benchmarks.builtin NAME`: a built-in learner made anew: trained by its recipe, measured, put into the package."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from innerloop.builtin import LEARNERS, MOST_BYTES, PREFIX
from innerloop.cli import program
from innerloop.cli.boundary import guarded
from innerloop.errors import ConfigError, InputError, nearest
from innerloop.evaluation.remembered import KEY
from innerloop.storage import write_atomically

PACKAGE = ROOT / "src" / "innerloop" / "builtin"
BY_HAND = ("purpose", "limits", "data")  # of a card; all else is measured


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code, as those of `innerloop`."""
    words = sys.argv[1:] if argv is None else argv
    return guarded(lambda: program.run("benchmarks.builtin", _builtin, words, program="python -m"))


def _builtin(name: str, /, *, run: Path | None = None, results: Path = Path("results/builtin.csv")) -> int:
    """Train a built-in learner by its recipe, measure it, and write its files and its card into src/innerloop/builtin.

    Args:
        name: of `innerloop list learners`.
        run: the recipe's run directory; one that is there goes on, and one that has ended is measured alone; left out:
            runs/builtin-NAME-seed0.
        results: the CSV file that the numbers are added to; older ones of this recipe go.
    """
    if name not in LEARNERS:
        raise ConfigError(f"unknown built-in learner {name!r}: {nearest(name, LEARNERS)}")
    from innerloop import recipes
    from innerloop.recipes.result_rows import append_rows, read_rows

    recipe = f"builtin-{name}"
    run = run or Path("runs") / f"{recipe}-seed0"
    by_hand(PACKAGE / name)  # told before the work
    found = recipes.run(recipe, out=run, resume=(run / "checkpoint.safetensors").is_file())
    kept = [row for row in read_rows(results) if row["recipe"] != recipe] if results.is_file() else []
    results.unlink(missing_ok=True)
    append_rows(results, [*kept, *found["rows"]])
    pack(run, PACKAGE / name, found["rows"], expected(run))
    size = sum(file.stat().st_size for file in (PACKAGE / name).iterdir())
    print(f"{PREFIX}{name}: {size / 1000:.0f} kB in {PACKAGE / name}")
    return 0


def by_hand(folder: Path) -> dict[str, Any]:
    """What a person wrote into a learner's card.

    Raises:
        InputError: there is none, or it lacks one of `BY_HAND`.
    """
    file = folder / "card.json"
    card = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for entry in BY_HAND:
        if not card.get(entry):
            raise InputError(f"{file} expected an entry {entry!r}, got none; write {', '.join(BY_HAND)} by hand first")
    return {entry: card[entry] for entry in BY_HAND}


def expected(run: Path) -> list[dict[str, Any]]:
    """What `adapt` says of new tasks where the problem's data are not; measured on the run's validation tasks."""
    from innerloop import load
    from innerloop.assemble import problem_of
    from innerloop.evaluation.remembered import measured
    from innerloop.objectives.losses import predicts_values
    from innerloop.training.run_config import read_run_config

    learner: Any = load(run)
    valid = problem_of(read_run_config(run), run).valid
    return measured(learner, valid, classes=not predicts_values(learner.task_objective))


def pack(
    run: Path, folder: Path, rows: Sequence[Mapping[str, Any]], expectations: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write a learner's files: its run's configuration, with what to expect, its best weights, and its card with these rows.

    Raises:
        InputError: a card that lacks what people write, or files of more than `MOST_BYTES` together.
    """
    card = by_hand(folder)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config = {**{key: value for key, value in config.items() if key != "launch"}, KEY: list(expectations)}
    # A run without validation has its weights in its checkpoint alone: a recipe of a built-in learner validates.
    weights = run / "best.safetensors"
    first = rows[0]
    card |= {
        "recipe": first["recipe"],
        "recipe_hash": first["recipe_hash"],
        "rebuild": f"python -m benchmarks.builtin {folder.name}",
        "commit": config["commit"],
        "steps": first["steps"],
        "numbers": [{key: row[key] for key in ("metric", "value", "ci95", "num_tasks")} for row in rows],
    }
    files = {
        "config.json": json.dumps(config, indent=1).encode(),
        "card.json": json.dumps(card, indent=1, ensure_ascii=False).encode(),
    }
    size = weights.stat().st_size + sum(map(len, files.values()))
    if size > MOST_BYTES:
        raise InputError(
            f"expected a built-in learner of at most {MOST_BYTES:,} bytes, got {size:,}; take a smaller net"
        )
    for name, content in files.items():
        write_atomically(folder / name, content + b"\n")
    shutil.copyfile(weights, folder / weights.name)


if __name__ == "__main__":
    sys.exit(main())
