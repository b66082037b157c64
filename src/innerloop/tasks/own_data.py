"""A path as a problem: what it holds decides who reads it. Imports nothing heavy until then."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.errors import InputError
from innerloop.tasks.in_memory import IN_MEMORY

if TYPE_CHECKING:
    from innerloop.core import TaskFamily
    from innerloop.data.check_result import CheckResult


_LOOKED_AT = 10_000  # names of files that decide what a folder holds


def looks_like_path(word: str) -> bool:
    """Whether a word stands for a file or folder: it is there, or is written like one."""
    if not word:
        return False
    separators = [os.sep, *([os.altsep] if os.altsep else [])]
    if any(s in word for s in separators) or word[0] in ".~" or word.lower().endswith(".zip"):
        return True
    from innerloop.data.tables import is_table

    return is_table(word) or Path(word).exists()


def refuse_memory(name: str) -> None:
    """Raise ConfigError for the name of a problem that was made from arrays: no command can make it again."""
    from innerloop.errors import ConfigError

    if name.startswith(IN_MEMORY):
        raise ConfigError(
            f"expected a problem by name or path, got {name!r}, arrays that a run does not hold; go on from Python, with the "
            "problem that `from_arrays` made"
        )


def existing(word: str | Path) -> Path:
    """The absolute path of a file or folder that is there.

    Raises:
        InputError: nothing there.
    """
    path = Path(word).expanduser()
    if not path.exists():
        raise InputError(f"expected a folder or a file of tasks, got nothing at {str(word)!r}; check the path")
    return path.resolve()


def holds(path: Path) -> str:
    """ "pictures", "tables" or "texts".

    Raises:
        InputError: none of these.
    """
    from innerloop.data.tables import is_table

    name = path.name.lower()
    if path.is_file() and is_table(name):
        from innerloop.data.picture_sources import lists_pictures

        return "pictures" if name.endswith((".csv", ".tsv", ".tab")) and lists_pictures(path) else "tables"
    if path.is_dir():
        kinds = _kinds(_names(path))
    elif name.endswith(".zip"):
        from innerloop.data.picture_sources import members

        kinds = _kinds(member.filename for member in members(path))
    else:
        raise InputError(
            f"{path} expected a folder, a .zip, or a table (.csv, .tsv, .parquet), got another kind of file; see "
            "docs/own-data.md"
        )
    if kinds:
        return next(kind for kind in ("pictures", "tables", "texts") if kind in kinds)
    raise InputError(
        f"{path} expected pictures or texts (.txt) in one subfolder a class, or tables (.csv, .tsv, .parquet), got none of these "
        "(a zip inside a zip is not unpacked); check the path"
    )


def _names(folder: Path) -> Iterable[str]:
    seen = 0
    for where, below, names in os.walk(folder, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in (None, *sorted(names)):
            seen += 1  # folders too: a link may lead into itself, which the reader refuses
            if seen > _LOOKED_AT:
                return
            if name is None:
                continue
            yield (Path(where).relative_to(folder) / name).as_posix()


def _kinds(names: Iterable[str]) -> set[str]:
    from innerloop.data.picture_sources import TEXTS, is_picture
    from innerloop.data.tables import is_table

    found: set[str] = set()
    for name in names:
        if is_picture(name):
            return {"pictures"}
        if is_table(name) and not Path(name).name.startswith("."):
            found.add("tables")
        if TEXTS.reads(name) and len(Path(name).parts) > 1:  # loose ones are notes on what lies beside them
            found.add("texts")
        elif TEXTS.reads(name):
            found.add("loose texts")
    if found == {"loose texts"}:
        return {"texts"}
    return found - {"loose texts"}


def packed(path: Path) -> Path:
    """``path``, or the one zip in a folder that has neither pictures nor tables beside it (a download as it came)."""
    if path.is_dir() and not _kinds(_names(path)):
        zips = [p for p in path.iterdir() if p.suffix.lower() == ".zip"]
        if len(zips) == 1:
            return zips[0]
    return path


@functools.lru_cache(maxsize=64)
def _factory(path: Path) -> Callable[..., TaskFamily]:
    if holds(path) == "pictures":
        from innerloop.tasks.pictures.own import picture_family

        return picture_family
    if holds(path) == "texts":
        from innerloop.tasks.own_texts import text_family

        return text_family
    from innerloop.tasks.tables.own import table_family

    return table_family


def factory_of(path: str | Path) -> Callable[..., TaskFamily]:
    """What makes the problem of this path: ``factory(path, **options)``; its keyword arguments are the problem's options.

    Raises:
        InputError: nothing there, or neither pictures nor tables.
    """
    return _factory(packed(existing(path)))


def from_path(path: str | Path, **options: Any) -> TaskFamily:
    """The problem that a file or folder of yours holds: pictures or texts by class, or tables.

    Args:
        path: a folder with one subfolder of pictures or .txt files a class, a .zip of the same, a .csv of path,label; or a
            table (.csv, .tsv, .parquet) or a folder of tables.
        options: those of `pictures.own.picture_family`, `own_texts.text_family` or `tables.own.table_family`.

    Raises:
        InputError: nothing there, neither pictures nor tables, or what their readers refuse.
        ConfigError: an unknown option.
    """
    import inspect

    from innerloop.errors import ConfigError, nearest

    found = packed(existing(path))
    factory = _factory(found)
    known = [p.name for p in inspect.signature(factory).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise ConfigError(f"the problem {str(path)!r} has no option {name!r}: {nearest(name, known)}")
    # The name is what was given: a run's record must lead back here.
    return factory(found, **options)._replace(name=str(existing(path)))


def check(path: str | Path, **options: Any) -> CheckResult:
    """What `innerloop data check` says about a path; options as for `from_path`.

    Raises:
        InputError: nothing there, neither pictures nor tables, or what their readers refuse.
    """
    found = packed(existing(path))
    if holds(found) == "pictures":
        from innerloop.tasks.pictures.check import check_pictures

        return check_pictures(found, **options)
    if holds(found) == "texts":
        from innerloop.tasks.own_texts import check_texts

        return check_texts(found, **options)
    from innerloop.tasks.tables.own import check as check_tables

    return check_tables(found, **options)
