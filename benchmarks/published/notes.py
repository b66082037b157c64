"""Sentences about numbers, written by people: why one falls short, or what else a reader has to know. results/notes.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from innerloop.errors import InputError

FILE = "notes.toml"
ALL = "all"  # instead of a metric: for every number of the recipe
ABOUT = "about"  # of a setting's title instead of a recipe: what stands above its table

Notes = Mapping[str, Mapping[str, str]]


def read_notes(folder: Path, names: Collection[str]) -> Notes:
    """Recipe -> metric (or "all") -> sentence, and title of a setting -> "about" -> text; none where there is no file.

    Args:
        folder: results/.
        names: of the recipes and settings that may stand in it.

    Raises:
        InputError: no TOML, a recipe or setting that there is not, or something other than sentences.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} expected TOML, got {error}; mend it") from error
    for name, said in found.items():
        if name not in names:
            raise InputError(f"{path} expected names of recipes and settings, got {name!r}; mend or remove it")
        if not isinstance(said, dict) or not all(isinstance(text, str) for text in said.values()):
            raise InputError(
                f'{path} expected lines such as "all" = "a sentence" for {name}, got something else; mend it'
            )
    return found


def note(notes: Notes, recipe: str, metric: str) -> str:
    """What is said of a recipe's number, or with `ALL` of all of them; "" for nothing."""
    return notes.get(recipe, {}).get(metric, "")
