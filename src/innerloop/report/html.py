"""The page: sections as one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import base64
import contextlib
import errno
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from innerloop.errors import InputError
from innerloop.report.page import Note, Part, Picture, Section, Table
from innerloop.report.style import png
from innerloop.report.text import align_right

_CSS = """
:root{color-scheme:light dark;--ink:#1c1c1e;--soft:#5b5b62;--page:#ffffff;--line:#d8d8dd;--tint:#f4f4f7;
--mark:#0072b2}
@media (prefers-color-scheme:dark){:root{--ink:#ececf0;--soft:#a6a6ae;--page:#17171a;--line:#3a3a41;
--tint:#222227;
--mark:#6cb8ea}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",
Roboto,
"Noto Sans","Noto Sans CJK SC",sans-serif;overflow-wrap:break-word}
main{max-width:60rem;margin:0 auto;padding:1.2rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:.6rem 0 .4rem}
h2{font-size:1.25rem;margin:2.6rem 0 .6rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}
p{max-width:44rem;margin:.6rem 0}
a{color:var(--mark)}
nav{font-size:.95rem;margin:.8rem 0 0}
nav a{display:inline-block;margin:0 1rem .2rem 0}
.note{border-left:4px solid var(--mark);background:var(--tint);padding:.6rem .9rem;border-radius:0 6px 6px 0}
figure{margin:1.2rem 0}
figcaption{color:var(--soft);font-size:.93rem;max-width:44rem;margin-top:.4rem}
.frame{overflow-x:auto;background:#fff;border:1px solid var(--line);border-radius:8px;padding:.5rem;
width:fit-content;
max-width:100%}
.frame img{display:block;width:100%;height:auto}
.wide img{min-width:40rem}
.scroll{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.95rem}
caption{text-align:left;color:var(--soft);padding-bottom:.3rem}
th,td{padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
thead th{color:var(--soft);font-weight:600;border-bottom-width:2px;vertical-align:bottom}
tbody th{font-weight:600;white-space:nowrap}
td.number{white-space:nowrap}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;padding-left:.6rem}
footer{margin-top:3rem;color:var(--soft);font-size:.87rem}
@media print{.frame{border:0}nav{display:none}}
summary{cursor:pointer}
summary h2{display:inline;border:0}
"""


def slug(text: str) -> str:
    """A name for an anchor or a file: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"


def _table(table: Table) -> str:
    rows = [[str(cell) for cell in row] for row in table.rows]
    columns = len(table.header) if table.header is not None else max((len(row) for row in rows), default=0)
    if any(len(row) != columns for row in rows):
        raise InputError(
            f"a table expected rows of {columns} cells, got {sorted({len(r) for r in rows})}; fill missing "
            "cells with ''"
        )
    right = align_right(rows, columns) if table.header is not None else [False] * columns

    def cell(tag: str, text: str, i: int) -> str:
        scope = ' scope="row"' if tag == "th" else ""
        css = ' class="number"' if right[i] else ""
        return f"<{tag}{scope}{css}>{html.escape(text)}</{tag}>"

    out = ['<div class="scroll"><table>']
    if table.caption:
        out.append(f"<caption>{html.escape(table.caption)}</caption>")
    if table.header is not None:
        heads = (
            f'<th scope="col"{" class=number" if right[i] else ""}>{html.escape(str(name))}</th>'
            for i, name in enumerate(table.header)
        )
        out.append("<thead><tr>" + "".join(heads) + "</tr></thead>")
    out.append("<tbody>")
    for row in rows:
        out.append("<tr>" + "".join(cell("th" if i == 0 else "td", text, i) for i, text in enumerate(row)) + "</tr>")
    out.append("</tbody></table></div>")
    return "\n".join(out)


def _picture(picture: Picture, data: bytes) -> str:
    alt = html.escape(picture.alt or picture.caption or picture.name)
    encoded = base64.b64encode(data).decode("ascii")
    width, height = (round(float(side) * 96) for side in picture.figure.get_size_inches())  # CSS pixels of its inches
    caption = f"<figcaption>{html.escape(picture.caption)}</figcaption>" if picture.caption else ""
    css = "frame wide" if picture.wide else "frame"
    return (
        f'<figure><div class="{css}"><img alt="{alt}" width="{width}" height="{height}" '
        f'style="max-width:{width}px" src="data:image/png;base64,{encoded}"></div>{caption}</figure>'
    )


def _part(part: Part, pictures: dict[str, bytes]) -> str:
    if isinstance(part, Picture):
        return _picture(part, pictures[part.name])
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Note):
        return f'<p class="note">{_sentence(part.text)}</p>'
    return f"<p>{_sentence(part)}</p>"


def _sentence(text: str) -> str:
    """Escaped; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _draw(sections: Sequence[Section]) -> dict[str, bytes]:
    drawn: dict[str, bytes] = {}
    for part in (part for section in sections for part in section.parts):
        if not isinstance(part, Picture):
            continue
        if part.name != slug(part.name):
            raise InputError(
                f"a picture's name expected lower-case letters, digits and dashes, got {part.name!r}; "
                f"use {slug(part.name)!r}"
            )
        if part.name in drawn:
            raise InputError(f"expected every picture to have its own name, got {part.name!r} twice; rename one")
        drawn[part.name] = png(part.figure)
    return drawn


def to_html(title: str, sections: Sequence[Section], pictures: dict[str, bytes] | None = None) -> str:
    """The page as text. ``pictures`` holds the PNG of each `Picture` by name; drawn here when None."""
    drawn = _draw(sections) if pictures is None else pictures
    anchors: list[str] = []
    for i, section in enumerate(sections):
        name = slug(section.title)
        anchors.append(name if name not in anchors else f"{name}-{i}")
    out = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>",
        f"<h1>{html.escape(title)}</h1>",
    ]
    if len(sections) > 2:
        links = (f'<a href="#{a}">{html.escape(s.title)}</a>' for a, s in zip(anchors, sections, strict=True))
        out.append("<nav>" + "\n".join(links) + "</nav>")
    for anchor, section in zip(anchors, sections, strict=True):
        heading = f"<h2>{html.escape(section.title)}</h2>"
        begin, end = (f"<details><summary>{heading}</summary>", "</details>") if section.folded else (heading, "")
        out.append(f'<section id="{anchor}">\n{begin}')
        out.extend(_part(part, drawn) for part in section.parts)
        out.append(end + "</section>")
    out.append("<footer>Written by innerloop. Everything on this page is in this one file.</footer>")
    out.append("</main>\n</body>\n</html>\n")
    return "\n".join(out)


def write_all(files: Mapping[Path, bytes]) -> None:
    """All files or none: each is written aside first, and after an error the new folders are taken away again."""
    aside: dict[Path, Path] = {}
    made: list[Path] = []
    try:
        for path, data in files.items():
            for folder in (*reversed(path.parent.parents), path.parent):
                if not folder.exists():
                    folder.mkdir(exist_ok=True)
                    made.append(folder)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "a folder in its place", str(path))
            aside[path] = path.with_name(f".{path.name}.part")
            aside[path].write_bytes(data)
        for path, part in aside.items():
            part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            for part in aside.values():
                part.unlink(missing_ok=True)
            for folder in reversed(made):
                folder.rmdir()
        raise


def render(title: str, sections: Sequence[Section], out: Path | str) -> Path:
    """Write the page to ``out`` and every picture to ``plots/NAME.png`` beside it; the path of the page.

    Args:
        title: the page's heading.
        sections: what is shown, in order.
        out: an .html file, or a folder: the page is then report.html in it. Folders are made; a file there
            is replaced.

    Raises:
        InputError: two pictures of one name, a table of ragged rows, or a place that cannot be written.
    """
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        path = path / "report.html"
    drawn = _draw(sections)
    files = {path.parent / "plots" / f"{name}.png": data for name, data in drawn.items()}
    files[path] = to_html(title, sections, drawn).encode("utf-8")
    try:
        write_all(files)
    except OSError as error:
        raise InputError(
            f"expected to write the report to {path}, got {error.strerror or error}; free space there or "
            "give another --out"
        ) from error
    return path
