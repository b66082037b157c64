"""A flag that means nothing for what was given is refused: dropped silently, its user would go on believing in it."""

from __future__ import annotations

from innerloop.errors import ConfigError


def only_for(what: str, got: str, **flags: object) -> None:
    """ConfigError for the first of these flags that was given; they need ``what`` where ``got`` was given."""
    for name, value in flags.items():
        if value is not None:
            raise ConfigError(f"--{name.replace('_', '-')} expected {what}, got {got}; leave it out")
