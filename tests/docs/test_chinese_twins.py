"""Chinese how-to pages have the code of their English twins, line for line; what is said beside it is in Chinese."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
TWINS = (
    *("own-arrays", "frozen", "own-method", "objectives", "mistakes"),
    *("seeds-and-sweeps", "time", "many-machines", "builtin"),
)


def code(page: Path) -> list[str]:
    """The lines of its code blocks without remarks, docstrings and what stands behind a command."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        if language == "python":
            block = re.sub(r'"""(.*?)"""', '""', block, flags=re.S)
            lines = [line.split("  # ")[0] for line in block.splitlines()]
        else:
            lines = [re.split(r"(?<=\S)  +", line)[0] for line in block.splitlines()]
        found += [f"```{language}", *(line.rstrip() for line in lines)]
    return found


def numbers(page: Path) -> list[str]:
    """Every measured number with its interval, in the order of the page."""
    return re.findall(r"-?\d+\.\d+ ± \d+\.\d+", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_the_same_code_and_numbers_and_each_names_the_other(name):
    english, chinese = DOCS / f"{name}.md", DOCS / f"{name}.zh-CN.md"
    assert code(chinese) == code(english)
    assert numbers(chinese) == numbers(english)
    assert f"[中文]({chinese.name})" in english.read_text(encoding="utf-8")
    assert f"[English]({english.name})" in chinese.read_text(encoding="utf-8")
    assert f"\n{chinese.stem}\n" in (DOCS / "site.zh-CN.md").read_text(encoding="utf-8")
    assert f"]({chinese.name})" in (DOCS / "index.md").read_text(encoding="utf-8")
