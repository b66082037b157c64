"""`innerloop data fetch NAME` downloads a data set; `innerloop data check PATH` says what a path holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from innerloop.cli import output, program
from innerloop.errors import ConfigError, InputError

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
    actions = {"fetch": _fetch, "check": _check}
    if argv[0] not in actions:
        raise ConfigError(
            f"unknown action {argv[0]!r}: {program.closest(argv[0], actions, 'see innerloop data --help')}"
        )
    return program.run(f"data {argv[0]}", actions[argv[0]], list(argv[1:]))


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


def _check(path: Path, /, *, json: bool = False) -> int:
    """Say what a folder of classes, a table or a data set's zip holds; exit code 2 where something is wrong
    with it.

    Args:
        path: the folder or file.
        json: print one JSON object and nothing else.
    """
    found = _described(path)
    if json:
        output.print_json(found)
    else:
        for key, value in found.items():
            print(f"{key}: {value}")
    return 0


def _described(path: Path) -> dict[str, object]:
    from innerloop.data import downloads, support_files

    if not path.exists():
        raise InputError(f"expected a folder or a file, got nothing at {str(path)!r}; check the path")
    official = {file.name: file for dataset in downloads.DATASETS.values() for file in dataset.files}
    if path.is_file() and path.name in official:
        downloads._content_check(official[path.name])(path)
        return {"path": str(path), "kind": "data set file", "state": "complete"}
    if path.is_dir() and any((path / name).exists() for name in official):
        present = [name for name in official if (path / name).exists()]
        for name in present:
            downloads._content_check(official[name])(path / name)
        return {"path": str(path), "kind": "data set folder", "complete": ", ".join(present)}
    if path.is_dir():
        pictures, names = support_files.read_classes(path, (1, 8, 8))  # small: it is the reading that is tried
        count = Counter(names)
        least, most = min(count.values()), max(count.values())
        return {
            "path": str(path),
            "kind": "folder of classes",
            "classes": len(count),
            "pictures": len(pictures),
            "fewest in a class": least,
            "most in a class": most,
        }
    table = support_files.read_table(path)
    numeric = [name for name in table.columns if _is_numeric(table, name)]
    other = [name for name in table.columns if name not in numeric]
    return {
        "path": str(path),
        "kind": "table",
        "rows": len(table.rows),
        "numeric columns": ", ".join(numeric) or "-",
        "other columns": ", ".join(other) or "-",
    }


def _is_numeric(table: object, name: str) -> bool:
    from innerloop.data import support_files

    assert isinstance(table, support_files.Table)
    try:
        support_files.features(table, leave_out=[column for column in table.columns if column != name])
    except InputError:
        return False
    return True
