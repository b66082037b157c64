"""Flags made from Python signatures: what a factory takes by keyword is what the command line offers.

Which flag means what, where two parts have a setting of one name: a plain ``--name`` belongs to the first of
training, method, problem that has it; the others are spelled ``--algorithm-name`` and ``--tasks-name``. A
model's own settings are always ``--model-name``, those of another meta-gradient ``--meta-gradient-name``.

cyclopts alone takes ``nan`` for a number and rounds ``1.5`` to an integer: texts are converted here, for flags and files alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import inspect
import math
import operator
import re
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from innerloop.errors import ConfigError


class _NotValidated:
    """Beside a setting's type: no second check of it by pydantic, which knows the type that cyclopts counts words by.

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
    return {name: own(name, text) if name in together else text for name, text in found.items()}


def options_of(factory: Callable[..., Any], leave_out: Iterable[str] = ()) -> list[Option]:
    """The settings of a factory that can be written as text: keyword-only ones (all fields, for a dataclass), and those of its
    other arguments that it names in an attribute ``flags``.
    """
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    docs = described(factory.__doc__)
    result = []
    for parameter in inspect.signature(factory).parameters.values():
        annotation = settable(hints.get(parameter.name, type(parameter.default)))
        named = parameter.kind is parameter.KEYWORD_ONLY or parameter.name in getattr(factory, "flags", ())
        if not named or parameter.name in leave_out or annotation is None:
            continue
        result.append(Option(parameter.name, annotation, parameter.default, docs.get(parameter.name, "")))
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
            if is_flag(option.annotation):
                owner[negative] = key
        result.append(Section(key, title, {o.name: o for o in options}, flags))
    return result


def arity(parts: Iterable[Section]) -> dict[str, int | None]:
    """Flag -> how many words follow it (None: one or more)."""
    result: dict[str, int | None] = {}
    for section in parts:
        for name, option in section.options.items():
            spelled = section.flags[name]
            result[spelled] = words(option.annotation)
            if is_flag(option.annotation):
                result["--no-" + spelled[2:]] = 0
    return result


def own_flags(function: Callable[..., int]) -> dict[str, int | None]:
    """The flags of a command's own, which are its keyword-only parameters, and how many words follow each (None: one or more)."""
    return {**arity(sections([("", "", options_of(function))], ())), "--help": 0}


def shown(value: Any) -> str:
    """A default as one would type it."""
    if isinstance(value, tuple | list):
        return " ".join(shown(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def parameter(section: Section, name: str, group: Any) -> inspect.Parameter:
    """A setting as a keyword of a function that cyclopts reads."""
    from cyclopts import Parameter

    option, spelled = section.options[name], section.flags[name]
    yes_no = is_flag(option.annotation)
    read = Parameter(
        name=spelled,
        help=option.help,
        group=group,
        negative=("--no-" + spelled[2:],) if yes_no else (),
        show_default=shown,
        consume_multiple=True if words(option.annotation) is None else None,
        converter=None if yes_no else converter(option.annotation),
    )
    annotation = Annotated[_asked(option.annotation), read, _NotValidated()]
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(f"{section.key}__{name}", kind, default=option.default, annotation=annotation)


def _asked(annotation: Any) -> Any:
    """The type that cyclopts counts words by: one alternative only, the one with the most room."""
    alternatives = [m for m in members(annotation) if m is not type(None)]
    if is_flag(annotation):
        return bool
    wide = [m for m in alternatives if get_origin(m) is tuple]
    if words(annotation) is None:
        inner = get_args(wide[0])[0]
        return tuple[inner, ...]
    return wide[0] if wide else functools.reduce(operator.or_, alternatives)


# ---- settings as text (flags) and as plain data (files) ----------------------------------------------------------
_SCALARS = (bool, int, float, str, Path)


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union; a type alone is its own one alternative."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def settable(annotation: Any) -> Any:
    """The part of a parameter's type that can be written as text, or None when there is none (functions,
    tables).
    """
    kept: list[Any] = []
    for member in members(annotation):
        origin = get_origin(member)
        if member in _SCALARS or member is type(None) or origin is Literal:
            kept.append(member)
        elif origin is tuple and get_args(member)[-1:] != (Ellipsis,):
            if all(a in _SCALARS for a in get_args(member)):
                kept.append(member)
        elif _is_sequence(origin) and get_args(member)[:1] and get_args(member)[0] in _SCALARS:
            kept.append(tuple[get_args(member)[0], ...])
    return functools.reduce(operator.or_, kept) if set(kept) - {type(None)} else None


def _is_sequence(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Sequence)


def is_flag(annotation: Any) -> bool:
    """Whether this is a plain yes or no, written ``--flag`` / ``--no-flag``."""
    return [m for m in members(annotation) if m is not type(None)] == [bool]


def words(annotation: Any) -> int | None:
    """How many words of text a value takes; None: one or more."""
    counts: list[int | None] = []
    for member in members(annotation):
        if get_origin(member) is tuple:
            counts.append(None if get_args(member)[-1] is Ellipsis else len(get_args(member)))
    if is_flag(annotation):
        return 0
    if not counts:
        return 1
    scalar = any(get_origin(m) is not tuple and m is not type(None) for m in members(annotation))
    return None if scalar or None in counts or len(set(counts)) > 1 else counts[0]


def expected(annotation: Any) -> str:
    """What a value has to be, in words: "an integer", "2 numbers", "one of 'adam', 'sgd'"."""
    names = {
        bool: ("true or false", "values true or false"),
        int: ("an integer", "integers"),
        float: ("a finite number", "finite numbers"),
        str: ("a text", "texts"),
        Path: ("a path", "paths"),
    }
    said: list[str] = []
    for member in members(annotation):
        if member is type(None):
            said.append("none")
        elif get_origin(member) is Literal:
            said.append("one of " + ", ".join(map(repr, get_args(member))))
        elif get_origin(member) is tuple:
            inner = get_args(member)
            several = names[inner[0]][1]
            said.append(several if inner[-1] is Ellipsis else f"{len(inner)} {several}")
        else:
            said.append(names[member][0])
    return " or ".join(sorted(said, key=lambda s: s == "none"))


def _number(kind: type, text: str) -> Any:
    value = kind(text.replace("_", "x")) if kind is int else float(text.replace("_", "x"))
    if kind is float and not math.isfinite(value):
        raise ValueError
    return value


def _scalar(kind: Any, text: str) -> Any:
    """One word as ``kind``; ValueError when it is not one."""
    if kind is type(None):
        if text.lower() in ("none", "null"):
            return None
        raise ValueError
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if str(choice) == text:
                return choice
        raise ValueError
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise ValueError
    if kind in (int, float):
        return _number(kind, text)
    return kind(text)


def _refuse(annotation: Any, got: str, texts: Sequence[str] = ()) -> ConfigError:
    choices = [str(c) for m in members(annotation) if get_origin(m) is Literal for c in get_args(m)]
    near = difflib.get_close_matches(texts[0], choices, n=1, cutoff=0.6) if texts else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"expected {expected(annotation)}, got {got}{hint}")


def parse(annotation: Any, texts: Sequence[str]) -> Any:
    """The value that these words stand for; ConfigError "expected ..., got ..." when they stand for none.

    A number wins over a text where a setting may be either, and one word alone is not made a sequence where
    it may be a plain value.
    """
    order = sorted(members(annotation), key=lambda m: (m is not type(None), m is str))
    for member in order:
        with contextlib.suppress(ValueError):
            if get_origin(member) is tuple:
                if len(texts) > 1 or (texts and get_args(member)[0] not in order):
                    return _sequence(member, texts, _scalar)
            elif len(texts) == 1:
                return _scalar(member, texts[0])
    raise _refuse(annotation, " ".join(map(repr, texts)) or "nothing", texts)


def _sequence(kind: Any, values: Sequence[Any], convert: Callable[[Any, Any], Any]) -> tuple[Any, ...]:
    """These values as a tuple of this type; ValueError where they are of another number, or one is of another type."""
    inner = get_args(kind)
    kinds = inner[:1] * len(values) if inner[-1] is Ellipsis else inner
    if len(kinds) != len(values):
        raise ValueError
    return tuple(map(convert, kinds, values))


def _plain(kind: Any, value: Any) -> Any:
    """A value of a file as ``kind``; ValueError when it is not one."""
    if kind is type(None):
        if value is not None:
            raise ValueError
        return None
    if isinstance(value, str) and kind is not str and kind is not Path and get_origin(kind) is not Literal:
        if kind is float:
            return _number(float, value)  # YAML reads 1e-3, without a dot, as a text
        raise ValueError
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise ValueError
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if type(value) is kind and kind is not float:
        return value
    raise ValueError


def check(annotation: Any, value: Any) -> Any:
    """A value read from a file, as the setting's type; ConfigError "expected ..., got ..." when it has
    another.
    """
    for member in sorted(members(annotation), key=lambda m: m is str):
        with contextlib.suppress(ValueError):
            if get_origin(member) is not tuple:
                return _plain(member, value)
            if isinstance(value, list | tuple):
                return _sequence(member, value, _plain)
    raise _refuse(annotation, repr(value), [value] if isinstance(value, str) else ())


def converter(annotation: Any) -> Callable[[Any, Sequence[Any]], Any]:
    """`parse` in the shape that cyclopts calls."""

    def convert(_: Any, tokens: Sequence[Any]) -> Any:
        return parse(annotation, [token.value for token in tokens])

    return convert


# ---- one sentence a flag, where a docstring describes several settings together ----------------------------------
# Shared sentence -> name -> its own. A sentence that matches none is shown with every one of its flags.
_APART: tuple[tuple[str, dict[str, str]], ...] = (
    (
        r"classes of a task; support and query drawings of each class",
        {
            "ways": "classes of a task",
            "shots": "support drawings of each class",
            "queries": "query drawings of each class",
        },
    ),
    (
        r"(\w+) of the support and of the query set",
        {"shots": r"\1 of the support set", "queries": r"\1 of the query set"},
    ),
    (
        r"those of training tasks, where they differ",
        {name: f"{name[6:]} of training tasks, where they differ" for name in ("train_shots", "train_queries")}
        | {"train_ways": "ways of training tasks, where they differ"},
    ),
    (
        r"\(low, high\) of uniform distributions; radians",
        {
            "amplitude": "(low, high) of the uniform amplitude",
            "phase": "(low, high) of the uniform phase, in radians",
            "frequency": "(low, high) of the uniform frequency",
        },
    ),
    (
        r"the run's own, given again",
        {
            "algorithm": "the run's method, given again",
            "tasks": "the run's problem, given again",
            "model": "the run's model, given again",
        },
    ),
    (r"mean and standard deviation of", {"center": "mean of", "spread": "standard deviation of"}),
)


def own(name: str, sentence: str) -> str:
    """The part of a sentence about several settings that is about ``name``."""
    for pattern, each in _APART:
        if name in each:
            sentence = re.sub(pattern, each[name], sentence)
    return sentence


def readable(text: str) -> str:
    """A docstring's sentence as help: no markup, and ``None`` as what it means on a command line."""
    return re.sub(r"\bNone: ", "left out: ", text.replace("``", ""))
