"""The page: self-contained, escaped, complete."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from innerloop.errors import InputError
from innerloop.report.html import render, to_html
from innerloop.report.page import Note, Picture, Section, Table
from innerloop.report.style import new_figure


def _picture(name: str = "one", caption: str = "a <line>") -> Picture:
    figure = new_figure(3.0, 2.0)
    figure.subplots().plot([0, 1], [1, 0])
    return Picture(name, figure, caption)


class _Tags(HTMLParser):
    """Collects tags with their attributes, and checks that what is opened is closed."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _parse(text: str) -> _Tags:
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    return tags


SECTIONS = [
    Section("Result & more", ["A <b>sentence</b>", Note("missing: <script>alert(1)</script>")]),
    Section("Result & more", [Table([["<i>a", "1"], ["b", "–"]], ["", 'x"><'], "ca<ption")]),
    Section("Pictures", [_picture()]),
]


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    page = render("Title", SECTIONS, tmp_path / "r.html")
    tags = _parse(page.read_text(encoding="utf-8"))
    names = {tag for tag, _ in tags.found}
    assert not names & {"script", "link", "iframe", "object", "embed"}
    anchors = {attributes.get("id") for _, attributes in tags.found}
    for _, attributes in tags.found:
        for key in ("src", "href", "srcset", "action"):
            value = attributes.get(key)
            if value is not None:
                assert value.startswith(("data:image/png;base64,", "#"))
                assert not value.startswith("#") or value[1:] in anchors
    assert "url(" not in page.read_text(encoding="utf-8") and "@import" not in page.read_text(encoding="utf-8")


def test_picture_is_embedded_and_lies_beside(tmp_path: Path) -> None:
    page = render("Title", SECTIONS, tmp_path / "deep" / "folder")
    assert page == tmp_path / "deep" / "folder" / "report.html"
    beside = (page.parent / "plots" / "one.png").read_bytes()
    assert beside.startswith(b"\x89PNG")
    embedded = re.search(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page.read_text(encoding="utf-8"))
    assert embedded is not None and base64.b64decode(embedded[1]) == beside


def test_everything_is_escaped() -> None:
    text = to_html("a </title><script>", SECTIONS)
    for raw in ("<script>", "<b>", "<i>", 'x"><', "<line>", "ca<ption"):
        assert raw not in text
    assert "A &lt;b&gt;sentence&lt;/b&gt;" in text and 'alt="a &lt;line&gt;"' in text
    _parse(text)


def test_sections_of_one_title_have_their_own_anchors() -> None:
    ids = [attributes["id"] for tag, attributes in _parse(to_html("t", SECTIONS)).found if tag == "section"]
    assert len(set(ids)) == 3


def test_same_data_same_bytes() -> None:
    assert to_html("t", [Section("p", [_picture()])]) == to_html("t", [Section("p", [_picture()])])


def test_phone_and_dark_mode() -> None:
    text = to_html("t", [])
    assert "width=device-width" in text and "prefers-color-scheme:dark" in text


def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="twice"):
        render("t", [Section("a", [_picture(), _picture()])], tmp_path)
    with pytest.raises(InputError, match="lower-case"):
        render("t", [Section("a", [_picture("../up")])], tmp_path)
    with pytest.raises(InputError, match="rows of 2 cells"):
        render("t", [Section("a", [Table([["a"]], ["x", "y"])])], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected to write the report"):
        render("t", [], tmp_path / "file" / "report.html")


def test_a_full_disk_leaves_nothing_behind_and_the_old_page_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = Path.write_bytes, OSError(28, "No space left on device")

    def write_bytes(path: Path, data: bytes) -> int:
        if "report.html" in path.name:
            real(path, data[:10])
            raise full
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(InputError, match="No space left"):
        render("Title", SECTIONS, tmp_path / "deep" / "folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(InputError, match="No space left"):
        render("Title", SECTIONS, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"
