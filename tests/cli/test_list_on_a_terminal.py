"""`innerloop list` on a terminal: each name once, under what it is for; recipes counted where all kinds are listed."""

from __future__ import annotations

import re
import sys

from innerloop.cli.listing import KINDS, WHAT, offered
from innerloop.cli.main import main


def shown(monkeypatch, capsys, *words: str) -> str:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["list", *words]) == 0
    return re.sub(r"\033\[\d*m", "", capsys.readouterr().out)


def test_every_name_stands_once_and_every_kind_has_a_word(monkeypatch, capsys):
    text = shown(monkeypatch, capsys)
    for kind in KINDS:
        assert f"{kind}  {WHAT[kind]}" in text
        if kind != "recipes":
            assert all(len(re.findall(rf"^  {re.escape(name)} ", text, re.M)) >= 1 for name in offered(kind)), kind
    assert sum(int(n) for n in re.findall(r"\((\d+)\): ", text)) == len(offered("recipes"))
    assert len(text.splitlines()) < 160


def test_groups_are_by_what_a_name_is_for(monkeypatch, capsys):
    text = shown(monkeypatch, capsys, "tasks")
    worlds = text[text.index("\n  worlds\n") :]
    assert "  bandits " in worlds and "  sinusoid " not in worlds
    assert text.index("\n  curves\n") < text.index("  sinusoid ") < text.index("\n  pictures\n")
    recipes = shown(monkeypatch, capsys, "recipes")
    assert all(re.search(rf"^  {re.escape(name)} ", recipes, re.M) for name in offered("recipes"))
