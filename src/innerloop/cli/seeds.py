"""`--seeds 0,1,2`: the same training from several seeds, and what they give together."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from innerloop.cli import config_file, given_again, output, parts
from innerloop.cli.boundary import INTERRUPTED, Stop, say
from innerloop.errors import InputError
from innerloop.registry import is_place
from innerloop.training.seeds import Seeds, has_seeds, plain_settings, read_seeds


def begin(
    path: Path,
    seeds: tuple[int, ...],
    merged: Mapping[str, Mapping[str, Any]],
    names: dict[str, str],
    force: bool,
    command: str,
) -> Seeds:
    """Make the folder of these runs, empty of earlier ones.

    Raises:
        InputError: there is something already and ``force`` is off, or something else.
    """
    from innerloop.training.checkpoint import RunDirectory

    output.folder(path)
    if has_seeds(path) and not force:
        raise InputError(f"expected a new folder, got the existing {str(path)!r}; add --force or another --out")
    if path.is_dir() and any(path.iterdir()) and not has_seeds(path):
        raise InputError(
            f"expected a new folder for several runs, got {str(path)!r}, which is not empty; give another --out"
        )
    found = Seeds(path, seeds, plain_settings(merged, names), names)
    earlier = read_seeds(path).folders if has_seeds(path) else {}
    for folder in {*found.folders.values(), *earlier.values()}:
        if (folder / "config.json").is_file():
            RunDirectory(folder).create(force=True)
    with output.writing(path):
        found.write(command)
    return found


def train(several: Seeds, quiet: bool, as_json: bool, again: Mapping[str, str | None] | None = None) -> int:
    """Train what is not trained yet, seed by seed; a seed that was stopped goes on, one that is finished stays as it is.

    Args:
        several: the runs.
        quiet: no progress bars.
        as_json: one JSON object and nothing else.
        again: of runs that go on: the parts that the user gives again; None: the user has just named them all.
    """
    results: dict[int, Any] = {}
    for seed in several.seeds:
        if not quiet and not as_json:
            say(f"seed {seed}")
        results[seed] = _train_one(several, seed, quiet or as_json, again)
        if results[seed].stopped == "interrupted":
            break
    interrupted = any(result.stopped == "interrupted" for result in results.values())
    shown = shlex.quote(str(several.path))
    keys = ("steps", "best_step", "best_value", "metric", "stopped", "wall_seconds")
    if as_json:
        rows = [
            {"seed": seed, "run": str(several.folders[seed]), **{key: getattr(result, key) for key in keys}}
            for seed, result in results.items()
        ]
        output.print_json({"run": str(several.path), "seeds": rows})
    else:
        for seed, result in results.items():
            best = "" if result.best_value is None else f", best validated {result.metric} {result.best_value:.4f}"
            print(f"seed {seed}: {result.steps} outer steps in {result.wall_seconds:.1f} s{best}")
        print(f"run directory: {several.path}")
        if not interrupted:
            print(f"next: innerloop evaluate {shown}")
    if interrupted:
        say(f"stopped by Ctrl-C; continue with: innerloop train --resume {shown}")
        raise Stop(INTERRUPTED)
    return 0


def _train_one(several: Seeds, seed: int, quiet: bool, again: Mapping[str, str | None] | None) -> Any:
    from innerloop import fit
    from innerloop.assemble import from_run
    from innerloop.training.placement import going_on

    folder = several.folders[seed]
    command = f"innerloop train --resume {shlex.quote(str(several.path))}"
    if (folder / "checkpoint.safetensors").is_file():
        learner, family, training = from_run(folder, **given_again.checked(folder, **(again or {})))
        training["device"], moved = going_on(training.get("device", "cpu"))
        if moved:
            say(f"note: {moved}")
        return fit(learner, family, out=folder, resume=True, quiet=quiet, command=command, **training)
    names = several.names
    made = parts.parts({"training": "", "model": None, "meta_gradient": None, **names}, ())
    file = config_file.File(several.path / "seeds.json", several.settings, {})
    merged = made.merged({}, file, names)
    training = {**merged.get("training", {}), "seed": seed}
    if training.get("minutes") is not None:
        training["minutes"] /= len(several.seeds)  # the budget is that of all seeds
    typed = again is None or all(again.get(kind) == name for kind, name in names.items() if is_place(name))
    learner, family = parts.assembled(names, merged, seed, typed=typed)
    return fit(learner, family, out=folder, force=True, quiet=quiet, command=command, **training)
