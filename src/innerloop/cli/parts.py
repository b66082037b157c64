"""The parts of a command line that depend on the names in it: training, method, problem, model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from innerloop.cli.config_file import File, settings
from innerloop.cli.listing import registry_of
from innerloop.cli.options import Option, Section, arity, given, options_class, options_of, sections
from innerloop.cli.program import closest, split
from innerloop.errors import ConfigError
from innerloop.registry import load

KIND = {"algorithm": "algorithms", "tasks": "tasks", "model": "models", "meta_gradient": "meta-gradients"}
NOUN = {"algorithm": "algorithm", "tasks": "problem", "model": "model", "meta_gradient": "meta-gradient"}
TITLE = {
    "algorithm": "Method",
    "tasks": "Problem",
    "model": "Model",
    "meta_gradient": "Meta-gradient",
    "training": "Training",
}


def known(part: str, name: str) -> str:
    """``name``, when the registry of this part has it; of a problem also a path, made absolute.

    Raises:
        ConfigError: an unknown name; the message has the nearest.
        InputError: a path where there is nothing.
    """
    registry = registry_of(KIND[part])
    if name in registry:
        return name
    if part == "tasks":
        from innerloop.tasks import own_data

        own_data.refuse_memory(name)
        if own_data.looks_like_path(name):
            return str(own_data.existing(name))
    otherwise = f"see innerloop list {KIND[part]}"
    if part == "tasks":
        otherwise += ", or give the path of a folder or file"
    raise ConfigError(f"unknown {NOUN[part]} {name!r}: {closest(name, registry, otherwise)}")


def short(tasks: str) -> str:
    """A problem's name as part of a file's name: of a path, what is last in it."""
    from innerloop.tasks import TASKS

    return tasks if tasks in TASKS else re.sub(r"[^\w.-]+", "-", Path(tasks).stem).strip("-.") or "tasks"


def part_options(part: str, name: str | None) -> list[Option]:
    """The settings of one named part; of none, none. Imports what the name stands for."""
    if part == "training":
        from innerloop.training.config import TrainConfig

        return options_of(TrainConfig)
    if name is None:
        return []
    name = known(part, name)
    if part == "tasks" and name not in registry_of("tasks"):
        from innerloop.tasks import own_data

        return options_of(own_data.factory_of(name))
    return options_of(load(NOUN[part], registry_of(KIND[part]), name), leave_out=("model",))


class Parts(NamedTuple):
    """The sections of one command, and the dataclasses that cyclopts fills."""

    sections: list[Section]
    classes: dict[str, type]

    def annotations(self) -> dict[str, Any]:
        """Parameter annotations for the command's function, one parameter a part."""
        from typing import Annotated

        from cyclopts import Parameter

        return {key: Annotated[made | None, Parameter(name="*")] for key, made in self.classes.items()}

    def arity(self) -> dict[str, int | None]:
        return arity(self.sections)

    def merged(
        self, records: dict[str, Any], file: File | None = None, names: dict[str, str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Part -> settings that were given: the file's, and over them the flags'."""
        result = settings(file, self.sections, names or {}) if file is not None else {}
        return {s.key: {**result.get(s.key, {}), **given(records.get(s.key))} for s in self.sections}


def parts(names: dict[str, str | None], reserved: Iterable[str]) -> Parts:
    """The sections of these parts, in the order that decides who gets a plain flag (training needs no name)."""
    from cyclopts import Group

    listed = []
    for key, name in names.items():
        title = TITLE[key] + (f" ({short(name) if key == 'tasks' and name else name})" if key != "training" else "")
        listed.append((key, title, part_options(key, name)))
    made = sections(listed, reserved)
    made = [section for section in made if section.options]
    groups = {s.key: Group(s.title, sort_key=i + 1) for i, s in enumerate(made)}
    return Parts(made, {section.key: options_class(section, groups[section.key]) for section in made})


def value_of(words: Sequence[str], flag: str) -> str | None:
    """The value of a flag, read before the flags of the whole command are known."""
    for i, word in enumerate(words):
        if word == "--":
            return None
        if word.startswith(flag + "="):
            return word.partition("=")[2]
        if word == flag and i + 1 < len(words):
            return words[i + 1]
    return None


def positional_first(words: Sequence[str], arity: dict[str, int | None], wanted: int, names: Any = None) -> list[str]:
    """The same words with the positional ones in front, where an open-ended flag cannot take them."""
    found, rest = split(words, arity, wanted, names)
    return [*found, *rest]
