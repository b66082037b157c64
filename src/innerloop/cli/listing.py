"""`innerloop list`: read from the registries, so nothing heavy is imported."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping, Sequence

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


def _table(names: Mapping[str, Mapping[str, str]]) -> None:
    """For a terminal: a heading a kind, names lined up."""
    width = max((len(name) for entries in names.values() for name in entries), default=0)
    for i, (kind, entries) in enumerate(names.items()):
        print(("\n" if i else "") + f"\033[1m{kind}\033[0m")
        for name, summary in entries.items():
            print(f"  {name:<{width}}  {summary}")
