"""Flags made from Python signatures: what a factory takes by keyword is what the command line offers.

Which flag means what, where two parts have a setting of one name: a plain ``--name`` belongs to the first of
training, method, problem that has it; the others are spelled ``--algorithm-name`` and ``--tasks-name``. A
model's own settings are always ``--model-name``, those of another meta-gradient ``--meta-gradient-name``.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NamedTuple, get_type_hints

from innerloop.cli import sentences, values


class _Unset:
    """The default of every flag: whether the user gave it is known, so a file or a recommendation can fill
    it.
    """

    def __repr__(self) -> str:
        return "unset"


UNSET = _Unset()


class _NotValidated:
    """Beside a field's type: no second check of the field by pydantic, which does not know `UNSET`.

    cyclopts lets pydantic check what it made wherever pydantic happens to be imported (gradio imports it). The
    hook is pydantic's own, so nothing has to be imported here.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> dict[str, Any]:
        return {"type": "any"}


_ALWAYS_LONG = ("model", "meta_gradient")


class Option(NamedTuple):
    """One setting of a factory."""

    name: str  # as in Python
    annotation: Any  # what can be written as text or in a file
    default: Any
    help: str


def described(docstring: str | None) -> dict[str, str]:
    """Name -> sentence, from the ``Args:`` or ``Attributes:`` section of a Google-style docstring."""
    found: dict[str, str] = {}
    text = inspect.cleandoc(docstring or "")
    match = re.search(r"^(?:Args|Attributes|Arguments):\n((?:[ \t]+.*\n|\n)+)", text + "\n", re.MULTILINE)
    if match is None:
        return found
    names: list[str] = []
    together: set[str] = set()
    for line in textwrap.dedent(match.group(1)).splitlines():
        head = re.match(r"^(\w[\w, ]*?)(?:\s*\([^)]*\))?:\s*(.*)$", line)
        if head and not line.startswith(" "):
            names = [name.strip() for name in head.group(1).split(",")]
            found.update({name: head.group(2) for name in names})
            together.update(names if len(names) > 1 else ())
        elif line.strip():
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
    return {name: sentences.own(name, text) if name in together else text for name, text in found.items()}


def options_of(factory: Callable[..., Any], leave_out: Iterable[str] = ()) -> list[Option]:
    """The keyword-only settings of a factory (all fields, for a dataclass) that can be written as text."""
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    docs = described(factory.__doc__)
    result = []
    for parameter in inspect.signature(factory).parameters.values():
        annotation = values.settable(hints.get(parameter.name, type(parameter.default)))
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.name in leave_out or annotation is None:
            continue
        default = UNSET if parameter.default is parameter.empty else parameter.default
        result.append(Option(parameter.name, annotation, default, docs.get(parameter.name, "")))
    return result


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@dataclasses.dataclass(frozen=True)
class Section:
    """The settings of one part, and the flag of each."""

    key: str  # "training", "algorithm", "tasks", "model" or "meta_gradient": its name in a config file
    title: str  # shown in the help
    options: Mapping[str, Option]
    flags: Mapping[str, str]  # option name -> flag


def sections(parts: Iterable[tuple[str, str, Iterable[Option]]], reserved: Iterable[str]) -> list[Section]:
    """Give every option of (key, title, options) a flag of its own, by the rule at the top of this file."""
    owner = dict.fromkeys(reserved, "the command")
    result = []
    for key, title, options in parts:
        options = list(options)
        flags = {}
        for option in options:
            plain = flag(option.name)
            spelled = f"{flag(key)}-{plain[2:]}" if key in _ALWAYS_LONG or plain in owner else plain
            negative = "--no-" + spelled[2:]
            assert spelled not in owner and negative not in owner, (
                f"{spelled} is a flag of {key} and of {owner.get(spelled)}"
            )
            flags[option.name] = spelled
            owner[spelled] = key
            if values.is_flag(option.annotation):
                owner[negative] = key
        result.append(Section(key, title, {o.name: o for o in options}, flags))
    return result


def arity(parts: Iterable[Section]) -> dict[str, int | None]:
    """Flag -> how many words follow it (None: one or more)."""
    result: dict[str, int | None] = {}
    for section in parts:
        for name, option in section.options.items():
            spelled = section.flags[name]
            result[spelled] = values.words(option.annotation)
            if values.is_flag(option.annotation):
                result["--no-" + spelled[2:]] = 0
    return result


def shown(value: Any) -> str:
    """A default as one would type it."""
    if isinstance(value, tuple | list):
        return " ".join(shown(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def options_class(section: Section, group: Any) -> type:
    """A frozen, keyword-only dataclass of the section's options, as cyclopts reads it; every default is
    `UNSET`.
    """
    from cyclopts import Parameter

    fields = []
    for name, option in section.options.items():
        is_flag = values.is_flag(option.annotation)
        spelled = section.flags[name]
        parameter = Parameter(
            name=spelled,
            help=option.help,
            group=group,
            negative=("--no-" + spelled[2:],) if is_flag else (),
            show_default=False if option.default is UNSET else _showing(option.default),
            consume_multiple=True if values.words(option.annotation) is None else None,
            converter=None if is_flag else values.converter(option.annotation),
        )
        asked = Annotated[_asked(option.annotation), parameter, _NotValidated()]
        fields.append((name, asked, dataclasses.field(default=UNSET)))
    made = dataclasses.make_dataclass(f"{section.key.title()}Options", fields, kw_only=True, frozen=True)
    made.__module__ = __name__  # cyclopts looks into dataclasses only where they are not of the standard library
    return made


def _showing(default: Any) -> Callable[[Any], str]:
    return lambda _: shown(default)


def _asked(annotation: Any) -> Any:
    """The type that cyclopts counts words by: one alternative only, the one with the most room."""
    alternatives = [m for m in values.members(annotation) if m is not type(None)]
    if values.is_flag(annotation):
        return bool
    wide = [m for m in alternatives if values.get_origin(m) is tuple]
    if values.words(annotation) is None:
        inner = values.get_args(wide[0])[0]
        return tuple[inner, ...]
    if wide:
        return wide[0]
    result = alternatives[0]
    for other in alternatives[1:]:
        result = result | other
    return result


def given(record: Any) -> dict[str, Any]:
    """The settings of such a dataclass that the user gave."""
    if record is None:
        return {}
    pairs = ((f.name, getattr(record, f.name)) for f in dataclasses.fields(record))
    return {name: value for name, value in pairs if value is not UNSET}
