"""cyclopts with our manners: plain help, both spellings of a flag, strict numbers, errors in a sentence."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from innerloop.cli import options
from innerloop.cli.boundary import still_wanted
from innerloop.cli.options import readable
from innerloop.errors import ConfigError

if TYPE_CHECKING:
    from cyclopts.exceptions import CycloptsError


def dashed(argv: Sequence[str]) -> list[str]:
    """``--inner_lr=1`` as ``--inner-lr=1``: flags may be typed as in Python."""
    result = []
    for i, word in enumerate(argv):
        if word == "--":
            return [*result, *argv[i:]]
        name, equals, value = word.partition("=")
        result.append(name.replace("_", "-") + equals + value if name.startswith("--") else word)
    return result


def run(
    name: str,
    function: Callable[..., int],
    argv: Sequence[str],
    usage: str | None = None,
    program: str = "innerloop",
) -> int:
    """Call ``function`` with what ``argv`` says, by its signature and docstring; ``--help`` prints these.

    Args:
        name: of the command, with the names it was given ("train maml sinusoid").
        function: what to call.
        argv: the words after the command.
        usage: the first line of the help, where ``argv`` lacks positional words that were taken before.
        program: what is typed before ``name``.

    Raises:
        ConfigError: a flag or value that the signature has no place for; the message is one sentence.
    """
    from cyclopts import App
    from cyclopts.exceptions import CycloptsError

    app = App(
        name=f"{program} {name}",
        help_formatter=PlainHelp(),
        help_format="plaintext",
        version_flags=(),
        usage=None if usage is None else f"Usage: {program} {usage}",
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        help_on_error=False,
        suppress_keyboard_interrupt=False,  # `boundary.guarded` says what happened
        end_of_options_delimiter="--",
    )
    _strict(function)
    app.default(function)
    words = dashed(argv)
    still_wanted()
    try:
        outcome = app(words)
    except CycloptsError as error:
        raise ConfigError(_sentence(error, f"{program} {name}", words)) from error
    return outcome if isinstance(outcome, int) else 0


def _strict(function: Callable[..., Any]) -> None:
    """Give every plainly typed parameter our own conversion, and its own sentence of the docstring."""
    from cyclopts import Parameter

    hints, texts = get_type_hints(function, include_extras=True), options.described(function.__doc__)
    for name, hint in hints.items():
        inner, extras = (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
        kind = options.settable(inner)
        if name == "return" or kind is None:
            continue
        convert = None if options.is_flag(kind) else options.converter(kind)
        says_no = options.is_flag(kind) and type(None) in options.members(kind)  # left out is neither yes nor no
        negative = (f"--no-{name.replace('_', '-')}",) if says_no else ()
        strict = Parameter(converter=convert, negative=negative, help=texts.get(name))
        hints[name] = Annotated[(inner, strict, *extras)]
    function.__annotations__ = hints


def _sentence(error: CycloptsError, command: str, words: Sequence[str]) -> str:
    """What was expected, what came, what to do."""
    from cyclopts import exceptions

    see = f"see {command} --help"
    token = getattr(error, "token", None)
    if isinstance(error, exceptions.UnknownOptionError):
        word = (error.token.keyword or error.token.value).split("=")[0]
        known = [name for argument in error.argument_collection if argument.parse for name in argument.names]
        return f"unknown flag {word!r}: {closest(word, [*known, '--help'], see)}"
    if isinstance(error, exceptions.UnusedCliTokensError | exceptions.UnknownCommandError):
        unused = list(error.unused_tokens or [])
        return f"expected no more than what was understood, got {' '.join(unused)!r} too; {see}"
    name = _place(error)
    if isinstance(error, exceptions.RepeatArgumentError):
        return f"expected {name} once, got it twice; leave one out"
    if isinstance(error, exceptions.MissingArgumentError):
        if name.startswith("-") and name not in words:
            return f"{name} is required; {see}"
        count = error.argument.token_count()[0] if error.argument is not None else 1
        got = " ".join(error.tokens_so_far) or "nothing"
        wanted = "a value" if count <= 1 else f"{count} values"
        return f"expected {wanted if name.startswith('-') else name}, got {got}{_at(name)}; {see}"
    cause = error.__cause__
    if isinstance(cause, ConfigError):
        return f"{name} {cause}" + ("" if ";" in str(cause) else f"; {see}")
    if isinstance(error, exceptions.CoercionError) and token is not None:
        return f"{name} expected another type of value, got {token.value!r}; {see}"
    detail = " ".join(str(cause or error).split())
    return f"{name}: {detail}; {see}"


def _at(name: str) -> str:
    return f" after {name}" if name.startswith("-") else ""


def _place(error: CycloptsError) -> str:
    """The flag or argument an error is about, as the user knows it."""
    token = getattr(error, "token", None)
    for keyword in (getattr(error, "keyword", None), getattr(token, "keyword", None)):
        if keyword:
            return keyword
    return error.argument.name if error.argument is not None else "the command line"


def closest(word: str, known: Iterable[str], otherwise: str) -> str:
    """The nearest of ``known``, or ``otherwise`` when none is near (a list of fifty flags helps nobody)."""
    import difflib

    bare = {name.lstrip("-"): name for name in known}  # the dashes would make all flags alike
    close = difflib.get_close_matches(word.lstrip("-"), bare, n=1, cutoff=0.6)
    return f"did you mean {bare[close[0]]!r}?" if close else otherwise


def split(
    argv: Sequence[str],
    arity: Mapping[str, int | None],
    wanted: int,
    names: Collection[str] = (),
) -> tuple[list[str], list[str]]:
    """(positional words, the rest), for a command whose flags depend on its positional words.

    Args:
        argv: the words, flags dashed.
        arity: how many words follow each known flag (None: one or more).
        wanted: how many positional words to find; more are left in the rest.
        names: words that are positional wherever they stand after an unknown or open-ended flag. An unknown
            flag takes all words but these, or one word where that leaves too few positional ones.
    """
    found, rest = _split(argv, arity, wanted, names, math.inf if names else 1)
    return (found, rest) if len(found) == wanted else _split(argv, arity, wanted, names, 1)


def _split(
    argv: Sequence[str], arity: Mapping[str, int | None], wanted: int, names: Collection[str], unknown: float
) -> tuple[list[str], list[str]]:
    found: list[str] = []
    rest: list[str] = []
    budget: float = 0  # words that the last flag may still take
    fixed = True  # whether it takes them whatever they are
    for i, word in enumerate(argv):
        if word == "--":
            more = wanted - len(found)
            return [*found, *argv[i + 1 :][:more]], [*rest, *argv[i + 1 :][more:]]
        if is_flag(word):
            name, equals, _ = word.partition("=")
            count = 0 if equals or name == "-h" else arity.get(name, unknown)
            budget = math.inf if count is None else count
            fixed = arity.get(name) is not None
            rest.append(word)
        elif budget and (fixed or word not in names):
            budget -= 1
            rest.append(word)
        elif len(found) < wanted:
            found.append(word)
            budget = 0
        else:
            rest.append(word)
    return found, rest


def is_flag(word: str) -> bool:
    """``--steps`` and ``-h``, but not ``-1`` or ``-0.5``."""
    return len(word) > 1 and word[0] == "-" and not (word[1].isdigit() or word[1] == ".")


def existing_folder(path: Path, what: str, hint: str) -> Path:
    """``path``, when it is a folder; else an error that says what it should have been."""
    from innerloop.errors import InputError

    if not path.is_dir():
        got = "a file" if path.exists() else "nothing there"
        raise InputError(f"expected {what}, got {got} at {str(path)!r}; {hint}")
    return path


# ---- how help is printed: plain text, a flag and its sentence, wrapped to the terminal --------------------------------
_COLUMN = 24  # where sentences begin


def _plain(value: Any) -> str:
    return " ".join(str(getattr(value, "plain", value) or "").split())


class PlainHelp:
    """cyclopts hands over panels of entries; this prints them."""

    def __init__(self) -> None:
        self.width: int = max(60, min(shutil.get_terminal_size((100, 24)).columns, 110))

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        """One group of flags, with its heading."""
        del console, options
        if not panel.entries or panel.format == "command":
            return
        print(f"\n{panel.title}:")
        for entry in panel.entries:
            self._entry(entry)

    def _entry(self, entry: Any) -> None:
        label = ", ".join(entry.display_labels)
        kind = "" if entry.negative_names or entry.positional_label else _plain(entry.metavar)
        text = readable(_plain(_text_of(entry.description)))
        if entry.choices:
            text += f" One of {', '.join(map(_plain, entry.choices))}."
        if entry.required:
            text += " Required."
        default = _plain(entry.default)
        if default and default != "False" and not (default == "none" and "left out: " in text):
            text += f" [default: {default}]"
        head = f"  {label} {kind}".rstrip()
        lines = textwrap.wrap(text.strip(), self.width - _COLUMN) or [""]
        if len(head) + 2 > _COLUMN:
            print(head)
        else:
            print((head.ljust(_COLUMN) + lines.pop(0)).rstrip())
        for line in filter(None, lines):
            print(" " * _COLUMN + line)

    def render_usage(self, console: Any, options: Any, usage: Any) -> None:
        """The first line."""
        del console, options
        if usage:
            print(f"Usage: {_plain(usage).removeprefix('Usage: ')}\n")

    def render_description(self, console: Any, options: Any, description: Any) -> None:
        """What the command does."""
        del console, options
        for paragraph in str(_text_of(description) or "").split("\n\n"):
            if paragraph.strip():
                print("\n".join(textwrap.wrap(readable(_plain(paragraph)), self.width)))


def _text_of(value: Any) -> Any:
    """The text inside what cyclopts wraps it in."""
    if value is None or isinstance(value, str) or hasattr(value, "plain"):
        return getattr(value, "plain", value)
    inner = getattr(value, "primary_renderable", None)
    return _text_of(inner) if inner is not None else getattr(value, "markup", str(value))
