"""`--config FILE`: YAML, TOML, or a run's own config.json. A file only overrides settings that exist.

Layout: one table for each part, ``algorithm: {inner_lr: 0.4}``, ``tasks: {shots: 5}``, ``training: {steps:
2000}``, ``model: conv4`` or ``model: {name: conv4, ...}``; or a key at the top level where only one part has
it. A part may also be written as run directories write it, ``{name: maml, options: {inner_lr: 0.4}}``.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from innerloop.cli.options import Section, check
from innerloop.cli.program import closest
from innerloop.errors import ConfigError
from innerloop.training.run_config import RUN, upgraded

_NAMED = {"model": "a model's", "meta_gradient": "a meta-gradient's"}  # parts whose name may stand in the file
_MODEL_SHAPE = ("inputs", "outputs")  # in a run's record; here they follow from the problem

Key = tuple[str, ...]


class File(NamedTuple):
    """A file's contents and where each key stands."""

    path: Path
    content: dict[str, Any]
    lines: Mapping[Key, int]  # key path -> line number, where the format tells

    def place(self, key: Key) -> str:
        """As in: settings.yaml line 3 (training.steps)."""
        line = f" line {self.lines[key]}" if key in self.lines else ""
        return f"{self.path}{line} ({'.'.join(key)})"


def read(path: Path) -> File:
    """Parse a file by its suffix.

    Raises:
        ConfigError: missing, of an unknown suffix, not parseable, or not a table; the message has the line
            where known.
    """
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise ConfigError(f"--config expected a .yaml, .toml or .json file, got {got}: {str(path)!r}; check the path")
    lines: dict[Key, int] = {}
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".yaml", ".yml"):
            content, lines = _yaml(text, path)
        elif path.suffix == ".toml":
            content = tomllib.loads(text)
        elif path.suffix == ".json":
            content = json.loads(text)
        else:
            raise ConfigError(f"--config expected a .yaml, .toml or .json file, got {path.name!r}; rename it")
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        kind = path.suffix[1:].upper()
        raise ConfigError(f"{path}: expected {kind}, got something that is not: {error}; mend that place") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a table of settings, got {type(content).__name__}; see train --help")
    content = {str(k): v for k, v in content.items()}
    return File(path, upgraded(content) if content.get("format") == RUN else content, lines)


def _yaml(text: str, path: Path) -> tuple[Any, dict[Key, int]]:
    import yaml

    lines: dict[Key, int] = {}

    def walk(node: Any, above: Key) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                place = (*above, str(key.value))
                lines[place] = key.start_mark.line + 1
                walk(value, place)

    try:
        walk(yaml.compose(text, Loader=yaml.SafeLoader), ())
        return yaml.safe_load(text), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ConfigError(
            f"{path}{where}: expected YAML, got something that is not: {problem}; mend that line"
        ) from error


def part_name(file: File, part: str) -> str | None:
    """The model, or the estimator of the meta-gradient, that the file asks for."""
    found = file.content.get(part)
    if isinstance(found, Mapping):
        if part == "model" and "custom" in found and "name" not in found:
            raise ConfigError(
                f"{file.place((part,))}: expected a name of `innerloop list models`, got somebody's own module; repeat that run "
                "from Python, with il.fit"
            )
        found = found.get("name")
    if found is not None and not isinstance(found, str):
        raise ConfigError(f"{file.place((part,))}: expected {_NAMED[part]} name, got {found!r}")
    return found


def settings(file: File, sections: Sequence[Section], names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Part -> setting -> value, checked against what the parts have.

    Args:
        file: what `read` gave.
        sections: the parts of this command.
        names: part -> the name chosen on the command line ("algorithm" -> "maml"), to notice a file made for
            another.

    Raises:
        ConfigError: an unknown key, a wrong type, or another algorithm's or problem's file; names file,
            place, nearest.
    """
    known = {section.key: section for section in sections}
    record = file.content.get("format") == RUN
    result: dict[str, dict[str, Any]] = {key: {} for key in known}
    for key, value in file.content.items():
        if record and key not in (*known, *_NAMED):
            continue  # a run's record holds more than settings
        if key in _NAMED and isinstance(value, str):
            continue
        if key in (*known, *_NAMED):
            table, where = _unwrapped(file, key, value, names.get(key))
            if key in _NAMED and key not in known:
                if key in names and not table:
                    continue  # a part without settings
                given = ", ".join(table) or "nothing"
                raise ConfigError(f"{file.place(where)}: expected {_NAMED[key]} name beside its settings, got {given}")
            for name, setting in table.items():
                result[key][str(name)] = _checked(file, (*where, str(name)), known[key], setting)
            continue
        owners = [section for section in sections if section.key not in _NAMED and key in section.options]
        if not owners:
            every = [*known, *_NAMED, *(o for s in sections if s.key not in _NAMED for o in s.options)]
            raise ConfigError(f"{file.place((key,))}: unknown key {key!r}: {_hint(key, every)}")
        if len(owners) > 1:
            parts = " and ".join(f"{s.key}.{key}" for s in owners)
            raise ConfigError(f"{file.place((key,))}: expected a part's name before {key!r}, which may be {parts}")
        result[owners[0].key][key] = _checked(file, (key,), owners[0], value)
    return result


def _unwrapped(file: File, key: str, value: Any, name: str | None) -> tuple[dict[str, Any], Key]:
    """The settings of a part, from its plain or its recorded form, and where they stand."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{file.place((key,))}: expected a table of settings, got {value!r}")
    inner = "arguments" if key == "model" else "options"
    table = {str(k): v for k, v in value.items()}
    recorded = table.pop("name", None)
    if recorded is not None and name is not None and recorded != name:
        place = file.place((key, "name"))
        raise ConfigError(
            f"{place}: expected {name!r} as on the command line, got {recorded!r}; use one of them in both"
        )
    where: Key = (key,)
    if isinstance(table.get(inner), Mapping):
        where = (key, inner)
        table = {**{k: v for k, v in table.items() if k != inner}, **table[inner]}
        if key == "model":
            table = {k: v for k, v in table.items() if k not in _MODEL_SHAPE}
    return table, where


def _checked(file: File, place: Key, section: Section, value: Any) -> Any:
    name = place[-1]
    if name not in section.options:
        raise ConfigError(f"{file.place(place)}: unknown key {name!r}: {_hint(name, section.options)}")
    try:
        return check(section.options[name].annotation, value)
    except ConfigError as error:
        raise ConfigError(f"{file.place(place)}: {name} {error}") from error


def _hint(name: str, known: Any) -> str:
    return closest(name, known, "see innerloop train ALGORITHM TASKS --help")
