"""`innerloop stream`: a run goes through long streams of classes it never saw, or along tasks that change in the middle."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from innerloop.builtin import place_for_findings
from innerloop.cli import given_again, output, program
from innerloop.cli.learn_stream import learn_stream
from innerloop.errors import ConfigError
from innerloop.lifelong import STREAM_METHODS

_HELP = """Usage: innerloop stream METHOD STREAM [flags]
       innerloop stream RUN [PROBLEM] [flags]

METHOD STREAM: a method that learns as examples come ({methods})
learns one long stream, and what is left of each part is told. STREAM is mnist_rotations, another
long stream of innerloop list tasks, or a table or a folder of your own.
See innerloop stream la_maml mnist_rotations --help.

RUN: what a run of a method that was trained on many streams or tasks does on new ones; its flags:
"""


def stream(argv: Sequence[str]) -> int:
    first = argv[0] if argv else ""
    if first in STREAM_METHODS:
        return learn_stream(argv)
    if first in ("--help", "-h"):
        print(_HELP.format(methods=", ".join(STREAM_METHODS)))
    return program.run("stream", _stream, argv)


def _stream(
    run: Path,
    problem: str | None = None,
    /,
    *,
    classes: str | None = None,
    streams: int | None = None,
    window: int | None = None,
    seed: int = 0,
    split: Literal["valid", "test"] = "test",
    rate: float | None = None,
    valid_streams: int = 5,
    device: str = "auto",
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
    json: bool = False,
) -> int:
    """Learn streams of classes one after another, and judge what is left of all of them; or go along tasks that change.

    Writes stream.json into the run. The rate of the steps is chosen on validation streams. Where the targets are values (a road,
    a pendulum, drifting sines), each example is predicted before it is learned, and errors are told by how long ago the task
    changed.

    Args:
        run: a run directory, such as one of `innerloop train oml omniglot_stream`.
        problem: the streams, such as glyphs_stream, or tasks of values, such as road; left out: the run's own.
        classes: lengths of the streams in classes, with commas between: 50,100,600; left out: 50.
        streams: of each length; left out: 10, and 120 of values.
        window: of values: adapt anew to so many of the last examples before each step, 0 to none; left out: take in each, for
            methods that do that at constant cost.
        seed: which: equal seeds give equal streams.
        split: of the problem.
        rate: of the steps; left out: the best of a grid on validation streams, for each length.
        valid_streams: how many streams it is chosen on.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        algorithm, tasks, model: the run's own, given again as package.module:name; where no installed package offers it.
        json: print one JSON object and nothing else.
    """
    if not run.exists() and (close := nearest_of(str(run))):
        raise ConfigError(f"expected a run directory or a method for streams, got {str(run)!r}; {close}")
    path = program.existing_folder(run, "a run directory", "train one: innerloop train oml omniglot_stream --out RUN")
    lengths = _lengths(classes or "50")
    if rate is not None and not rate > 0:
        raise ConfigError(f"--rate expected a number above 0, got {rate:g}")
    from innerloop import evaluate_online, evaluate_stream, load, losses
    from innerloop import tasks as problems
    from innerloop.assemble import problem_of
    from innerloop.training.placement import device_of
    from innerloop.training.run_config import read_run_config

    again = given_again.checked(path, algorithm=algorithm, tasks=tasks, model=model)
    if problem is None:
        family = problem_of(read_run_config(path), path, again.get("tasks"))
    else:
        family = problems.make(problem, {}, typed=True)
    learner: Any = load(path, **again)
    learner.to(device_of(device))
    tasks_of_split = getattr(family, split)
    if losses.kind_of(tasks_of_split.objective) == "regression":
        output.only_for("streams of classes", "tasks of values", rate=rate, classes=classes)
        found = evaluate_online(learner, tasks_of_split, num_tasks=streams or 120, seed=seed, window=window)
        parts = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
        plain = output.plain({name: v.tolist() if hasattr(v, "tolist") else v for name, v in parts.items()})
    else:
        output.only_for("tasks of values", "streams of classes", window=window)
        found = evaluate_stream(
            learner,
            tasks_of_split,
            classes=lengths,
            streams=10 if streams is None else streams,
            seed=seed,
            rates=None if rate is None else [rate],
            valid=family.valid,
            valid_streams=valid_streams,
        )
        plain = output.plain(found)
        plain["classes"] = {str(number): score for number, score in plain["classes"].items()}
    file = place_for_findings(path) / "stream.json"
    output.write_json(file, plain)
    if json:
        output.print_json({**plain, "run": str(path), "card": str(file)})
    else:
        print(found)
        print(f"card: {file}")
    return 0


def nearest_of(word: str) -> str:
    """A sentence part on the method whose name is close; nothing where none is."""
    close = difflib.get_close_matches(word, STREAM_METHODS, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else ""


def _lengths(text: str) -> list[int]:
    found = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        if not word.isdecimal() or int(word) < 1:
            raise ConfigError(f"--classes expected whole numbers of at least 1 with commas between, got {text!r}")
        found.append(int(word))
    if not found:
        raise ConfigError("--classes expected numbers such as 50,100,600, got none")
    return list(dict.fromkeys(found))
