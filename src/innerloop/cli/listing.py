"""`innerloop list`: read from the registries, so nothing heavy is imported."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from innerloop.cli.program import closest, dashed
from innerloop.errors import ConfigError
from innerloop.registry import Entry, installed

KINDS = {
    "algorithms": "innerloop.methods:NAMED",
    "tasks": "innerloop.tasks:NAMED",
    "stream-methods": "innerloop.lifelong:STREAM_METHODS",
    "models": "innerloop.models:NAMED",
    "embeddings": "innerloop.models:EMBEDDINGS",
    "recipes": "innerloop.recipes:RECIPES",
    "learners": "innerloop.builtin:LEARNERS",
    "meta-gradients": "innerloop.meta_gradients:META_GRADIENTS",
}

WHAT = {  # a word on each
    "algorithms": "what learns: the first word after `innerloop train`",
    "tasks": "what is learned from: the second word, or a path to your own data",
    "stream-methods": "what learns along one long stream: innerloop stream METHOD STREAM",
    "models": "networks: --model NAME",
    "embeddings": "trained networks of others, kept as they are: --model NAME",
    "recipes": "measured settings: innerloop run NAME",
    "learners": "trained already: builtin:NAME in place of a run",
    "meta-gradients": "other ways to the outer gradient: --meta-gradient NAME",
}
NOUNS = {"algorithms": "algorithm", "tasks": "problem", "models": "model"}  # of what other packages may offer too

_HELP = """Usage: innerloop list [algorithms|tasks|stream-methods|models|embeddings|recipes|learners|
                      meta-gradients] [--json]

The names that the other commands take, with a line about each; those of installed packages too. Learners are trained already
and ship with innerloop: builtin:NAME stands for a run.

  --json  one JSON object {kind: {name: summary}}"""


def registry_of(kind: str) -> Mapping[str, Entry]:
    """The registry behind one kind of name."""
    module, attribute = KINDS[kind].split(":")
    return getattr(importlib.import_module(module), attribute)


def offered(kind: str) -> dict[str, Entry]:
    """Ours, and what installed packages offer; nothing of theirs is imported."""
    ours = registry_of(kind)
    return {**ours, **{name: entry for name, entry in installed(NOUNS.get(kind, "")).items() if name not in ours}}


def listing(argv: Sequence[str]) -> int:
    """Print the names. Parsed by hand: loading a parser would take longer than the answer."""
    as_json, kinds = False, []
    for word in dashed(argv):
        if word in ("--help", "-h"):
            print(_HELP)
            return 0
        if word in ("--json", "--no-json"):
            as_json = word == "--json"
        elif word.startswith("-"):
            raise ConfigError(
                f"unknown flag {word!r}: {closest(word, ['--json', '--help'], 'see innerloop list --help')}"
            )
        elif word not in KINDS:
            raise ConfigError(f"unknown kind {word!r}: {closest(word, KINDS, 'see innerloop list --help')}")
        else:
            kinds.append(word)
    names = {kind: {n: e.summary for n, e in offered(kind).items()} for kind in kinds or KINDS}
    if as_json:
        print(json.dumps(names, ensure_ascii=False))
    elif sys.stdout.isatty():
        _table(names)
    else:
        for entries in names.values():
            for name, summary in entries.items():
                print(f"{name}\t{summary}")
    return 0


def _grouped(kind: str, names: Iterable[str]) -> dict[str, list[str]]:
    """The names of one kind under what they are for: problems by field, methods by what they learn, recipes by problem."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_group(kind, name), []).append(name)
    return found


def _group(kind: str, name: str) -> str:
    part: Any = registry_of(kind).get(name)
    if part is None:
        return "of installed packages"
    if kind == "tasks":  # innerloop.tasks.FIELD.file
        parts = part.target.partition(":")[0].split(".")
        return parts[2].replace("_", " ") if len(parts) > 3 else ""
    if kind == "algorithms":
        from innerloop.methods import FAMILIES

        return next(family for family, methods in FAMILIES.items() if name in methods)
    return part.tasks or "others" if kind == "recipes" else ""


def _table(names: Mapping[str, Mapping[str, str]]) -> None:
    """For a terminal: a heading a kind, one a group of it, names lined up; of recipes beside other kinds their names alone."""
    for i, (kind, entries) in enumerate(names.items()):
        print(("\n" if i else "") + f"\033[1m{kind}\033[0m  {WHAT[kind]}")
        width = max(map(len, entries), default=0)
        short = kind == "recipes" and len(names) > 1
        for group, members in _grouped(kind, entries).items():
            if short:
                print(f"  {group} ({len(members)}): {', '.join(members[:3])}{', ...' if len(members) > 3 else ''}")
                continue
            if group:
                print(f"  \033[4m{group}\033[0m")
            for name in members:
                print(f"  {name:<{width}}  {entries[name]}")
        if short:
            print("  all of them: innerloop list recipes")
