"""The outer optimizer's arguments as a dictionary and as text, the same in both. Without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from innerloop.errors import ConfigError

_WORDS = {"true": True, "false": False, "none": None}


def options_of(given: Mapping[str, Any] | Sequence[str] | None) -> dict[str, Any] | None:
    """The arguments by name: numbers, texts, yes or no, None, and tuples of two or more of these.

    Args:
        given: such a mapping, or texts NAME=VALUE.

    Raises:
        ConfigError: not written NAME=VALUE, or a value of another type.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        texts = [given] if isinstance(given, str) else list(given)
        pairs = [str(text).partition("=") for text in texts]
        for text, (name, _, value) in zip(texts, pairs, strict=True):
            if not (name.isidentifier() and value):
                raise ConfigError(
                    f"outer_optimizer_options expected NAME=VALUE such as weight_decay=0.01, got {text!r}; write it so"
                )
        given = {name: _read(value) for name, _, value in pairs}
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name, value in found.items():
        if not isinstance(name, str) or not _comes_back(value):
            raise ConfigError(
                "outer_optimizer_options expected names with numbers, texts, true, false, none, or two or more of them, "
                f"got {name!r}: {value!r}; for others give outer_optimizer a function of your own"
            )
    return found


def written(options: Mapping[str, Any]) -> list[str]:
    """The texts that `options_of` reads as these."""
    return [f"{name}={_text(value)}" for name, value in options.items()]


def _comes_back(value: Any) -> bool:
    read = _read(_text(value))
    return type(read) is type(value) and read == value


def _read(text: str) -> Any:
    if "," in text:
        return tuple(_read(part) for part in text.split(","))
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
