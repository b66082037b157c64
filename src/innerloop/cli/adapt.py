"""`innerloop adapt` and `innerloop predict`: one new task from a user's own files, and its predictions."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.cli import given_again, output, program, trust
from innerloop.cli.boundary import say
from innerloop.cli.output import only_for
from innerloop.errors import ConfigError, InputError, ShapeError, first_few

if TYPE_CHECKING:
    import numpy as np

    from innerloop.meta_learner.fitted import Fitted

STANDARD_INPUT = Path("-")
UNKNOWN = "unknown"


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
    separator: str | None = None,
    encoding: str | None = None,
    steps: int | None = None,
    invert: bool | None = None,
    valid_tasks: int = 100,
    keep: float = 0.95,
    device: str = "auto",
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
    force: bool = False,
) -> int:
    """Adapt a trained run to one new task and write it as a file; and say how far it may be trusted.

    Args:
        run: a run directory of `innerloop train`.
        support: a folder with one subfolder of pictures a class, or a table with a target column (CSV; for a run that was
            trained on tables also TSV and Parquet).
        out: the task file to write, such as task.il.
        target: the table's column to learn; left out: the one of the training tables.
        separator: between a text table's cells, where it is not found rightly.
        encoding: of a text table that is not in UTF-8, such as latin-1.
        steps: inner steps; left out: the method's.
        invert: take dark for ink (for black drawings on white, where the learner was trained on Omniglot or
            glyphs); left out: as the training pictures were read. The task file remembers it.
        valid_tasks: on how many of the run's validation tasks, as near as they come to yours in classes and examples, the
            expected accuracy and the threshold for unknown inputs are measured; 0: nothing is measured.
        keep: the share of inputs of known classes that the threshold for unknown inputs keeps.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        algorithm, tasks, model: the run's own, given again as package.module:name; where no installed package offers it.
        force: overwrite an existing task file.
    """
    from innerloop.data import support_files
    from innerloop.data.table_preprocessing import is_record_of_tables

    trust.check_flags(valid_tasks, keep)
    program.existing_folder(run, "a run directory", "see the folders that `innerloop train` made")
    if not support.exists():
        raise InputError(
            f"expected a folder of classes or a CSV table, got nothing at {str(support)!r}; check the path"
        )
    if support.is_file() and support.suffix.lower() in support_files.PICTURES:
        raise InputError(
            f"expected a folder with one subfolder of pictures a class, or a table, got the picture {str(support)!r}; put "
            "the pictures of each class into a folder"
        )
    output.new_file(out, force)
    from innerloop.training.placement import device_of

    again = given_again.checked(run, algorithm=algorithm, tasks=tasks, model=model)
    from innerloop.training.run_config import read_run_config

    record = read_run_config(run)
    place = device_of(device)
    text = {"separator": separator, "encoding": encoding}
    left_out: list[str] = []
    if is_record_of_tables(record.get("preprocessing")):
        from innerloop import load

        only_for("pictures", "a table", invert=invert)
        learner: Any = load(run, **again)
        fitted, x, y, recognises = _adapted_to_table(learner.to(place), support, target, steps, text)
    else:
        table = None if support.is_dir() else support_files.read_table(support, separator, encoding)
        if table is not None and support_files.takes_pictures(record.get("input_shape") or ()):
            raise InputError(
                f"expected a folder with one subfolder of pictures a class, as this run was trained on pictures, got the file "
                f"{str(support)!r}; give such a folder"
            )
        if table is None:
            only_for("a table", "a folder of pictures", target=target, **text)
        else:
            only_for("pictures", "a table", invert=invert)
            if target is None:
                last = table.columns[-1]
                raise ConfigError(f"expected --target with a CSV table, got none; for example --target {last!r}")
            support_files.column(table, target)
        fitted, x, y, recognises = _adapted(run, place, support, target, steps, invert, text, left_out, again)
    lines: list[str] = []
    if valid_tasks:
        fitted, lines = trust.measured(fitted, y, recognises, record, steps, valid_tasks, keep, again.get("tasks"))
    with output.writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        fitted.save(out)
    _say_left_out(left_out, len(x))
    what = "regression" if fitted.classes_ is None else f"{len(fitted.classes_)} classes"
    print(f"adapted to {len(x)} examples ({what}); {fitted.score(x, y):.4f} {_metric(fitted)} on them")
    for line in lines:
        print(line)
    print(f"task file: {out}")
    unknown = " --unknown" if fitted.threshold is not None else ""
    print(f"next: innerloop predict {shlex.quote(str(out))} INPUTS{unknown} --out predictions.csv")
    return 0


def _adapted(
    run: Path,
    place: Any,
    support: Path,
    target: str | None,
    steps: int | None,
    invert: bool | None,
    text: Mapping[str, str | None],
    left_out: list[str],
    again: Mapping[str, str],
) -> tuple[Any, Any, Any, trust.Recognises]:
    """(fitted task, inputs, targets, `leave_one_out`'s question) of pictures, or of a table of plain numbers.

    ``place`` is the device; ``text`` has the table's separator and encoding; ``left_out`` takes down which pictures cannot be
    read; ``again`` has the run's parts that were given again.
    """
    from innerloop import load
    from innerloop.data import support_files
    from innerloop.objectives.losses import predicts_values

    learner: Any = load(run, **again)
    learner.to(place)
    if learner.input_shape is None:
        raise InputError(
            f"expected a run that knows its inputs' shape, got {str(run)!r}, which does not; train it again"
        )
    shape = tuple(learner.input_shape)
    if support.is_dir():
        dark = support_files.inverts(learner.preprocessing) if invert is None else invert
        x, y = support_files.read_classes(support, shape, dark, left_out)
        fitted = learner.adapt(x, y, steps=steps)
        fitted = dataclasses.replace(fitted, preprocessing=support_files.preprocessing_of(dark))
    else:
        assert target is not None
        x, y = support_files.read_support_table(support, target, not predicts_values(learner.task_objective), **text)
        if (x.shape[1],) != shape:
            raise ShapeError(
                f"{support} expected features of shape {shape}, got {x.shape[1]} columns beside {target!r}"
            )
        fitted = learner.adapt(x, y, steps=steps)

    def recognises(others: list[int], i: int) -> bool:
        return learner.adapt(x[others], [y[j] for j in others], steps=steps).predict(x[i : i + 1])[0] == y[i]

    return fitted, x, y, recognises


def _say_left_out(left_out: Sequence[str], used: int) -> None:
    if left_out:
        total = used + len(left_out)
        print(f"left out: {len(left_out)} of {total} pictures, which cannot be read: {first_few(left_out)}")


def _metric(fitted: Any) -> str:
    return "mean squared error" if fitted.classes_ is None else "accuracy"


def _predict(
    task: Path,
    inputs: Path,
    /,
    *,
    out: Path,
    target: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    unknown: bool = False,
    invert: bool | None = None,
    device: str = "auto",
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
    force: bool = False,
) -> int:
    """Predict with an adapted task; one CSV row an input.

    Args:
        task: a task file of `innerloop adapt`.
        inputs: a picture, a folder of pictures (with all its subfolders), or a table; - for a CSV table on standard
            input.
        out: the CSV file to write.
        target: a column of the CSV table to leave out.
        separator: between a text table's cells, where it is not found rightly.
        encoding: of a text table that is not in UTF-8, such as latin-1.
        unknown: call inputs "unknown" that are probably of none of the classes, by the task's threshold.
        invert: take dark for ink; left out: as `adapt` did.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        algorithm, tasks, model: the run's own, given again as package.module:name; where no installed package offers it.
        force: overwrite an existing CSV file.
    """
    if task.is_dir():
        raise InputError(
            f"expected a task file of `innerloop adapt`, got the folder {str(task)!r}; adapt it first: innerloop adapt "
            f"{shlex.quote(str(task))} SUPPORT --out task.il"
        )
    if not task.is_file():
        raise InputError(f"expected a task file of `innerloop adapt`, got no file at {str(task)!r}; check the path")
    if inputs != STANDARD_INPUT and not inputs.exists():
        raise InputError(f"expected a picture, a folder or a CSV table, got nothing at {str(inputs)!r}; check the path")
    output.new_file(out, force)
    text = {"separator": separator, "encoding": encoding}
    from innerloop.training.placement import device_of

    place = device_of(device)
    again = given_again.checked(task, algorithm=algorithm, tasks=tasks, model=model)
    if inputs == STANDARD_INPUT:
        with _standard_input() as copied:
            return _predicted(task, place, copied, out, target, unknown, invert, text, again)
    return _predicted(task, place, inputs, out, target, unknown, invert, text, again)


def _predicted(
    task: Path,
    place: Any,
    inputs: Path,
    out: Path,
    target: str | None,
    unknown: bool,
    invert: bool | None,
    text: Mapping[str, str | None],
    again: Mapping[str, str],
) -> int:
    from innerloop import load
    from innerloop.data import support_files
    from innerloop.data.table_preprocessing import is_record_of_tables
    from innerloop.meta_learner.fitted import Fitted

    fitted = load(task, **again)
    if not isinstance(fitted, Fitted):
        raise InputError(
            f"expected a task file of `innerloop adapt`, got a run directory at {str(task)!r}; adapt it first"
        )
    fitted = fitted.to(place)
    if unknown and fitted.classes_ is None:
        raise ConfigError("--unknown expected a classification task, got regression; leave it out")
    if unknown and fitted.threshold is None:
        raise ConfigError(
            f"--unknown expected a task with a threshold for unknown inputs, got none in {str(task)!r} (`innerloop adapt` "
            "said why); leave it out"
        )
    if is_record_of_tables(fitted.preprocessing):
        only_for("pictures", "a task of tables", invert=invert)
        header, rows = _table_predictions(fitted, inputs, unknown, text)
        _write(out, header, rows)
        return 0
    table = None
    if inputs.is_file() and inputs.suffix.lower() not in support_files.PICTURES:
        if support_files.takes_pictures(fitted.support.x.shape[1:]):
            raise InputError(
                f"expected pictures, as this task was adapted to pictures, got the file {str(inputs)!r}; give a picture or a "
                "folder of pictures"
            )
        only_for("pictures", "a table", invert=invert)
        table = support_files.read_table(inputs, **text)
        if target is not None:
            support_files.column(table, target)
    else:
        only_for("a table", "pictures", target=target, **text)
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
        dark = support_files.inverts(fitted.preprocessing) if invert is None else invert
        if inputs.is_dir():
            x, kept, left_out = support_files.read_readable(paths, shape, dark, where=inputs)
            names = [str(paths[i]) for i in kept]
            _say_left_out(left_out, len(kept))
        else:
            x, names = support_files.read_pictures(paths, shape, dark), [str(inputs)]
    first = ["path", "label"] if table is None else ["row", "prediction"]
    if fitted.classes_ is None:
        header, rows = _rows_of_values(fitted.predict(x), names, first)
    else:
        header, rows = _rows_of_classes(fitted, x, names, first, unknown)
    _write(out, header, rows)
    return 0


def _write(out: Path, header: list[str], rows: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    output.write_whole(out, text.getvalue())
    print(f"{len(rows)} predictions: {out}")


# ---- the rows of the CSV file ------------------------------------------------------------------------------------
def _rows_of_values(
    values: np.ndarray, names: Sequence[str], header: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """(header, rows) for regression; ``header``: of the input's name and of the first value."""
    values = values.reshape(len(names), -1)
    more = [f"{header[1]}_{i}" for i in range(2, values.shape[1] + 1)]
    return [*header, *more], [[name, *(f"{v:.8g}" for v in row)] for name, row in zip(names, values, strict=True)]


def _rows_of_classes(
    fitted: Fitted, x: Any, names: Sequence[str], header: Sequence[str], unknown: bool
) -> tuple[list[str], list[list[str]]]:
    """(header, rows): the most probable class, its probability, and the probabilities of all.

    Args:
        fitted: a classification task.
        x: the inputs.
        names: of the inputs.
        header: of the input's name and of its class.
        unknown: call inputs below the task's threshold "unknown".

    Raises:
        ConfigError: a class of that name, or no threshold is known.
    """
    assert fitted.classes_ is not None
    if unknown and UNKNOWN in map(str, fitted.classes_):
        raise ConfigError(f"--unknown expected no class of the name {UNKNOWN!r}, got one; rename it and adapt again")
    out = fitted.outputs(x)
    known = fitted.knows(out).tolist() if unknown else [True] * len(names)
    rows = []
    for name, row, sure in zip(names, fitted.probabilities(out).cpu().numpy(), known, strict=True):
        best = int(row.argmax())
        label = str(fitted.classes_[best]) if sure else UNKNOWN
        rows.append([name, label, f"{row[best]:.6f}", *(f"{v:.6f}" for v in row)])
    return [*header, "confidence", *(f"p_{name}" for name in fitted.classes_)], rows


# ---- tables, for learners that were trained on tables ------------------------------------------------------------
@contextlib.contextmanager
def _standard_input() -> Iterator[Path]:
    """What comes on standard input as a file, for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "standard-input.csv"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


def _adapted_to_table(
    learner: Any, support: Path, target: str | None, steps: int | None, text: Mapping[str, str | None]
) -> tuple[Any, Any, Any, trust.Recognises]:
    """(fitted task, inputs, targets, `leave_one_out`'s question) of a table; the task carries how its columns are read.

    ``text``: the table's separator and encoding, as `read_table` takes them.
    """
    import numpy as np

    from innerloop.data.table_preprocessing import TablePreprocessing
    from innerloop.data.table_support import support_of

    if support.is_dir():
        raise InputError(
            f"expected a table, as this run was trained on tables, got a folder at {str(support)!r}; give a file"
        )
    record = TablePreprocessing.from_dict(learner.preprocessing)
    table = _table(support, text)
    x, y, own = support_of(record, table, target)
    _say_unseen(record, table)
    fitted = learner.adapt(x, y, steps=steps)

    def recognises(others: list[int], i: int) -> bool:
        """The left-out row has no part in how the others are scaled."""
        given, labels, scales = support_of(record, table.take(np.array(others)), target)
        left = scales.encode(table.take(np.array([i])))
        return learner.adapt(given, labels, steps=steps).predict(left)[0] == y[i]

    return dataclasses.replace(fitted, preprocessing=own.to_dict()), x, y, recognises


def _table(path: Path, text: Mapping[str, str | None]) -> Any:
    from innerloop.data.support_files import PICTURES
    from innerloop.data.tables import read_table

    if path.suffix.lower() in PICTURES:
        raise InputError(
            f"expected a table, as this learner was trained on tables, got the picture {str(path)!r}; give a CSV file"
        )
    return read_table(path, **text)


def _say_unseen(record: Any, table: Any) -> None:
    for sentence in record.unseen(table):
        say(f"note: {sentence}")


def _table_predictions(
    fitted: Any, inputs: Path, unknown: bool, text: Mapping[str, str | None]
) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the CSV file for the rows of a table."""
    from innerloop.data.table_preprocessing import TablePreprocessing

    record = TablePreprocessing.from_dict(fitted.preprocessing)
    table = _table(inputs, text)
    x = record.encode(table)
    _say_unseen(record, table)
    names = [str(i + 1) for i in range(table.rows)]
    if fitted.classes_ is None:
        values = record.original(fitted.predict(x).reshape(len(names), -1))
        return _rows_of_values(values, names, ["row", "prediction"])
    return _rows_of_classes(fitted, x, names, ["row", "label"], unknown)
