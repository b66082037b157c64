"""Where a user's pictures by class lie: a folder of class folders, a zip of the same, or a CSV of path and label.

Nothing is unpacked to disk and nothing is decoded here: a source lists names by class and gives a file's bytes.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import os
import re
import struct
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

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
# As a list's header may call them, without case, spaces and signs.
_PATH_COLUMNS = (
    *("path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "imagename", "img", "imgpath"),
    *("picture", "photo", "relativepath", "relpath", "imageid", "name"),
)
_LABEL_COLUMNS = ("label", "class", "target", "labels", "classname", "labelname", "category", "species", "y")
# Files that hold pictures but are not read; said, as a class may be of them.
_FOREIGN = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".dng", ".cr2", ".nef", ".dcm", ".pdf"),
    *(".zip", ".tar", ".gz", ".7z", ".rar"),
)


class Kind(NamedTuple):
    """Of files that are read: what they are called and how their names end."""

    what: str
    suffixes: tuple[str, ...]

    def reads(self, name: str) -> bool:
        """Whether a file of this name is taken for one: by its suffix; hidden ones are not."""
        return not _hidden(name) and PurePosixPath(name).suffix.lower() in self.suffixes


PICTURES, TEXTS = Kind("pictures", SUFFIXES), Kind("texts", (".txt",))


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
        notes: what is odd about it, in sentences without an end.
    """

    path: Path
    classes: Mapping[str, list[str]]
    splits: Mapping[str, str]
    empty: tuple[str, ...]
    other: int
    stamp: str
    read: Callable[[str], bytes]
    notes: tuple[str, ...] = ()


def is_picture(name: str) -> bool:
    """Whether a file of this name is taken for a picture; see `Kind.reads`."""
    return PICTURES.reads(name)


def open_source(path: Path, levels: int | None = None, kind: Kind = PICTURES) -> PictureSource:
    """The pictures (or other files of one kind) by class at ``path``.

    Args:
        path: a folder, a .zip file, or, of pictures, a text table (.csv, .tsv) with the columns path and label.
        levels: how many folders, one in another, name a class; None: as many as lead to the picture that lies highest.
        kind: of the files.

    Raises:
        InputError: nothing there, no subfolders, no pictures, or a damaged zip or CSV file.
    """
    if path.is_dir():
        return _folder(path, levels, kind)
    if not path.is_file():
        raise InputError(f"expected a folder, .zip or .csv file of {kind.what} by class, got nothing at {str(path)!r}")
    if path.suffix.lower() == ".zip":
        return _zip(path, levels, kind)
    if path.suffix.lower() in (".csv", ".tsv", ".tab") and kind is PICTURES:
        return _listed(path)
    raise InputError(
        f"{path} expected a folder with one subfolder a class, a .zip of the same or a .csv of path,label, "
        "got another kind of file; put each class into a folder of its own"
    )


class Walked(NamedTuple):
    """What lies below a folder, hidden names left out; links are followed wherever they lead.

    Attributes:
        files: name (with / between folders) -> size and time; "absent" where a link leads nowhere.
        folders: names of all folders.
        notes: folders that are there twice, by a link, and links that lead nowhere.
    """

    files: dict[str, str]
    folders: list[str]
    notes: list[str]


def walked(path: Path) -> Walked:
    """What lies below the folder ``path``.

    Raises:
        InputError: a link that leads into itself, or a folder that may not be read.
    """
    found = Walked({}, [], [])
    names: dict[tuple[int, int], str] = {}
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        inside, above = pending.pop()
        here = path / inside
        try:
            state = here.stat()
            entries = sorted(os.scandir(here), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            raise InputError(f"{here} expected a folder that can be read, got: {error.strerror}; mend that") from error
        own = (state.st_dev, state.st_ino)
        if own in above:
            raise InputError(f"{here} expected a folder, got a link to one that holds it, without end; remove the link")
        if names.setdefault(own, inside) != inside:
            found.notes.append(
                f"{inside} is the same folder as {names[own]}, by a link, so its pictures are there twice"
            )
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{inside}/{entry.name}" if inside else entry.name
            try:
                if entry.is_dir():
                    found.folders.append(name)
                    pending.append((name, above | {own}))
                    continue
                state = entry.stat()
                found.files[name] = f"{state.st_size} {state.st_mtime_ns}"
            except OSError as error:  # a link to nothing, or gone since
                if error.errno == errno.ELOOP:
                    raise InputError(
                        f"{path / name} expected a file, got a link that leads to itself; remove it"
                    ) from error
                if is_picture(name):
                    found.files[name] = "absent"
                else:
                    found.notes.append(f"{name} is a link that leads nowhere")
    return found


def _folder(path: Path, levels: int | None, kind: Kind) -> PictureSource:
    found = walked(path)
    return _made(path, found.files, found.folders, levels, kind, lambda name: limited(path / name), found.notes)


def limited(file: Path) -> bytes:
    """A file's bytes.

    Raises:
        Unreadable: there is no such file, or it may not be read or is too large.
    """
    try:
        if not file.is_file():  # nor does a pipe's name wait for somebody to write
            raise Unreadable("not there" if not file.is_symlink() else "a link that leads nowhere")
        with file.open("rb") as opened:
            found = opened.read(MOST_BYTES + 1)
    except ValueError as error:  # a name that no file can have
        if isinstance(error, Unreadable):
            raise
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


def _zip(path: Path, levels: int | None, kind: Kind) -> PictureSource:
    listed = {_name(member): member for member in members(path)}
    folders = [name.rstrip("/") for name in listed if name.endswith("/")]
    files = {name: f"{m.file_size} {m.CRC}" for name, m in listed.items() if not name.endswith("/")}
    if any(listed[name].flag_bits & 1 for name in files if kind.reads(name)):
        raise InputError(
            f"{path} expected a zip without a password, got an encrypted one; unpack it or pack it without"
        )
    archives: list[zipfile.ZipFile] = []

    def read(name: str) -> bytes:
        if not archives:
            archives.append(zipfile.ZipFile(path))
        try:
            with archives[0].open(listed[name]) as file:
                found = file.read(MOST_BYTES + 1)  # the table of contents may say less than there is
        except MemoryError:
            raise
        except Exception as error:  # damage shows in many ways: checksums, lengths, names, methods of packing
            raise Unreadable(f"damaged in the zip ({str(error)[:60]})") from error
        return _within(found)

    return _made(path, files, folders, levels, kind, read, [])


def _name(member: zipfile.ZipInfo) -> str:
    """A member's name with / between folders, in UTF-8 also where the zip does not say that it is."""
    name = member.filename
    if not member.flag_bits & 0x800:  # APPNOTE.TXT, appendix D: else code page 437, as the reader took it
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")  # as some programs on Windows pack


def printable(name: str | Path) -> str:
    """A file's name as text that can be written: bytes of a name that are not UTF-8 as \\udcXX."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def clean(name: str) -> str:
    """A class name as it is told apart from others: composed characters, no spaces around it."""
    return printable(unicodedata.normalize("NFC", name).strip() or name)


def _classes(labels: Mapping[str, str]) -> tuple[dict[str, list[str]], list[str]]:
    """Names of pictures by class, both sorted, and notes on classes that are nearly called the same; from name -> label."""
    classes: dict[str, list[str]] = {}
    written: dict[str, set[str]] = {}
    folded: dict[str, set[str]] = {}
    for name, label in labels.items():
        label_ = "/".join(clean(part) for part in label.split("/"))
        classes.setdefault(label_, []).append(name)
        written.setdefault(label_, set()).add(label)
        folded.setdefault(label_.casefold(), set()).add(label_)
    notes = [f"the classes {_quoted(w)} are taken for one, {name!r}" for name, w in written.items() if len(w) > 1]
    notes += [f"the classes {_quoted(same)} differ in case only" for same in folded.values() if len(same) > 1]
    return {label: sorted(classes[label]) for label in sorted(classes)}, notes


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(map(repr, sorted(names)))


def _made(
    path: Path,
    files: Mapping[str, str],
    folders: Sequence[str],
    levels: int | None,
    kind: Kind,
    read: Callable[[str], bytes],
    notes: Sequence[str],
) -> PictureSource:
    """Sort files into classes by their folders."""
    pictures = sorted(name for name in files if kind.reads(name))
    foreign = Counter(PurePosixPath(name).suffix.lower() for name in files if not _hidden(name))
    foreign = {kind: count for kind, count in foreign.items() if kind in _FOREIGN}
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(foreign.items()))
    if not pictures:
        raise InputError(
            f"{path} expected one subfolder a class with {kind.what} in it ({', '.join(kind.suffixes)}), got no {kind.what}"
            f"{f' but files that are not read ({told}); unpack or convert them' if told else '; sort them into folders'}"
        )
    parts = {name: PurePosixPath(name).parts for name in pictures}
    start = 0  # folders that hold everything say nothing: a zip often has one
    while len({p[start] for p in parts.values()}) == 1 and min(map(len, parts.values())) > start + 2:
        start += 1
    splits_here = {clean(p[start]).lower() for p in parts.values() if len(p) > start + 2}
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
            f"{path} expected one subfolder a class with {kind.what} in it, got {kind.what} outside of any ({loose}); "
            "put each class into a folder of its own"
        )
    if levels is not None:
        if not 1 <= levels <= depth:
            raise InputError(f"{path}: levels expected 1 to {depth}, the folders above every picture, got {levels}")
        depth = levels
    classes, near = _classes({name: "/".join(p[begin : begin + depth]) for name, p in parts.items()})
    notes = [*notes, *near]
    splits: dict[str, str] = {}
    if in_splits:
        lying = {
            label: {SPLIT_FOLDERS[clean(parts[name][start]).lower()] for name in names}
            for label, names in classes.items()
        }
        splits = _splits(path, lying)
        if not splits:
            notes.append("each class lies in every split's folder, so they are put together and split by class")
    if told:
        notes.append(f"left out files that are not read ({told}); unpack or convert them")
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
        classes,
        splits,
        tuple("/".join(PurePosixPath(f).parts[begin:]) for f in empty),
        len(files) - len(pictures),
        digest.hexdigest(),
        read,
        tuple(notes),
    )


def _splits(path: Path, lying: Mapping[str, set[str]]) -> dict[str, str]:
    """The split of each class by the folders it lies in; none where all lie in all, the usual layout of supervised learning.

    Raises:
        InputError: only some classes lie in more than one.
    """
    twice = [label for label, splits in lying.items() if len(splits) > 1]
    if len(twice) == len(lying) and len({frozenset(splits) for splits in lying.values()}) == 1:
        return {}
    if twice:
        raise InputError(
            f"{path} expected each class in one of the folders train, valid and test, got {twice[0]!r} in "
            f"{' and '.join(sorted(lying[twice[0]]))}{f' ({len(twice)} such classes)' if len(twice) > 1 else ''}; few-shot "
            "splits are by class: leave it in one"
        )
    return {label: next(iter(splits)) for label, splits in lying.items()}


def _hidden(folder: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(folder).parts)


def _picture_columns(header: Sequence[str], first: Sequence[str]) -> tuple[int, int] | None:
    """The places of the path and the label column of a list, by its header and first row; None where it has not both."""
    names = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]
    paths = [i for i, name in enumerate(names) if name in _PATH_COLUMNS]
    label = next((names.index(c) for c in _LABEL_COLUMNS if c in names), None)
    if not paths or label is None:
        return None
    return next((i for i in paths if i < len(first) and _names_picture(first[i])), paths[0]), label


def _names_picture(cell: str) -> bool:
    return PurePosixPath(cell.strip().replace("\\", "/")).suffix.lower() in SUFFIXES


def lists_pictures(path: Path) -> bool:
    """Whether a text table is a list of pictures: columns for path and label and a picture's name, or no header."""
    try:
        with path.open("rb") as file:
            data = file.read(1 << 16)
    except OSError:
        return False
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")
    for separator in ",;\t|":
        with contextlib.suppress(csv.Error):
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            header, first = next(rows, []), next(rows, [])
            if len(header) > 1 and _names_picture(header[0]):
                return True
            places = _picture_columns(header, first)
            if places is not None and len(first) > places[0] and _names_picture(first[places[0]]):
                return True
    return False


def _listed(path: Path) -> PictureSource:
    """A table of path,label (and maybe split); paths are relative to the file."""
    from innerloop.data.tables import read_written

    table = read_written(path)
    rows = list(table.rows)
    places = _picture_columns(table.columns, rows[0] if rows else ())
    if places is None:
        got = ", ".join(table.columns)
        missing = any(map(_names_picture, table.columns))
        fix = "write path,label above the first row" if missing else "rename them"
        raise InputError(f"{path} expected the columns path and label, got {got}; {fix}")
    lowered = [name.strip().lower() for name in table.columns]
    at_split = lowered.index("split") if "split" in lowered else None
    labels: dict[str, str] = {}
    splits: dict[str, str] = {}
    files: dict[str, Path] = {}
    seen: dict[str, str] = {}
    digest = hashlib.blake2b(path.read_bytes(), digest_size=8)
    for number, row in enumerate(rows, start=1):
        name, label = row[places[0]].strip(), clean(row[places[1]])
        if not name or not label.strip():
            raise InputError(f"{path} row {number} expected a path and a label, got {','.join(row)!r}; mend that row")
        file = _located(path.parent, name)
        place = os.path.normpath(file)
        before = seen.get(place)
        if before not in (None, label):
            raise InputError(f"{path} expected one label a picture, got {before!r} and {label!r} for {name}; mend one")
        if at_split is not None:
            split = SPLIT_FOLDERS.get(row[at_split].strip().lower())
            if split is None or splits.setdefault(label, split) != split:
                raise InputError(
                    f"{path} row {number} expected train, valid or test in the column split, the same for all pictures "
                    f"of {label!r}, got {row[at_split]!r}; few-shot splits are by class"
                )
        if before is not None:
            continue
        seen[place], labels[name], files[name] = label, row[places[1]], file
        try:
            found = file.stat()
            digest.update(f"{name} {found.st_size} {found.st_mtime_ns}".encode())
        except (OSError, ValueError):
            digest.update(b"absent")
    classes, notes = _classes(labels)
    return PictureSource(
        path, classes, splits, (), 0, digest.hexdigest(), lambda name: limited(files[name]), tuple(notes)
    )


def _located(folder: Path, name: str) -> Path:
    """The file that a cell names: as written, else with backslashes between folders, else percent-encoded, else as a URI."""
    bare = name[7:] if name.lower().startswith("file://") else name
    slashed = bare.replace("\\", "/")
    for written in (name, bare, slashed, unquote(bare), unquote(slashed)):
        with contextlib.suppress(ValueError, OSError):  # a name that no file can have
            if (folder / written).exists():
                return folder / written
    return folder / slashed
