"""`innerloop sample`: new examples from a score model that was adapted to a few; and its part of `innerloop adapt`."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerloop.cli import given_again, output, program
from innerloop.errors import ConfigError, InputError

_ENDINGS = (".png", ".npy", ".csv")


def sample(argv: Sequence[str]) -> int:
    return program.run("sample", _sample, argv)


def _sample(
    task: Path,
    /,
    *,
    n: int = 64,
    out: Path | None = None,
    seed: int = 0,
    steps: int = 50,
    guidance: float = 0.0,
    device: str = "auto",
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
    force: bool = False,
    json: bool = False,
) -> int:
    """New examples from a score model that was adapted to a few.

    Args:
        task: a task file of `innerloop adapt` with a run of score_model.
        n: how many.
        out: the file to write: .png, a sheet of pictures; .npy, an array; .csv, a row for each vector.
        seed: of the noise that they begin as; the same seed gives the same examples.
        steps: noise levels from pure noise to none; more is slower and more exact.
        guidance: how far to go beyond what the support set says; 0: not at all.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        algorithm, tasks, model: the run's own, given again as package.module:name; where no installed package offers it.
        force: overwrite an existing file.
        json: print one JSON object and nothing else.
    """
    if not task.is_file():
        got = "a folder" if task.is_dir() else "no file"
        raise InputError(
            f"expected a task file of `innerloop adapt`, got {got} at {str(task)!r}; adapt first: innerloop adapt RUN "
            "few-pictures/ --out task.il"
        )
    if out is None:
        raise ConfigError("expected --out, the file to write, got none; give --out sheet.png, say")
    if out.suffix.lower() not in _ENDINGS:
        raise ConfigError(f"--out expected a file that ends in {', '.join(_ENDINGS)}, got {str(out)!r}; choose one")
    output.new_file(out, force)
    again = given_again.checked(task, algorithm=algorithm, tasks=tasks, model=model)
    from innerloop import load
    from innerloop.meta_learner.fitted_score import FittedScore
    from innerloop.training.placement import device_of

    fitted: Any = load(task, **again)
    if not isinstance(fitted, FittedScore):
        raise InputError(
            f"expected a task of a score model, got one of {fitted.owner.name} at {str(task)!r}; train one: innerloop train "
            "score_model drawings"
        )
    pictures = fitted.support.ndim == 4
    kind = out.suffix.lower()
    if (kind == ".png" and not pictures) or (kind == ".csv" and fitted.support.ndim != 2):
        raise ConfigError(
            f"--out expected {'.png or .npy for pictures' if pictures else '.csv or .npy for vectors'}, got {str(out)!r}"
        )
    made = fitted.to(device_of(device)).sample(n, seed=seed, steps=steps, guidance=guidance).cpu()
    with output.writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(out, made)
    if json:
        output.print_json(
            {"task": str(task), "n": len(made), "shape": list(made.shape[1:]), "seed": seed, "out": str(out)}
        )
        return 0
    print(f"{len(made)} new examples, seed {seed}: {out}")
    return 0


def _write(out: Path, made: Any) -> None:
    from innerloop.storage import write_atomically

    kind = out.suffix.lower()
    if kind == ".png":
        from innerloop.report.drawings import sheet_png

        write_atomically(out, sheet_png(made))
    elif kind == ".npy":
        import numpy as np

        buffer = io.BytesIO()
        np.save(buffer, made.numpy(), allow_pickle=False)
        write_atomically(out, buffer.getvalue())
    else:
        output.write_csv(out, [[f"x{i + 1}" for i in range(made.shape[1])], *made.tolist()])


def adapted_to_examples(
    learner: Any, support: Path, out: Path, *, steps: int | None, keep: bool, json: bool, given: dict[str, Any]
) -> int:
    """Adapt a score model to the examples of a folder or a table and write the task file.

    Args:
        learner: of the run.
        support: a folder of pictures of one kind, a picture, or a table of numbers.
        out: the file.
        steps: inner steps; None: the method's.
        keep: keep the examples in the file, for more to be added later.
        json: print one JSON object.
        given: flags of tasks with labels, by name; none of them may be set.
    """
    output.only_for("a task with labels", "examples without", **given)
    fitted = learner.adapt(_examples(learner, support), steps=steps)
    with output.writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        fitted.save(out, support=keep)
    ending = "sheet.png" if fitted.support.ndim == 4 else "points.csv"
    if json:
        output.print_json({"task": str(out), "examples": fitted.num_examples, "shape": list(fitted.support.shape[1:])})
        return 0
    print(f"adapted to {fitted.num_examples} example{'' if fitted.num_examples == 1 else 's'} without labels")
    print(f"task file: {out}")
    print(f"next: innerloop sample {shlex.quote(str(out))} --n 64 --out {ending}")
    return 0


def _examples(learner: Any, support: Path) -> Any:
    shape = learner.input_shape
    if shape is None or len(shape) == 3:
        folders = sorted(p.name for p in support.iterdir() if p.is_dir()) if support.is_dir() else []
        if folders:
            raise InputError(
                f"expected a folder of pictures of one kind, got one with folders in it ({', '.join(folders[:3])}) at "
                f"{str(support)!r}; give one of these"
            )
        return str(support)
    if support.is_dir() or len(shape) != 1:
        raise InputError(f"expected a table of {shape} numbers a row, as this run was trained on, got {str(support)!r}")
    from innerloop.data.tables import read_table

    table = read_table(support)
    names = list(table.columns)
    if len(names) != shape[0]:
        raise InputError(
            f"expected a table of {shape[0]} columns of numbers, got {len(names)} ({', '.join(names[:5])}); leave "
            "the others out"
        )
    return table.numbers(names)
