"""`innerloop data fetch NAME` downloads a data set; `innerloop data check PATH` says what a path holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerloop.cli import output, parts, program
from innerloop.cli.options import own_flags
from innerloop.errors import ConfigError, InputError
from innerloop.tasks import own_data

_USAGE = "data check PATH [OPTIONS]"

_HELP = """Usage: innerloop data fetch NAME     download a data set to INNERLOOP_DATA, checked
       innerloop data check PATH     what a folder of classes, a table or a data set's zip holds

Data sets: {names}"""


def data(argv: Sequence[str]) -> int:
    """Pick fetch or check."""
    from innerloop.data.downloads import DATASETS

    if not argv:
        raise ConfigError("expected `data fetch NAME` or `data check PATH`, got nothing; see innerloop data --help")
    if argv[0] in ("--help", "-h"):
        print(_HELP.format(names=", ".join(DATASETS)))
        return 0
    if argv[0] == "check":
        return _check_argv(argv[1:])
    if argv[0] != "fetch":
        hint = program.closest(argv[0], ["fetch", "check"], "see innerloop data --help")
        raise ConfigError(f"unknown action {argv[0]!r}: {hint}")
    return program.run("data fetch", _fetch, argv[1:])


def _fetch(name: str, /) -> int:
    """Download a data set to the folder INNERLOOP_DATA; what is there already and right is kept.

    Args:
        name: of the data set, such as omniglot.
    """
    from innerloop.data.downloads import fetch

    done = fetch(name)
    for what, files in (("downloaded", done.downloaded), ("already there", done.present)):
        if files:
            print(f"{what}: {', '.join(files)}")
    print(f"folder: {done.folder}")
    return 0


def _check_argv(argv: Sequence[str]) -> int:
    """The flags are the command's own and those of what the path holds."""
    words, own = program.dashed(argv), own_flags(_check)
    found, rest = program.split(words, own, 1)
    asked = bool({"--help", "-h"} & set(words))
    if asked and not (found and Path(found[0]).exists()):
        made = parts.parts({"tasks": None}, own)
        return program.run("data check", made.command(_check, Path(), None, made), ["--help"], usage=_USAGE)
    if not found:
        raise ConfigError(
            "expected PATH, a folder or a file, got nothing; for example: innerloop data check my-pictures"
        )
    path = own_data.existing(found[0])
    official = None if asked else _official(path)
    made = parts.parts({"tasks": None if official is not None else str(path)}, own)
    found, rest = program.split(words, {**made.arity(), **own}, 1)
    return program.run("data check", made.command(_check, path, official, made), rest, usage=_USAGE)


def _check(
    path: Path,
    official: dict[str, object] | None,
    made: parts.Parts,
    records: dict[str, Any],
    /,
    *,
    out: Path | None = None,
    force: bool = False,
    json: bool = False,
) -> int:
    """Say what a folder of classes, a zip, a table or a data set's file holds.

    How many classes, examples and tasks, which ways and shots are possible, what is there twice, what was left out and why, and
    the command to train on it. Flags of the problem are tried out as train would take them. Exit code 2 where it cannot be used.

    Args:
        out: A PNG file to draw sample tasks to, where the tasks are of pictures.
        force: Overwrite it.
        json: Print one JSON object and nothing else.
    """
    if official is not None:
        return _told_official(official, json)
    if out is not None:
        output.new_file(out, force)
    result = own_data.check(path, **made.merged(records).get("tasks", {}))
    if out is not None:
        _draw(result.family, out)
    if json:
        more = {} if out is None else {"picture": str(out)}
        output.print_json({**result.facts, "command": result.command, **more})
        return 0
    for line in result.lines:
        print(line)
    if out is not None:
        print(f"picture of sample tasks: {out}")
    if result.command:
        print(f"next: {result.command}")
    return 0


def _draw(family: Any, out: Path) -> None:
    from innerloop.report import style
    from innerloop.report.image_tasks import task_sheet

    if family is None:
        raise InputError("--out expected tasks of pictures, got data that makes none; leave out --out")
    drawn = style.png(task_sheet(family.train))
    with output.writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(drawn)


def _official(path: Path) -> dict[str, object] | None:
    """What is known of a file or folder of a data set that `data fetch` brings; None for anything else."""
    from innerloop.data import downloads

    official = {file.name: file for dataset in downloads.DATASETS.values() for file in dataset.files}
    if path.is_file() and path.name in official:
        downloads._content_check(official[path.name])(path)
        return {"path": str(path), "kind": "data set file", "state": "complete"}
    if path.is_dir() and any((path / name).exists() for name in official):
        present = [name for name in official if (path / name).exists()]
        for name in present:
            downloads._content_check(official[name])(path / name)
        return {"path": str(path), "kind": "data set folder", "complete": ", ".join(present)}
    return None


def _told_official(found: dict[str, object], as_json: bool) -> int:
    if as_json:
        output.print_json(found)
    else:
        for key, value in found.items():
            print(f"{key}: {value}")
    return 0
