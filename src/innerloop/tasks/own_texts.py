"""A user's own texts as a problem: each text is the features that a trained, frozen network gives of it."""

from __future__ import annotations

import shlex
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerloop.core import TaskFamily
from innerloop.data.check_result import CheckResult
from innerloop.data.labelled import Labelled, by_class
from innerloop.data.texts import Texts, preprocessing_of, read_texts, told
from innerloop.errors import ConfigError, InputError, first_few
from innerloop.models.embeddings import frozen
from innerloop.tasks.pictures.own import OwnArrayTasks, cut, own_family
from innerloop.tasks.precision import DtypeName, dtype_named
from innerloop.tasks.split_sizes import Sizes

SENTENCES = "sentences"


def text_family(
    path: str | Path,
    *,
    text: str | None = None,
    target: str | None = None,
    ways: int | None = None,
    shots: int = 5,
    queries: int | None = None,
    train_ways: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    valid_classes: int | Sequence[str] | None = None,
    test_classes: int | Sequence[str] | None = None,
    split_by: str | None = None,
    split_seed: int = 0,
    shuffled: bool = False,
    embedding: str = SENTENCES,
    dtype: DtypeName | None = None,
    separator: str | None = None,
    encoding: str | None = None,
) -> TaskFamily:
    """Few-shot recognition of the classes of short texts.

    Args:
        path: a folder (or .zip of it) with one subfolder of .txt files a class, or one .txt file a class with a text a line; or
            a table.
        text: of a table, the column of texts; None: its only one.
        target: of a table, the column of classes.
        ways: classes of a task; None: five, or as many as the smallest split has.
        shots: support texts of each class.
        queries: query texts of each class; None: fifteen, or as many as nine classes in ten have left.
        train_ways, train_shots, train_queries: those of training tasks, where they differ.
        valid_classes, test_classes: how many classes, or their names or patterns; None: the folders valid and test, else a
            fifth; 0: none of their own.
        split_by: of a table, a column that says train, valid or test, the same for all texts of a class.
        split_seed: of which classes go where, together with their names.
        shuffled: examples in random order instead of class by class.
        embedding: the trained network that reads the texts, frozen (`il.models.pretrained`).
        dtype: of the features, "float32" or "float64"; None: torch's default.
        separator, encoding: of text tables; to be given if they are guessed wrongly.

    Returns:
        Features of length one, computed once for each text and kept in the cache folder.

    Raises:
        InputError: nothing there, no texts, one class only, too few classes or texts.
        ConfigError: an option out of range, or an embedding of pictures.
    """
    options: dict[str, Any] = {key: value for key, value in locals().items() if key != "path"}
    path = Path(path).expanduser()
    found = told(_read(path, text, target, split_by, separator, encoding), str(path))
    start = time.perf_counter()
    net = frozen(embedding)
    assert found.labels is not None
    data = by_class(Labelled(net.of_texts(found.texts), found.labels))
    if data.num_classes < 2:
        raise InputError(f"{path} expected at least two classes, got one ({data.names[0]!r}); add texts of others")
    return own_family(
        str(path.resolve()),
        data,
        cut(str(path), data.names, found.splits, valid_classes, test_classes, split_seed),
        Sizes(ways, shots, queries, train_ways, train_shots, train_queries),
        title=path.stem if path.is_file() else path.resolve().name,
        make=OwnArrayTasks,
        shuffled=shuffled,
        dtype=dtype_named(dtype),
        preprocessing={**preprocessing_of(text, target), "embedding": net.record()},
        preparation_seconds=time.perf_counter() - start,
        options={key: list(v) if isinstance(v, tuple) else v for key, v in options.items()},
    )


def _read(
    path: Path, text: str | None, target: str | None, split_by: str | None, separator: str | None, encoding: str | None
) -> Texts:
    from innerloop.data.tables import is_table, read_table

    if not is_table(path):
        given = [
            flag for flag, value in (("text", text), ("target", target), ("split_by", split_by)) if value is not None
        ]
        if given:
            raise ConfigError(
                f"{given[0]} expected a table, got {path}, whose folders or files are the classes; leave it out"
            )
        return read_texts(path)
    if target is None:
        raise ConfigError(
            f"{path} expected --target, the column of the texts' classes, got none; see innerloop data check {path}"
        )
    table = read_table(path, separator=separator, encoding=encoding)
    found = read_texts(table, text, target)
    return found if split_by is None else _with_splits(found, table, split_by)


def _with_splits(found: Texts, table: Any, column: str) -> Texts:
    import dataclasses

    from innerloop.data.picture_sources import SPLIT_FOLDERS

    cells = table.labels(column)
    splits: dict[str, str] = {}
    assert found.labels is not None
    for row, label in zip(found.names, found.labels, strict=True):
        cell = cells[int(row) - 1]
        split = SPLIT_FOLDERS.get(str(cell).strip().lower())
        if split is None or splits.setdefault(label, split) != split:
            raise InputError(
                f"{table.name} row {row}: expected train, valid or test in {column!r}, the same for all texts of {label!r}, got "
                f"{cell!r}; few-shot splits are by class"
            )
    return dataclasses.replace(found, splits=splits)


def check_texts(path: Path, **options: Any) -> CheckResult:
    """What `innerloop data check` says of texts; options as for `text_family`. Reads them, and computes no features.

    Raises:
        InputError: what `text_family` refuses of them.
    """
    read = {key: options.get(key) for key in ("text", "target", "split_by", "separator", "encoding")}
    found = _read(path, **read)
    labels = found.labels or []
    counts = Counter(labels)
    if len(counts) < 2:
        raise InputError(f"{path} expected at least two classes, got one ({next(iter(counts))!r}); add texts of others")
    splits = cut(
        str(path),
        sorted(counts),
        found.splits,
        options.get("valid_classes"),
        options.get("test_classes"),
        options.get("split_seed", 0),
    )
    sizes, words = sorted(counts.values()), sorted(len(text.split()) for text in found.texts)
    seen: dict[str, set[str]] = {}
    for text, label in zip(found.texts, labels, strict=True):
        seen.setdefault(text.casefold(), set()).add(label)
    same = len(found.texts) - len(seen)
    torn = [text for text, classes in seen.items() if len(classes) > 1]
    embedding = options.get("embedding") or SENTENCES
    facts = {
        "path": str(path),
        "kind": "texts by class",
        "classes": len(counts),
        "texts": len(found.texts),
        "texts in a class": {"fewest": sizes[0], "median": statistics.median(sizes), "most": sizes[-1]},
        "words in a text": {"fewest": words[0], "median": statistics.median(words), "most": words[-1]},
        "splits": {split: [sorted(counts)[c] for c in members] for split, members in splits.items()},
        "duplicates": {"texts": same, "in several classes": len(torn)},
        "embedding": embedding,
        "notes": list(found.notes),
    }
    lines = [
        f"{path}: texts by class",
        f"{len(counts)} classes, {len(labels)} texts; {sizes[0]} to {sizes[-1]} a class, median {statistics.median(sizes):g}",
        f"{words[0]} to {words[-1]} words a text, median {statistics.median(words):g}; read by the embedding {embedding!r}",
        f"split by {'what the data say' if found.splits else 'a hash of the class names'}: "
        + ", ".join(f"{split} {len(members)}" for split, members in splits.items())
        + " classes",
    ]
    if same:
        lines.append(f"{same} texts are there more than once" + (f", {len(torn)} in several classes" if torn else ""))
    lines += [f"note: {note}" for note in found.notes]
    if torn:
        lines.append(f"note: in several classes: {first_few(torn)}")
    flags = "".join(
        f" --{key.replace('_', '-')} {shlex.quote(str(value))}" for key, value in options.items() if value is not None
    )
    return CheckResult(lines, facts, f"innerloop train protonet {shlex.quote(str(path))}{flags}")
