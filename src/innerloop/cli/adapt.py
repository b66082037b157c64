"""`innerloop adapt` and `innerloop predict`: one new task from a user's own files, and its predictions."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.cli import given_again, output, program, screen, trust
from innerloop.cli.boundary import say
from innerloop.cli.output import only_for
from innerloop.cli.sample import adapted_to_examples
from innerloop.errors import ConfigError, InputError, first_few

if TYPE_CHECKING:
    import numpy as np

    from innerloop.data.tables import Table
    from innerloop.meta_learner.fitted import Fitted

STANDARD_INPUT = Path("-")
UNKNOWN = "unknown"


def adapt(argv: Sequence[str]) -> int:
    return program.run("adapt", _adapt, _dash(argv))


def predict(argv: Sequence[str]) -> int:
    return program.run("predict", _predict, _dash(argv))


def _dash(argv: Sequence[str]) -> list[str]:
    """The parser would take a bare dash for a flag."""
    return ["./-" if word == "-" else word for word in argv]


def _adapt(
    run: Path,
    support: Path | None = None,
    /,
    *,
    out: Path | None = None,
    env: str | None = None,
    world: int | None = None,
    episodes: int | None = None,
    onto: Path | None = None,
    with_examples: bool = False,
    target: str | None = None,
    text: str | None = None,
    smiles: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    steps: int | None = None,
    invert: bool | None = None,
    valid_tasks: int = 100,
    keep: float = 0.95,
    judge: bool | None = None,
    device: str = "auto",
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
    force: bool = False,
    json: bool = False,
) -> int:
    """Adapt a trained run to one new task and write it as a file; and say how far it may be trusted.

    Args:
        run: a run directory of `innerloop train`.
        support: a folder with one subfolder of pictures (or .txt files) a class, a zip of such, or a CSV list of path,label; or
            a table with a target column (CSV, TSV, JSON lines, Parquet, Arrow; - for one on standard input). For a run of
            score_model: a folder of pictures of one kind, or a table of numbers.
        env: package.module:make_env, a gymnasium environment for a policy to adapt to, in place of SUPPORT.
        world: the number of one of the run's own worlds that no training saw, likewise.
        episodes: how many the policy may play there; left out: what the method says.
        out: the task file to write, such as task.il; with --onto left out: the file there is written anew.
        onto: a task file of this run, which takes in these examples too, of new classes as well.
        with_examples: keep the examples in the task file, so that any method can take in more later (--onto); methods that
            absorb examples need it for new classes alone.
        target: the table's column to learn, or several with commas between for a run of plain numbers; left out: the one of the
            training tables.
        text: the table's column of texts, for a run of texts; left out: the one of the training table.
        smiles: the table's column of SMILES, for a run of molecules; left out: the one of the training table, or smiles.
        separator: between a text table's cells, where the table is read wrongly without it.
        encoding: of a text table that is not in UTF-8, such as latin-1.
        steps: inner steps; left out: the method's.
        invert: take dark for ink (for black drawings on white, where the learner was trained on Omniglot or
            glyphs); left out: as the training pictures were read. The task file remembers it.
        valid_tasks: on how many of the run's validation tasks, as near as they come to yours in classes and examples, the
            expected accuracy and the threshold for unknown inputs are measured; 0: nothing is measured.
        keep: the share of inputs of known classes that the threshold for unknown inputs keeps.
        judge: say how good the learner and the simplest predictors are on your own examples, parts of which are left out in
            turn; left out: yes.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        algorithm, tasks, model: the run's own, given again as package.module:name; where no installed package offers it.
        force: overwrite an existing task file.
        json: print one JSON object and nothing else.
    """
    from innerloop import load
    from innerloop.data.molecules import are_molecules
    from innerloop.data.picture_decoding import SUFFIXES
    from innerloop.data.support_files import picture_shape, takes_pictures
    from innerloop.data.texts import are_texts
    from innerloop.objectives import denoising

    trust.check_flags(valid_tasks, keep)
    program.existing_folder(run, "a run directory", "see the folders that `innerloop train` made")
    if env is not None or world is not None:
        if support is not None:
            raise ConfigError(f"expected SUPPORT or a world (--env, --world), got both; leave {str(support)!r} out")
        from innerloop.cli.play import adapt_to_world

        again = given_again.checked(run, algorithm=algorithm, tasks=tasks, model=model)
        asked: dict[str, Any] = {"env": env, "world": world, "episodes": episodes, "steps": steps, "out": out}
        return adapt_to_world(run, **asked, device=device, again=again, force=force, json=json)
    if support is None:
        raise InputError(
            "expected SUPPORT, a folder of classes or a table, got nothing; or for a policy --env package.module:make_env or "
            "--world 0"
        )
    only_for("a policy (--env, --world)", "examples", episodes=episodes)
    if support != STANDARD_INPUT and not support.exists():
        raise InputError(f"expected a folder of classes or a table, got nothing at {str(support)!r}; check the path")
    if onto is not None:
        output.existing_task(onto)
    if out is None and onto is None:
        raise ConfigError("expected --out, the task file to write, got none; give --out task.il, say")
    if out is None or (onto is not None and out.resolve() == onto.resolve()):
        assert onto is not None
        out = onto
    else:
        output.new_file(out, force)
    from innerloop.training.run_config import read_run_config

    record = read_run_config(run)
    unlabelled = denoising.named(record.get("objective")) is not None
    if support.is_file() and support.suffix.lower() in SUFFIXES and not unlabelled:
        raise InputError(
            f"expected a folder with one subfolder of pictures a class, or a table, got the picture {str(support)!r}; put "
            "the pictures of each class into a folder"
        )
    from innerloop.training.placement import device_of

    again = given_again.checked(run, algorithm=algorithm, tasks=tasks, model=model)
    of_texts = are_texts(record.get("preprocessing"))
    of_molecules = are_molecules(record.get("preprocessing"))
    if not of_molecules:
        only_for("a run of molecules", "other data", smiles=smiles)
    shape = picture_shape(record.get("input_shape") or (), record.get("preprocessing"))
    of_pictures = not of_texts and (support.is_dir() or takes_pictures(shape))
    if of_pictures and support == STANDARD_INPUT:
        raise InputError(
            "expected a folder with one subfolder of pictures a class, or a zip or CSV list of such, as this run was trained on "
            "pictures, got standard input; give a path"
        )
    place = device_of(device)
    learner: Any = load(run, **again)
    learner.to(place)
    if learner.input_shape is None:
        raise InputError(
            f"expected a run that knows its inputs' shape, got {str(run)!r}, which does not; train it again"
        )
    if unlabelled:
        given = {
            "target": target,
            "text": text,
            "separator": separator,
            "encoding": encoding,
            "onto": onto,
            "invert": invert,
        }
        return adapted_to_examples(learner, support, out, steps=steps, keep=with_examples, json=json, given=given)
    left_out: list[str] = []
    if not of_texts:
        only_for("a run of texts", "other data", text=text)
    if onto is not None:
        only_for("a new task", "--onto, whose task file has its own", text=text, invert=invert)
        given = (
            support if of_pictures or (of_texts and not _is_table(support)) else _table(support, separator, encoding)
        )
        return _learned_onto(
            learner, load(onto, **again), given, onto, out, target, steps, bool(judge), with_examples, json
        )
    if of_texts:
        only_for("pictures", "texts", invert=invert)
        given = _table(support, separator, encoding) if _is_table(support) else support
        fitted, score = _adapted_to_texts(learner, given, text, target, steps)
    elif of_pictures:
        only_for("a table", "pictures", target=target, separator=separator, encoding=encoding)
        fitted, score = _adapted_to_pictures(learner, support, steps, invert, left_out)
    else:
        only_for("pictures", "a table", invert=invert)
        table = screen.with_column(_table(support, separator, encoding), record.get("preprocessing"), smiles)
        fitted = learner.adapt(table, target=target, steps=steps)
        score = screen.on_support(fitted, _targets(fitted)) if of_molecules else fitted.score(table)
    y = _targets(fitted)
    lines: list[str] = []
    if valid_tasks:
        fitted, lines = trust.measured(fitted, y, record, steps, valid_tasks, keep, again.get("tasks"))
    if judge is not False:
        from innerloop.evaluation.own_examples import judge as judged

        fitted = judged(fitted)
    with output.writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        fitted.save(out, support=with_examples)
    if json:
        output.print_json(_told(fitted, len(y), score, left_out, lines, out))
        return 0
    _say_left_out(left_out, len(y))
    what = "regression" if fitted.classes_ is None else f"{len(fitted.classes_)} classes"
    found = [f"adapted to {len(y)} examples ({what}); {score:.4f} {_metric(fitted)} on them"]
    if fitted.judged is not None:
        own = fitted.judged.lines()
        found = [*own[:1], *found, *own[1:]] if fitted.judged.loses_to else [*found, *own]
    for line in [*found, *lines]:
        print(line)
    print(f"task file: {out}")
    unknown = " --unknown" if fitted.threshold is not None and fitted.threshold.works else ""
    print(f"next: innerloop predict {shlex.quote(str(out))} INPUTS{unknown} --out predictions.csv")
    if fitted.seen is not None and fitted.classes_ is None:
        print(f"or: innerloop recommend {shlex.quote(str(out))} --top 10")
    return 0


def _told(
    fitted: Fitted, examples: int, score: float, left_out: Sequence[str], lines: Sequence[str], out: Path
) -> dict[str, Any]:
    """What `adapt --json` prints."""
    return {
        "task": str(out),
        "examples": examples,
        "classes": fitted.classes_,
        "metric": _metric(fitted),
        "on_them": score,
        "judged": None if fitted.judged is None else {**fitted.judged.to_dict(), "loses_to": fitted.judged.loses_to},
        "threshold": None
        if fitted.threshold is None
        else {**fitted.threshold.to_dict(), "works": fitted.threshold.works},
        "left_out": list(left_out),
        "said": [line.strip() for line in lines],
    }


def _learned_onto(
    learner: Any,
    task: Any,
    given: Path | Table,
    onto: Path,
    out: Path,
    target: str | None,
    steps: int | None,
    judge: bool,
    with_examples: bool,
    json: bool,
) -> int:
    """Let the task of a file learn more examples, and write it.

    Args:
        learner: of the run.
        task: what the file holds.
        given: the new examples: a table, or where pictures or texts are.
        onto, out: the file, and where to write.
        target, steps, judge, with_examples, json: as of `adapt`.
    """
    import torch

    from innerloop.data.table_preprocessing import table_record
    from innerloop.data.tables import Table
    from innerloop.evaluation.own_examples import judge as judged
    from innerloop.meta_learner.fitted import Fitted

    if not isinstance(task, Fitted):
        raise InputError(f"--onto expected a task file of `innerloop adapt`, got a run directory at {str(onto)!r}")
    for what in ("method_spec", "model_record"):
        own, other = getattr(task.owner, what), getattr(learner, what)
        if own != other:
            raise InputError(
                f"--onto expected a task of this run's learner, {learner.name}, got one of {task.owner.name} with other "
                "settings; give the run that it was adapted by"
            )
    task = task.to(learner.device)
    here = learner.meta().params
    if not all(torch.equal(value, here[name]) for name, value in task.meta.params.items() if name in here):
        say("note: --onto: the task file was adapted by other weights than this run has now; it goes on with its own")
    before, x, y = None, given, None
    if isinstance(given, Table):
        record = table_record(task.preprocessing)
        if record is None:  # adapted to arrays
            if target is None:
                raise ConfigError(
                    "expected --target, the columns to learn, as this task file names none, got none; name them"
                )
            names = [name.strip() for name in target.split(",")]
            given.expect(*names)
            y = given.numbers(names) if task.classes_ is None else given.class_names(names[0])
            x = given.without(names)
        elif target is not None and target.split(",") != list(record.targets):
            raise ConfigError(
                f"--target expected {','.join(record.targets)}, the target of this task file, got {target!r}; leave it out"
            )
        names: Any = [] if task.classes_ is None else y
        if task.classes_ is not None and record is not None:
            names = given.class_names(record.targets[0])
        known = not set(map(str, names)) - set(map(str, task.classes_ or []))
        before = task.score(x, y) if known else None
    more = task.learn(x, y, steps=steps)
    after = None if before is None else more.score(x, y)
    if judge:
        more = judged(more)
    with output.writing(out):
        more.save(out, support=with_examples or task.holds_support)
    number = (more.num_examples or 0) - (task.num_examples or 0)
    new = [] if more.classes_ is None else [name for name in more.classes_ if name not in (task.classes_ or [])]
    chance = None if getattr(more.fast, "change_probability", None) is None else more.change_probability
    if json:
        output.print_json(
            {
                "task": str(out), "examples": more.num_examples, "new_examples": number, "classes": more.classes_,
                "new_classes": new, "metric": _metric(more), "on_them_before": before, "on_them": after,
                "change_probability": chance, "judged": None if more.judged is None else more.judged.to_dict(),
            }
        )  # fmt: skip
        return 0
    print(
        f"learned {number} more examples, {more.num_examples} in all"
        + (f"; new classes: {first_few(new)}" if new else "")
    )
    if before is not None:
        print(f"{_metric(more)} on them: {before:.4f} before they were learned, {after:.4f} after")
    if chance is not None:
        print(f"probability of a change within the last examples: {chance:.3f}")
    if more.judged is not None:
        print("\n".join(more.judged.lines()))
    if task.threshold is not None:
        print(
            "unknown inputs: the threshold was measured for fewer examples, so it is left out; adapt to all of them to have one"
        )
    print(f"task file: {out}")
    return 0


def _adapted_to_pictures(
    learner: Any, support: Path, steps: int | None, invert: bool | None, left_out: list[str]
) -> tuple[Any, float]:
    """(fitted task, its score) of pictures; ``left_out`` takes down which cannot be read."""
    from innerloop.data import support_files
    from innerloop.data.table_preprocessing import is_record_of_tables
    from innerloop.models.embeddings import embedded

    if is_record_of_tables(learner.preprocessing):
        raise InputError(
            f"expected a table, as this run was trained on tables, got a folder at {str(support)!r}; give a file"
        )
    dark = support_files.inverts(learner.preprocessing) if invert is None else invert
    kept = support_files.reading_of(learner.preprocessing)
    shape = support_files.picture_shape(learner.input_shape, learner.preprocessing)
    x, y, reading, dark = support_files.read_classes(support, shape, dark, left_out, kept)
    record = support_files.preprocessing_of(dark, reading, learner.preprocessing)
    return _adapted_to_arrays(learner, embedded(x, record), y, steps, record)


def _adapted_to_texts(
    learner: Any, support: Path | Table, column: str | None, target: str | None, steps: int | None
) -> tuple[Any, float]:
    """The same of texts."""
    from innerloop.data import texts
    from innerloop.models.embeddings import embedded

    column = learner.preprocessing["column"] if column is None else column
    target = learner.preprocessing["target"] if target is None else target
    found = texts.told(texts.read_texts(support, column, target), str(getattr(support, "name", support)))
    record = {**learner.preprocessing, "column": column, "target": target}
    return _adapted_to_arrays(learner, embedded(found.texts, record), found.labels, steps, record)


def _adapted_to_arrays(learner: Any, x: Any, y: Any, steps: int | None, record: dict[str, Any]) -> tuple[Any, float]:
    """(fitted task, its score) of inputs and their classes, which files become by ``record``."""
    fitted = dataclasses.replace(learner.adapt(x, y, steps=steps), preprocessing=record)
    return fitted, fitted.score(x, y)


def _is_table(path: Path) -> bool:
    from innerloop.data.tables import is_table

    return path == STANDARD_INPUT or is_table(path)


def _targets(fitted: Fitted) -> Any:
    """The support set's own, class names or values."""
    y = fitted.support.y
    return y if fitted.classes_ is None else [fitted.classes_[i] for i in y.flatten().long().tolist()]


def _table(path: Path, separator: str | None, encoding: str | None) -> Table:
    """The table in a file or on standard input."""
    from innerloop.data.tables import MAX_BYTES, read_table, table_from_bytes

    if path != STANDARD_INPUT:
        return read_table(path, separator=separator, encoding=encoding)
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    return table_from_bytes(data, "standard input", separator=separator, encoding=encoding)


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
    out: Path | None = None,
    target: str | None = None,
    text: str | None = None,
    smiles: str | None = None,
    rank: bool | None = None,
    picture_page: Path | None = None,
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
        inputs: a picture, a folder of pictures (with all its subfolders), or a table, whose columns are found by their
            names; - for a table on standard input. For a task of texts: a .txt file, a folder of such, or a table.
        out: the CSV file to write; with --rank it may be left out.
        target: a column of the table to leave out, for a task that does not know its columns' names.
        text: the table's column of texts, for a task of texts; left out: the one it was adapted to.
        smiles: the table's column of SMILES, for a task of molecules; left out: the one it was adapted to, or smiles.
        rank: molecules alone: the most promising first, by the chance of the class that is looked for (active, 1, true) or by
            the predicted value; without --out the first 20 are printed.
        picture_page: molecules alone: an HTML page to write, on which the first are drawn beside the most alike of those
            that were measured.
        separator: between a text table's cells, where the table is read wrongly without it.
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
    if out is not None:
        output.new_file(out, force)
    elif not rank and picture_page is None:
        raise ConfigError("expected --out, the CSV file to write, got none; give --out predictions.csv, say")
    again = given_again.checked(task, algorithm=algorithm, tasks=tasks, model=model)
    from innerloop import load
    from innerloop.data import support_files, texts
    from innerloop.data.picture_sources import printable
    from innerloop.data.table_preprocessing import table_record
    from innerloop.meta_learner.fitted import Fitted
    from innerloop.meta_learner.unknown_inputs import cannot_tell
    from innerloop.training.placement import device_of

    fitted = load(task, **again)
    if not isinstance(fitted, Fitted):
        raise InputError(
            f"expected a task file of `innerloop adapt`, got a run directory at {str(task)!r}; adapt it first"
        )
    fitted = fitted.to(device_of(device))
    from innerloop.data.molecules import are_molecules

    if are_molecules(fitted.preprocessing):
        only_for("pictures", "molecules", invert=invert, target=target, text=text)
        given = (
            screen.library(inputs, separator, encoding)
            if inputs != STANDARD_INPUT
            else _table(inputs, separator, encoding)
        )
        return screen.predicted(fitted, given, smiles, bool(rank), out, picture_page, force)
    only_for("a task of molecules", "other data", smiles=smiles, rank=rank, picture_page=picture_page)
    if out is None:
        raise ConfigError("expected --out, the CSV file to write, got none; give --out predictions.csv, say")
    if unknown and fitted.classes_ is None:
        raise ConfigError("--unknown expected a classification task, got regression; leave it out")
    if unknown and fitted.threshold is None:
        raise ConfigError(
            f"--unknown expected a task with a threshold for unknown inputs, got none in {str(task)!r} (`innerloop adapt` "
            "said why); leave it out"
        )
    shape = support_files.picture_shape(fitted.support.x.shape[1:], fitted.preprocessing)
    if unknown and fitted.threshold is not None and not fitted.threshold.works:
        say(f"note: --unknown: {cannot_tell(fitted.threshold)}")
    x: Any
    record = None
    of_texts = texts.are_texts(fitted.preprocessing)
    if not of_texts:
        only_for("a task of texts", "other data", text=text)
    if of_texts:
        only_for("pictures", "texts", invert=invert)
        given = _table(inputs, separator, encoding) if _is_table(inputs) else inputs
        found = texts.read_texts(given, text or (fitted.preprocessing or {})["column"], target, labelled=False)
        x, names = found.texts, found.names
        first = ["row", "prediction"] if _is_table(inputs) else ["path", "label"]
    elif inputs == STANDARD_INPUT or (inputs.is_file() and inputs.suffix.lower() not in support_files.PICTURES):
        if support_files.takes_pictures(shape):
            raise InputError(
                f"expected pictures, as this task was adapted to pictures, got the file {str(inputs)!r}; give a picture or a "
                "folder of pictures"
            )
        only_for("pictures", "a table", invert=invert)
        x, record = _table(inputs, separator, encoding), table_record(fitted.preprocessing)
        if target is not None:
            x.expect(target)
            x = x.without([target])
        names, first = [str(i + 1) for i in range(x.rows)], ["row", "prediction"]
    else:
        only_for("a table", "pictures", target=target, separator=separator, encoding=encoding)
        paths = support_files.pictures_in(inputs) if inputs.is_dir() else [inputs]
        if not paths:
            raise InputError(f"{inputs} expected pictures ({', '.join(support_files.PICTURES)}), got none; add some")
        dark = support_files.inverts(fitted.preprocessing) if invert is None else invert
        reading = support_files.reading_of(fitted.preprocessing)
        if inputs.is_dir():
            x, kept, left_out = support_files.read_readable(paths, shape, dark, reading, where=inputs)
            names = [printable(paths[i]) for i in kept]
            _say_left_out(left_out, len(kept))
        else:
            x, names = support_files.read_pictures(paths, shape, dark, reading), [str(inputs)]
        first = ["path", "label"]
    if fitted.classes_ is None:
        sure = fitted.learner.predicts_distribution and fitted.owner.loss is None
        header, rows = _rows_of_values(fitted.predict(x), fitted.predict_std(x) if sure else None, names, first)
    else:
        header, rows = _rows_of_classes(fitted, x, names, first, unknown)
    if record is not None:  # what is refused is one line
        for note in record.unused(x):
            say(f"note: {note}")
    output.write_csv(out, [header, *rows])
    print(f"{len(rows)} predictions: {out}")
    return 0


# ---- the rows of the CSV file ------------------------------------------------------------------------------------
def _rows_of_values(
    values: np.ndarray, spreads: np.ndarray | None, names: Sequence[str], header: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """(header, rows) for regression, known standard deviations last; ``header``: of the input's name and of the first value."""
    import numpy as np

    values = values.reshape(len(names), -1)
    more = [f"{header[1]}_{i}" for i in range(2, values.shape[1] + 1)]
    if spreads is not None:
        more += ["std", *(f"std_{i}" for i in range(2, values.shape[1] + 1))]
        values = np.concatenate([values, spreads.reshape(len(names), -1)], 1)
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
