"""A run's parts that no installed package offers, given again on the command line as ``package.module:name``.

A run stores such a name, and nothing imports it from there: the user has to type it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from innerloop.cli.parts import value_of
from innerloop.errors import ConfigError
from innerloop.registry import is_place

FLAGS = {"learner": "--algorithm", "tasks": "--tasks", "model": "--model"}  # by the argument of `innerloop.load`


def read(words: Sequence[str]) -> dict[str, str | None]:
    """The values of these flags, before the other flags of a command are known."""
    return {flag[2:]: value_of(words, flag) for flag in FLAGS.values()}


def checked(
    *runs: Path, algorithm: str | None = None, tasks: str | None = None, model: str | None = None
) -> dict[str, str]:
    """What `innerloop.load` takes of these words: "learner", "tasks", "model"; those that were given.

    Raises:
        ConfigError: a word that does not say where something is, or a part that none of the runs lacks.
    """
    every = {"learner": algorithm, "tasks": tasks, "model": model}
    given = {name: word for name, word in every.items() if word is not None}
    if not given:
        return {}
    for name, word in given.items():
        if not is_place(word):
            raise ConfigError(f"{FLAGS[name]} expected package.module:name, got {word!r}; leave it out")
    from innerloop.training.load import KINDS, lacked
    from innerloop.training.run_config import read_run_config

    lacking = set[str]()
    for run in runs:
        # A task file says what it lacks when it is opened.
        lacking |= set(lacked(read_run_config(run), given) if run.is_dir() else given)
    for name in given:
        if name not in lacking:
            where = ", ".join(map(str, runs))
            raise ConfigError(
                f"{FLAGS[name]} expected a run that lacks its {KINDS[name]}, got {where}, whose is here; leave it out"
            )
    return given
