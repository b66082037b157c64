"""Learners that ship with the package, trained already: ``builtin:NAME`` wherever a run is taken. They work offline.

Each is a small run directory in the folder NAME beside this file, under `MOST_BYTES` bytes: config.json, best.safetensors and
card.json, which says what it is for, what it learned from and on which terms, what it reaches, and how it is made again.

To add one:
1. a recipe ``builtin-NAME`` in `innerloop.recipes` that trains it and measures it, baselines beside it;
2. one line in `LEARNERS`;
3. NAME/card.json by hand, with the entries ``purpose``, ``limits`` and ``data`` (a list of ``name``, ``terms``);
4. ``python -m benchmarks.builtin NAME`` trains it, writes the files, and fills in the rest of the card.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerloop.errors import ConfigError, nearest
from innerloop.registry import Entry

LEARNERS: dict[str, Entry] = {
    "characters": Entry(
        "builtin:characters", "tells drawn or printed characters of any alphabet apart, from a few each"
    ),
    "tables": Entry("builtin:tables", "tells the classes of any small table apart, from a few rows each"),
    "curves": Entry("builtin:curves", "continues a curve from a few points, and says how sure it is"),
}
PREFIX = "builtin:"
MOST_BYTES = 1_000_000  # of a learner's files together
_HERE = Path(__file__).parent


def located(run: str | Path) -> Path:
    """Where a run is: the folder of ``builtin:NAME``, or the path itself.

    Raises:
        ConfigError: no such learner; the message has the nearest.
    """
    word = str(run)
    if not word.startswith(PREFIX):
        return Path(run)
    name = word.removeprefix(PREFIX)
    if name not in LEARNERS:
        raise ConfigError(f"unknown built-in learner {word!r}: {nearest(word, [PREFIX + own for own in LEARNERS])}")
    return _HERE / name


def located_words(words: Sequence[str]) -> list[str]:
    """The words of a command line with built-in learners at their places, alone or among others with commas between."""
    return [
        ",".join(str(located(part)) if part.startswith(PREFIX) else part for part in word.split(","))
        if PREFIX in word and not before.startswith("--out")
        else word
        for before, word in zip(["", *words], words, strict=False)
    ]


def place_for_findings(run: Path) -> Path:
    """Where what is measured of a run is written: into the run, or for a built-in learner into ``runs/builtin-NAME``."""
    own = run.parent == _HERE and run.name in LEARNERS
    return Path("runs") / f"builtin-{run.name}" if own else run


def card(name: str) -> dict[str, Any]:
    """What a built-in learner is for, what it learned from, what it reaches and how it is made again."""
    return json.loads((located(f"{PREFIX}{name}") / "card.json").read_text(encoding="utf-8"))
