"""What pages, examples and messages tell a reader to install is there: each extra that they name; and no package index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
PLACES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "examples/**/*.md", "examples/*.ipynb", "src/**/*.py")
    for path in sorted(ROOT.glob(pattern))
}
# `innerloop[tables,sklearn]` and `.[dev]`; "extra `text`", "the `log` extra".
_INSTALLED = re.compile(r"(?:innerloop|[\"'\s]\.)\[([a-z0-9, _-]+)\]")
_NAMED = re.compile(r"\bextras? `+(\w+)`+|`+(\w+)`+ extra\b")
_INDEX = re.compile(r"--(?:extra-)?index-url|--find-links|--trusted-host|PIP_INDEX_URL")


def extras(text: str) -> set[str]:
    listed = {name.strip() for names in _INSTALLED.findall(text) for name in names.split(",")}
    return listed | {one or other for one, other in _NAMED.findall(text)}


def test_every_extra_that_is_named_is_there():
    unknown = {place: extras(text) - EXTRAS for place, text in PLACES.items()}
    assert {place: names for place, names in unknown.items() if names} == {}


def test_no_page_names_a_package_index():
    assert [place for place, text in PLACES.items() if _INDEX.search(text)] == []


def test_the_checks_see_what_they_look_for():
    text = (
        "pip install 'innerloop[tables,nosuch]' or -e \".[dev]\"; extra ``text``, the `log` extra; x[i, j] and a.b[0]"
    )
    assert extras(text) == {"tables", "nosuch", "dev", "text", "log"}
    assert _INDEX.search("pip install torch --index-url https://somewhere")
    assert set().union(*map(extras, PLACES.values())) >= EXTRAS, "an extra that no page names"
