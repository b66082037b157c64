"""`innerloop data fetch NAME`: the only code that downloads. Files keep official names and are checked."""

from __future__ import annotations

import hashlib
import importlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from innerloop.data.locations import data_folder
from innerloop.errors import ConfigError, InputError, nearest


class RemoteFile(NamedTuple):
    """One file of a data set.

    Attributes:
        name: what it is called in the data set's folder.
        url: where it comes from.
        md5: its published MD5, "" where none is published.
        check: "module:function"; takes a path and raises InputError when its contents are not right.
    """

    name: str
    url: str
    md5: str
    check: str


class RemoteDataset(NamedTuple):
    """What `data fetch` can bring: lies in INNERLOOP_DATA/<its name>."""

    summary: str
    licence: str
    files: tuple[RemoteFile, ...]


_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"

DATASETS: dict[str, RemoteDataset] = {
    "omniglot": RemoteDataset(
        summary="1,623 handwritten characters of 50 alphabets, 20 drawings each; the official one-shot runs",
        licence="MIT, Brenden Lake",
        files=(
            RemoteFile(
                "images_background.zip",
                _OMNIGLOT + "images_background.zip",
                "68d2efa1b9178cc56df9314c21c6e718",
                "innerloop.data.omniglot_archive:check_background",
            ),
            RemoteFile(
                "images_evaluation.zip",
                _OMNIGLOT + "images_evaluation.zip",
                "6b91aef0f799c5bb55b94e3f2daec811",
                "innerloop.data.omniglot_archive:check_evaluation",
            ),
            RemoteFile(
                "one_shot_all_runs.zip",
                _OMNIGLOT + "one-shot-classification/all_runs.zip",
                "",
                "innerloop.data.lake_runs:check_runs",
            ),
        ),
    ),
}


class Fetched(NamedTuple):
    """What `fetch` did.

    Attributes:
        folder: where the files lie.
        downloaded: names of the files that were downloaded.
        present: names of the files that were there already and right.
    """

    folder: Path
    downloaded: tuple[str, ...]
    present: tuple[str, ...]


def _content_check(file: RemoteFile) -> Callable[[Path], None]:
    module, function = file.check.split(":")
    return getattr(importlib.import_module(module), function)


def _is_right(path: Path, file: RemoteFile) -> bool:
    """Whether a file already there will do: the published hash, or else the right contents."""
    if not path.is_file():
        return False
    if file.md5 and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == file.md5:
        return True
    try:
        _content_check(file)(path)
    except InputError:
        return False
    return True


def _download(file: RemoteFile, target: Path) -> None:
    """Download to a neighbouring name, check, rename: ``target`` is never half a file, nor a wrong one."""
    import logging

    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    by_hand = f"download it by hand to {target}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
            try:
                path = pooch.retrieve(
                    file.url,
                    known_hash=f"md5:{file.md5}" if file.md5 else None,
                    fname=file.name,
                    path=folder,
                    downloader=pooch.HTTPDownloader(timeout=30),  # pyright: ignore[reportArgumentType]
                )
            except ValueError as error:  # pooch's word for a hash that does not match
                raise InputError(
                    f"{file.url} expected a file with MD5 {file.md5}, got another; try again later or {by_hand}"
                ) from error
            try:
                _content_check(file)(Path(path))
            except InputError as error:
                raise InputError(
                    f"{file.url} expected the official {file.name}, got something else; try again later or {by_hand}"
                ) from error
            os.replace(path, target)
    except InputError:
        raise
    except OSError as error:  # of the network (requests') or of the disk
        if error.errno is not None and error.filename is not None:
            raise InputError(
                f"expected to write {target}, got: {error.strerror}; free space, change the folder's "
                "permissions or set INNERLOOP_DATA to another folder"
            ) from error
        raise InputError(
            f"expected to download {file.url}, got {type(error).__name__}; check the connection or {by_hand}"
        ) from error


def fetch(name: str, report: Callable[[str], None] | None = None) -> Fetched:
    """Bring a data set into INNERLOOP_DATA; what is there and right stays as it is.

    Args:
        name: a name of DATASETS.
        report: called with a line of text before each download.

    Raises:
        ConfigError: an unknown name.
        InputError: no connection, wrong contents, no room or permission to write; it says what to do.
    """
    if name not in DATASETS:
        raise ConfigError(f"unknown data set {name!r}: {nearest(name, DATASETS)}")
    folder = data_folder() / name
    downloaded, present = [], []
    for file in DATASETS[name].files:
        target = folder / file.name
        if _is_right(target, file):
            present.append(file.name)
            continue
        if report is not None:
            report(f"downloading {file.url}")
        _download(file, target)
        downloaded.append(file.name)
    return Fetched(folder, tuple(downloaded), tuple(present))
