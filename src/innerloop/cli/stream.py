"""`innerloop stream`: a run goes through long streams of classes it never saw, and is judged on all of them at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from innerloop.builtin import place_for_findings
from innerloop.cli import given_again, output, program
from innerloop.errors import ConfigError


def stream(argv: Sequence[str]) -> int:
    return program.run("stream", _stream, argv)


def _stream(
    run: Path,
    problem: str | None = None,
    /,
    *,
    classes: str = "50",
    streams: int = 10,
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
    """Learn streams of classes one after another, one example a step, and judge what is left of all of them.

    Writes stream.json into the run. The rate of the steps is chosen on validation streams.

    Args:
        run: a run directory, such as one of `innerloop train oml omniglot_stream`.
        problem: the streams, omniglot_stream or glyphs_stream; left out: the run's own.
        classes: lengths of the streams in classes, with commas between: 50,100,600.
        streams: of each length.
        seed: which: equal seeds give equal streams.
        split: of the problem.
        rate: of the steps; left out: the best of a grid on validation streams, for each length.
        valid_streams: how many streams it is chosen on.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        algorithm, tasks, model: the run's own, given again as package.module:name; where no installed package offers it.
        json: print one JSON object and nothing else.
    """
    path = program.existing_folder(run, "a run directory", "train one: innerloop train oml omniglot_stream --out RUN")
    lengths = _lengths(classes)
    if rate is not None and not rate > 0:
        raise ConfigError(f"--rate expected a number above 0, got {rate:g}")
    from innerloop import evaluate_stream, load
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
    place = device_of(device)
    found = evaluate_stream(
        learner.to(place),
        getattr(family, split),
        classes=lengths,
        streams=streams,
        seed=seed,
        rates=None if rate is None else [rate],
        valid=family.valid,
        valid_streams=valid_streams,
    )
    file = place_for_findings(path) / "stream.json"
    plain = output.plain(found)
    plain["classes"] = {str(number): score for number, score in plain["classes"].items()}
    output.write_json(file, plain)
    if json:
        output.print_json({**plain, "run": str(path), "card": str(file)})
    else:
        print(found)
        print(f"card: {file}")
    return 0


def _lengths(text: str) -> list[int]:
    found = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        if not word.isdecimal() or int(word) < 1:
            raise ConfigError(f"--classes expected whole numbers of at least 1 with commas between, got {text!r}")
        found.append(int(word))
    if not found:
        raise ConfigError("--classes expected numbers such as 50,100,600, got none")
    return list(dict.fromkeys(found))
