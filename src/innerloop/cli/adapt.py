"""`innerloop adapt` and `innerloop predict`: one new task from a user's own files, and its predictions."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerloop.cli import places, program, table_task
from innerloop.errors import ConfigError, InputError, ShapeError


def adapt(argv: Sequence[str]) -> int:
    return program.run("adapt", _adapt, argv)


def predict(argv: Sequence[str]) -> int:
    # The parser would take a bare dash for a flag.
    return program.run("predict", _predict, ["./-" if word == "-" else word for word in argv])


def _adapt(
    run: Path,
    support: Path,
    /,
    *,
    out: Path,
    target: str | None = None,
    steps: int | None = None,
    invert: bool = False,
    force: bool = False,
) -> int:
    """Adapt a trained run to one new task and write it as a file.

    Args:
        run: a run directory of `innerloop train`.
        support: a folder with one subfolder of pictures a class, or a table with a target column (CSV; for a run that was
            trained on tables also TSV and Parquet).
        out: the task file to write, such as task.il.
        target: the table's column to learn; left out: the one of the training tables.
        steps: inner steps; left out: the method's.
        invert: take dark for ink (for black drawings on white, where the learner was trained on Omniglot or
            glyphs).
        force: overwrite an existing task file.
    """
    from innerloop.data import support_files

    program.existing_folder(run, "a run directory", "see the folders that `innerloop train` made")
    if not support.exists():
        raise InputError(
            f"expected a folder of classes or a CSV table, got nothing at {str(support)!r}; check the path"
        )
    places.new_file(out, force)
    from innerloop.training.run_config import read_run_config

    record = read_run_config(run)
    if table_task.is_for_tables(record.get("preprocessing")):
        from innerloop import load

        fitted, x, y = table_task.adapted(load(run), support, target, steps)
        return _written(fitted, x, y, out)
    table = None if support.is_dir() else support_files.read_table(support)
    if table is not None and target is None:
        last = table.columns[-1]
        raise ConfigError(f"expected --target with a CSV table, got none; for example --target {last!r}")
    if table is not None and target is not None:
        support_files.column(table, target)
    from innerloop import load
    from innerloop.assemble import problem

    split = problem(record["tasks"]["name"], record["tasks"].get("options")).train
    learner: Any = load(run)
    if table is None:
        x, y = support_files.read_classes(support, split.input_shape, invert)
    else:
        assert target is not None
        x, y = support_files.read_support_table(support, target, split.objective != "mse")
        width = tuple(split.input_shape)
        if (x.shape[1],) != width:
            raise ShapeError(
                f"{support} expected features of shape {width}, got {x.shape[1]} columns beside {target!r}"
            )
    return _written(learner.adapt(x, y, steps=steps), x, y, out)


def _written(fitted: Any, x: Any, y: Any, out: Path) -> int:
    """Write the task file and say what is in it."""
    with places.writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        fitted.save(out)
    what = "regression" if fitted.classes_ is None else f"{len(fitted.classes_)} classes"
    print(f"adapted to {len(x)} examples ({what}); {fitted.score(x, y):.4f} {_metric(fitted)} on them")
    print(f"task file: {out}")
    print(f"next: innerloop predict {out} INPUTS --out predictions.csv")
    return 0


def _metric(fitted: Any) -> str:
    return "mean squared error" if fitted.classes_ is None else "accuracy"


def _predict(
    task: Path,
    inputs: Path,
    /,
    *,
    out: Path,
    target: str | None = None,
    invert: bool = False,
    force: bool = False,
) -> int:
    """Predict with an adapted task; one CSV row an input.

    Args:
        task: a task file of `innerloop adapt`.
        inputs: a picture, a folder of pictures (with all its subfolders), or a table; - for a CSV table on standard
            input.
        out: the CSV file to write.
        target: a column of the CSV table to leave out.
        invert: take dark for ink; give it where `adapt` had it.
        force: overwrite an existing CSV file.
    """
    if not task.is_file():
        raise InputError(f"expected a task file of `innerloop adapt`, got no file at {str(task)!r}; check the path")
    if inputs != table_task.STANDARD_INPUT and not inputs.exists():
        raise InputError(f"expected a picture, a folder or a CSV table, got nothing at {str(inputs)!r}; check the path")
    places.new_file(out, force)
    if inputs == table_task.STANDARD_INPUT:
        with table_task.standard_input() as copied:
            return _predicted(task, copied, out, target, invert)
    return _predicted(task, inputs, out, target, invert)


def _predicted(task: Path, inputs: Path, out: Path, target: str | None, invert: bool) -> int:
    from innerloop import load
    from innerloop.data import support_files
    from innerloop.fitted import Fitted

    fitted = load(task)
    if not isinstance(fitted, Fitted):
        raise InputError(
            f"expected a task file of `innerloop adapt`, got a run directory at {str(task)!r}; adapt it first"
        )
    if table_task.is_for_tables(fitted.preprocessing):
        header, rows = table_task.predictions(fitted, inputs)
        _write(out, header, rows)
        print(f"{len(rows)} predictions: {out}")
        return 0
    table = None
    if inputs.is_file() and inputs.suffix.lower() not in support_files.PICTURES:
        table = support_files.read_table(inputs)
        if target is not None:
            support_files.column(table, target)
    shape = tuple(fitted.support.x.shape[1:])
    if table is not None:
        names = [str(i + 1) for i in range(len(table.rows))]
        x = support_files.features(table, leave_out=[] if target is None else [target])
        if x.shape[1:] != shape:
            hint = "" if target else "; leave out the target column with --target"
            raise ShapeError(f"{inputs} expected features of shape {shape}, got {x.shape[1]} columns{hint}")
    else:
        paths = support_files.pictures_in(inputs) if inputs.is_dir() else [inputs]
        if not paths:
            raise InputError(f"{inputs} expected pictures ({', '.join(support_files.PICTURES)}), got none; add some")
        names = [str(path) for path in paths]
        x = support_files.read_pictures(paths, shape, invert)
    header, rows = predictions(fitted, x, names, "path" if table is None else "row")
    _write(out, header, rows)
    print(f"{len(rows)} predictions: {out}")
    return 0


def predictions(fitted: Any, x: Any, names: Sequence[str], first: str) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the CSV file: the input's name, what is predicted, and for classes how surely."""
    second = "label" if first == "path" else "prediction"
    if fitted.classes_ is None:
        values = fitted.predict(x)
        values = values.reshape(len(names), -1)
        more = [f"{second}_{i}" for i in range(2, values.shape[1] + 1)]
        rows = [[name, *(f"{v:.8g}" for v in row)] for name, row in zip(names, values, strict=True)]
        return [first, second, *more], rows
    p = fitted.predict_proba(x)
    header = [first, second, "confidence", *(f"p_{name}" for name in fitted.classes_)]
    rows = []
    for name, row in zip(names, p, strict=True):
        best = int(row.argmax())
        rows.append([name, str(fitted.classes_[best]), f"{row[best]:.6f}", *(f"{v:.6f}" for v in row)])
    return header, rows


def _write(out: Path, header: list[str], rows: list[list[str]]) -> None:
    """The whole file or none: a reader never meets half a table."""
    part = out.with_name(out.name + ".part")
    with places.writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(header)
                writer.writerows(rows)
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
