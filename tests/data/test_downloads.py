"""`data fetch`: against a server on this machine, and against none."""

from __future__ import annotations

import functools
import hashlib
import http.server
import sys
import threading
from pathlib import Path

import pytest
from tiny_archives import TINY, write_tiny_omniglot

from innerloop.data import downloads, locations, omniglot_archive
from innerloop.data.downloads import RemoteDataset, RemoteFile, fetch
from innerloop.errors import ConfigError, InputError


@pytest.fixture
def server(tmp_path):
    """(folder served, its address, list of paths asked for)."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            asked.append(self.path)

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{running.server_port}/", asked
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Make a data set "tiny" of one file, kept in a data folder of this test."""
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(omniglot_archive.CONTENTS, "background", TINY)

    def make(url: str, md5: str = "") -> Path:
        file = RemoteFile(TINY.file, url, md5, "innerloop.data.omniglot_archive:check_background")
        monkeypatch.setitem(downloads.DATASETS, "tiny", RemoteDataset("tiny", "none", (file,)))
        return tmp_path / "data" / "tiny" / TINY.file

    return make


def left_behind(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir()) if target.parent.is_dir() else []


def test_downloads_once_and_keeps_what_is_right(server, register):
    folder, address, asked = server
    data = write_tiny_omniglot(folder / "official.zip").read_bytes()
    target = register(address + "official.zip", hashlib.md5(data).hexdigest())
    said = []
    assert fetch("tiny", said.append).downloaded == (TINY.file,)
    assert target.read_bytes() == data and left_behind(target) == [TINY.file]
    assert said == [f"downloading {address}official.zip"]
    assert fetch("tiny").present == (TINY.file,) and len(asked) == 1


def test_another_zip_of_the_right_contents_is_accepted(server, register, tmp_path):
    _, address, asked = server
    target = register(address + "official.zip", "0" * 32)
    target.parent.mkdir(parents=True)
    write_tiny_omniglot(target)
    assert fetch("tiny").present == (TINY.file,) and not asked


def test_a_truncated_file_is_replaced(server, register):
    folder, address, _ = server
    data = write_tiny_omniglot(folder / "official.zip").read_bytes()
    target = register(address + "official.zip")
    target.parent.mkdir(parents=True)
    target.write_bytes(data[:500])
    assert fetch("tiny").downloaded == (TINY.file,) and target.read_bytes() == data


def test_a_wrong_hash_is_not_kept(server, register):
    folder, address, _ = server
    write_tiny_omniglot(folder / "official.zip")
    target = register(address + "official.zip", "0" * 32)
    with pytest.raises(InputError, match=r"expected a file with MD5 0000.*download it by hand to"):
        fetch("tiny")
    assert left_behind(target) == []


def test_wrong_contents_without_a_hash_are_not_kept(server, register):
    folder, address, _ = server
    write_tiny_omniglot(folder / "official.zip", skip=3)
    target = register(address + "official.zip")
    with pytest.raises(InputError, match=f"expected the official {TINY.file}, got something else"):
        fetch("tiny")
    assert left_behind(target) == []


def test_no_such_page_and_no_connection(server, register):
    _, address, _ = server
    for url in (address + "absent.zip", "http://127.0.0.1:9/official.zip"):
        target = register(url)
        with pytest.raises(InputError, match=f"expected to download {url}.*by hand to {target}"):
            fetch("tiny")
        assert left_behind(target) == []


def test_a_folder_that_cannot_be_made(server, register, tmp_path, monkeypatch):
    register(server[1] + "official.zip")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"expected to write .*set INNERLOOP_DATA to another folder"):
        fetch("tiny")


def test_unknown_name_shows_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'omniglot'"):
        fetch("omniglott")


def test_every_registered_check_can_be_called():
    for dataset in downloads.DATASETS.values():
        for file in dataset.files:
            with pytest.raises(InputError):
                downloads._content_check(file)(Path("nowhere") / file.name)


def test_folders_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path / "d"))
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "c"))
    assert locations.data_folder() == tmp_path / "d" and locations.cache_folder() == tmp_path / "c"
    monkeypatch.delenv("INNERLOOP_DATA")
    monkeypatch.delenv("INNERLOOP_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "x"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert locations.data_folder() == tmp_path / "x" / "innerloop"
    assert locations.cache_folder() == Path.home() / ".cache" / "innerloop"
