"""How a command's help is printed: plain text, a flag and its sentence, wrapped to the terminal."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

from innerloop.cli.sentences import readable

_COLUMN = 24  # where sentences begin


def _plain(value: Any) -> str:
    return " ".join(str(getattr(value, "plain", value) or "").split())


class PlainHelp:
    """cyclopts hands over panels of entries; this prints them."""

    def __init__(self) -> None:
        self.width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 110))

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
