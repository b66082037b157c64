"""A user's own texts by class: a folder of .txt files, a table with a column of texts, lists of strings."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from innerloop.data.picture_decoding import Unreadable
from innerloop.data.picture_sources import (
    SPLIT_FOLDERS,
    TEXTS,
    PictureSource,
    clean,
    limited,
    members,
    open_source,
    printable,
    walked,
)
from innerloop.data.table_text import decoded
from innerloop.data.tables import Table, as_table, is_table, is_tabular
from innerloop.errors import InnerloopWarning, InputError, first_few

KIND, VERSION = "texts", 1  # of the record of how texts are read


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts and the class of each.

    Attributes:
        texts: without spaces around them; none is empty.
        labels: of each, or None where nobody said.
        names: of each, as its place is told: a file, or the number of a row.
        splits: the split of each class, where the data say it.
        notes: what was left out, in sentences without an end.
    """

    texts: list[str]
    labels: list[str] | None
    names: list[str]
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def preprocessing_of(column: str | None, target: str | None) -> dict[str, Any]:
    """The record of how texts are read, in JSON values: the columns of a table that hold the texts and their classes."""
    return {"kind": KIND, "version": VERSION, "column": column, "target": target}


def are_texts(preprocessing: Mapping[str, Any] | None) -> bool:
    """Whether a learner's inputs are texts, by the record of its inputs."""
    return (preprocessing or {}).get("kind") == KIND


def read_texts(given: Any, column: str | None = None, target: str | None = None, labelled: bool = True) -> Texts:
    """Texts from wherever a user has them.

    Args:
        given: strings; or a folder or .zip with one subfolder of .txt files a class, or with one .txt file a class and one text
            a line; one .txt file; or a table (a path, a data frame, columns by name).
        column: of a table, the one with the texts; None: its only column beside the target.
        target: of a table, the one with the classes.
        labelled: the classes are wanted; else they may be missing.

    Raises:
        InputError: nothing there, no texts, no classes where they are wanted, or a file that is no text.
    """
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, list | tuple) and not (given and all(isinstance(v, Path) for v in given)):
        return _listed(given)
    if is_tabular(given) or isinstance(given, Mapping) or (isinstance(given, str | Path) and is_table(given)):
        return _of_table(as_table(given), column, target, labelled)
    if isinstance(given, list | tuple):
        files = [(str(path), limited(Path(path))) for path in given]
        return _whole(files)
    if not isinstance(given, str | Path):
        raise InputError(f"expected a list of texts, a folder or a table, got {type(given).__name__}; give a list")
    path = Path(given)
    if not labelled and path.is_file() and path.suffix.lower() in TEXTS.suffixes:
        return _whole([(printable(path), limited(path))])
    if not labelled and path.is_dir():
        files = sorted(path / name for name in walked(path).files if TEXTS.reads(name))
        if not files:
            raise InputError(f"{path} expected texts (.txt), got none; add some")
        return _whole([(printable(file), limited(file)) for file in files])
    if not path.exists():
        raise InputError(
            f"expected texts: a folder, a table or a list of strings, got nothing at {str(path)!r}; check the path"
        )
    return _of_folder(path)


def _listed(given: Sequence[Any]) -> Texts:
    """Strings that a program has in memory."""
    for i, text in enumerate(given):
        if not isinstance(text, str) or not text.strip():
            got = "an empty text" if isinstance(text, str) else type(text).__name__
            raise InputError(f"expected a list of texts, got {got} at {i}; leave it out")
    return Texts([text.strip() for text in given], None, [str(i + 1) for i in range(len(given))])


def _whole(files: Sequence[tuple[str, bytes]]) -> Texts:
    """One text a file."""
    texts = [decoded(data, name, None).strip() for name, data in files]
    for (name, _), text in zip(files, texts, strict=True):
        if not text:
            raise InputError(f"{name} expected a text, got an empty file; remove it")
    return Texts(texts, None, [name for name, _ in files])


def _of_table(table: Table, column: str | None, target: str | None, labelled: bool) -> Texts:
    if target is not None and (labelled or target in table.columns):
        table.expect(target)
    if column is None or (column not in table.columns and target is None):
        others = [name for name in table.columns if name not in (target, *table.index)]
        written = [name for name in others if not table.is_number(name)]
        if len(written) != 1 and len(others) != 1:
            raise InputError(
                f"{table.name} expected one column of texts{f' beside {target!r}' if target else ''}, got {first_few(others)}; "
                "say which it is (--text COLUMN)"
            )
        column = (written if len(written) == 1 else others)[0]
    table.expect(column)
    if column == target:
        raise InputError(f"{table.name} expected one column of texts and one of classes, got {column!r} for both")
    texts = [None if cell is None else str(cell).strip() for cell in table.texts[column]]
    labels = table.labels(target).tolist() if target is not None and target in table.columns else None
    if labels is None and labelled:
        raise InputError(
            f"{table.name} expected a column with the classes of its texts; say which it is (--target COLUMN)"
        )
    lacking = [i for i, text in enumerate(texts) if not text or (labels is not None and labels[i] is None)]
    if lacking and not labelled:
        raise InputError(
            f"{table.name} row {lacking[0] + 1}: expected a text in {column!r}, got an empty cell; leave it out"
        )
    notes = [f"left out {len(lacking)} of {table.rows} rows, without a text or a class"] if lacking else []
    kept = sorted(set(range(table.rows)) - set(lacking))
    return Texts(
        [str(texts[i]) for i in kept],
        None if labels is None else [str(labels[i]) for i in kept],
        [str(i + 1) for i in kept],
        notes=tuple(notes),
    )


def _of_folder(path: Path) -> Texts:
    """A folder or a zip: of class folders with a text a file, or of class files with a text a line."""
    names = list(walked(path).files) if path.is_dir() else [m.filename for m in members(path)] if _is_zip(path) else []
    inside = [PurePosixPath(name) for name in names if TEXTS.reads(name)]
    above = {file.parts[0].lower() for file in inside if len(file.parts) == 2}
    by_split = len(above) > 1 and "train" in {SPLIT_FOLDERS.get(name) for name in above} and above <= set(SPLIT_FOLDERS)
    if inside and (
        all(len(file.parts) == 1 for file in inside) or (by_split and all(len(f.parts) == 2 for f in inside))
    ):
        if not path.is_dir():
            raise InputError(f"{path} expected one subfolder a class, got one file a class; unpack it")
        return _of_lines(path, inside)
    source = open_source(path, kind=TEXTS)
    texts, labels, files, empty = [], [], [], []
    for label, own in source.classes.items():
        for name in own:
            text = decoded(_content(source, name), printable(path / name), None).strip()
            if text:
                texts.append(text)
                labels.append(label)
                files.append(printable(name))
            else:
                empty.append(printable(name))
    notes = [*source.notes]
    if empty:
        notes.append(f"left out {len(empty)} empty texts ({first_few(empty)})")
    if source.empty:
        notes.append(f"left out {len(source.empty)} folders without texts ({first_few(source.empty)})")
    return Texts(texts, labels, files, source.splits, tuple(notes))


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _content(source: PictureSource, name: str) -> bytes:
    try:
        return source.read(name)
    except Unreadable as error:
        raise InputError(
            f"{source.path / name} expected a text, got a file that is {error}; remove or replace it"
        ) from error


def _of_lines(path: Path, files: Sequence[PurePosixPath]) -> Texts:
    texts, labels, names, splits = [], [], [], {}
    for file in sorted(files):
        label = clean(file.stem)
        if len(file.parts) == 2:
            split = SPLIT_FOLDERS[file.parts[0].lower()]
            if splits.setdefault(label, split) != split:
                raise InputError(
                    f"{path} expected each class in one of the folders train, valid and test, got {label!r} in two; few-shot "
                    "splits are by class: leave it in one"
                )
        for number, line in enumerate(decoded(limited(path / file), printable(str(path / file)), None).splitlines(), 1):
            if line.strip():
                texts.append(line.strip())
                labels.append(label)
                names.append(f"{printable(str(file))}:{number}")
    return Texts(texts, labels, names, splits, ("each .txt file is a class and each of its lines a text",))


def told(found: Texts, where: str) -> Texts:
    """``found``, after a warning for each of its notes."""
    for note in found.notes:
        warnings.warn(f"{where}: {note}", InnerloopWarning, stacklevel=3)
    return found
