"""Where a user's pictures by class lie: a folder of class folders, a zip of the same, or a CSV of path and label.

Nothing is unpacked to disk and nothing is decoded here: a source lists names by class and gives a file's bytes.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from innerloop.data.picture_decoding import MOST_BYTES, SUFFIXES, Unreadable
from innerloop.errors import InputError

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
_PATH_COLUMNS = ("path", "file", "filename", "image")
_LABEL_COLUMNS = ("label", "class", "target")


@dataclasses.dataclass(frozen=True, eq=False)
class PictureSource:
    """Pictures by class, not read yet.

    Attributes:
        path: what the user named.
        classes: of each class the names of its pictures, both sorted.
        splits: the split that a class's folder lies in; empty where there are no such folders.
        empty: classes (folders) without pictures.
        other: how many files are no pictures.
        stamp: a hash of what is there (names, sizes, times or checksums): equal stamps, equal pictures.
        read: the bytes of a picture by its name; Unreadable where there are too many or they are damaged.
    """

    path: Path
    classes: Mapping[str, list[str]]
    splits: Mapping[str, str]
    empty: tuple[str, ...]
    other: int
    stamp: str
    read: Callable[[str], bytes]


def is_picture(name: str) -> bool:
    """Whether a file of this name is taken for a picture: by its suffix; hidden ones are not."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and PurePosixPath(name).suffix.lower() in SUFFIXES


def open_source(path: Path, levels: int | None = None) -> PictureSource:
    """The pictures by class at ``path``.

    Args:
        path: a folder, a .zip file, or a .csv file with the columns path and label.
        levels: how many folders, one in another, name a class; None: as many as lead to the picture that lies highest.

    Raises:
        InputError: nothing there, no subfolders, no pictures, or a damaged zip or CSV file.
    """
    if path.is_dir():
        return _folder(path, levels)
    if not path.is_file():
        raise InputError(f"expected a folder, .zip or .csv file of pictures by class, got nothing at {str(path)!r}")
    if path.suffix.lower() == ".zip":
        return _zip(path, levels)
    if path.suffix.lower() == ".csv":
        return _listed(path)
    raise InputError(
        f"{path} expected a folder with one subfolder a class, a .zip of the same or a .csv of path,label, "
        "got another kind of file; put each class into a folder of its own"
    )


def _folder(path: Path, levels: int | None) -> PictureSource:
    import os

    files: dict[str, str] = {}
    folders: list[str] = []
    for where, below, names in os.walk(path, followlinks=False):
        below[:] = sorted(name for name in below if not name.startswith("."))
        inside = Path(where).relative_to(path)
        folders += [(inside / name).as_posix() for name in below]
        for name in names:
            if not name.startswith("."):
                try:
                    found = (Path(where) / name).stat()
                except OSError:  # a link to nothing, or gone since
                    continue
                files[(inside / name).as_posix()] = f"{found.st_size} {found.st_mtime_ns}"

    def read(name: str) -> bytes:
        return _limited(path / name)

    return _made(path, files, folders, levels, read)


def _limited(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            found = opened.read(MOST_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError, ValueError) as error:  # ValueError: a name that no file can have
        raise Unreadable("not there") from error
    except OSError as error:
        raise Unreadable(str(error.strerror or error)) from error
    return _within(found)


def _within(found: bytes) -> bytes:
    if len(found) > MOST_BYTES:
        raise Unreadable(f"more than {MOST_BYTES >> 20} MiB")
    return found


def members(path: Path) -> list[zipfile.ZipInfo]:
    """What a zip's table of contents says is in it.

    Raises:
        InputError: it is no whole zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (
        zipfile.BadZipFile,
        EOFError,
        ValueError,
        LookupError,
        ArithmeticError,
        NotImplementedError,
        struct.error,
    ) as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{path} expected a complete zip file, got one that is damaged ({reason}); pack it again"
        ) from error


def _zip(path: Path, levels: int | None) -> PictureSource:
    listed = members(path)
    folders = [m.filename.rstrip("/") for m in listed if m.filename.endswith("/")]
    files = {m.filename: f"{m.file_size} {m.CRC}" for m in listed if not m.filename.endswith("/")}
    archives: list[zipfile.ZipFile] = []

    def read(name: str) -> bytes:
        if not archives:
            archives.append(zipfile.ZipFile(path))
        try:
            with archives[0].open(name) as file:
                found = file.read(MOST_BYTES + 1)  # the table of contents may say less than there is
        except MemoryError:
            raise
        except Exception as error:  # damage shows in many ways: checksums, lengths, names, methods of packing
            raise Unreadable(f"damaged in the zip ({str(error)[:60]})") from error
        return _within(found)

    return _made(path, files, folders, levels, read)


def _made(
    path: Path, files: Mapping[str, str], folders: Sequence[str], levels: int | None, read: Callable[[str], bytes]
) -> PictureSource:
    """Sort files into classes by their folders."""
    pictures = sorted(name for name in files if is_picture(name))
    if not pictures:
        raise InputError(
            f"{path} expected one subfolder a class with pictures in it ({', '.join(SUFFIXES)}), got no pictures; "
            "sort them into folders"
        )
    parts = {name: PurePosixPath(name).parts for name in pictures}
    start = 0  # folders that hold everything say nothing: a zip often has one
    while len({p[start] for p in parts.values()}) == 1 and min(map(len, parts.values())) > start + 2:
        start += 1
    splits_here = {p[start].lower() for p in parts.values() if len(p) > start + 2}
    in_splits = splits_here <= set(SPLIT_FOLDERS) and "train" in {SPLIT_FOLDERS[s] for s in splits_here}
    in_splits = (
        in_splits
        and len({SPLIT_FOLDERS[s] for s in splits_here}) > 1
        and all(len(p) > start + 2 for p in parts.values())
    )
    begin = start + 1 if in_splits else start
    depth = min(len(p) for p in parts.values()) - 1 - begin
    if depth < 1:
        loose = min(pictures, key=lambda name: len(parts[name]))
        raise InputError(
            f"{path} expected one subfolder a class with pictures in it, got pictures outside of any ({loose}); "
            "put each class into a folder of its own"
        )
    if levels is not None:
        if not 1 <= levels <= depth:
            raise InputError(f"{path}: levels expected 1 to {depth}, the folders above every picture, got {levels}")
        depth = levels
    classes: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    both: set[str] = set()
    for name, p in parts.items():
        label = "/".join(p[begin : begin + depth])
        classes.setdefault(label, []).append(name)
        if in_splits:
            split = SPLIT_FOLDERS[p[start].lower()]
            if splits.setdefault(label, split) != split:
                both.add(label)
    if both:  # the usual layout of supervised learning: the same classes everywhere; few-shot splits are by class
        splits = {}
    lead = set(pictures[0].split("/")[:start])
    known = {"/".join(p[:i]) for p in parts.values() for i in range(1, len(p))} | lead
    empty = sorted(
        f for f in folders if f not in known and not _hidden(f) and len(PurePosixPath(f).parts) == begin + depth
    )
    digest = hashlib.blake2b(digest_size=8)
    for name in pictures:
        digest.update(f"{name} {files[name]}\n".encode("utf-8", "surrogateescape"))
    return PictureSource(
        path,
        {label: classes[label] for label in sorted(classes)},
        splits,
        tuple("/".join(PurePosixPath(f).parts[begin:]) for f in empty),
        len(files) - len(pictures),
        digest.hexdigest(),
        read,
    )


def _hidden(folder: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(folder).parts)


def picture_columns(header: Sequence[str]) -> tuple[int, int] | None:
    """The places of the path and the label column in a CSV header; None where it has not both."""
    names = [name.strip().lower() for name in header]
    path = next((names.index(c) for c in _PATH_COLUMNS if c in names), None)
    label = next((names.index(c) for c in _LABEL_COLUMNS if c in names), None)
    return None if path is None or label is None else (path, label)


def lists_pictures(path: Path) -> bool:
    """Whether a CSV file is a list of pictures: columns for path and label, and a picture's name in the first row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            places = picture_columns(next(rows, []))
            first = next(rows, [])
    except (UnicodeDecodeError, csv.Error, OSError):
        return False
    return places is not None and len(first) > places[0] and is_picture(Path(first[places[0]].strip()).name)


def _listed(path: Path) -> PictureSource:
    """A CSV of path,label (and maybe split); paths are relative to the file."""
    from innerloop.data.tables import read_written

    table = read_written(path)
    places = picture_columns(table.columns)
    if places is None:
        raise InputError(f"{path} expected the columns path and label, got {', '.join(table.columns)}; rename them")
    lowered = [name.lower() for name in table.columns]
    at_split = lowered.index("split") if "split" in lowered else None
    classes: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    digest = hashlib.blake2b(path.read_bytes(), digest_size=8)
    seen: dict[str, str] = {}
    for number, row in enumerate(table.rows, start=1):
        name, label = row[places[0]].strip(), row[places[1]].strip()
        if not name or not label:
            raise InputError(f"{path} row {number} expected a path and a label, got {','.join(row)!r}; mend that row")
        if name in seen:
            if seen[name] == label:
                continue
            raise InputError(
                f"{path} expected one label a picture, got {seen[name]!r} and {label!r} for {name}; mend one"
            )
        seen[name] = label
        classes.setdefault(label, []).append(name)
        try:
            found = (path.parent / name).stat()
            digest.update(f"{name} {found.st_size} {found.st_mtime_ns}".encode())
        except (OSError, ValueError):
            digest.update(b"absent")
        if at_split is not None:
            split = SPLIT_FOLDERS.get(row[at_split].strip().lower())
            if split is None or splits.setdefault(label, split) != split:
                raise InputError(
                    f"{path} row {number} expected train, valid or test in the column split, the same for all pictures "
                    f"of {label!r}, got {row[at_split]!r}; few-shot splits are by class"
                )

    def read(name: str) -> bytes:
        return _limited(path.parent / name)

    ordered = {label: sorted(classes[label]) for label in sorted(classes)}
    return PictureSource(path, ordered, splits, (), 0, digest.hexdigest(), read)
