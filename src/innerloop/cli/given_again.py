"""A run's parts that no installed package offers, given again on the command line as ``package.module:name``.

A run stores such a name, and nothing imports it from there: the user has to type it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from innerloop.cli.parts import value_of
from innerloop.errors import ConfigError
from innerloop.registry import is_place

FLAGS = {"--algorithm": 1, "--tasks": 1, "--model": 1}


def read(words: Sequence[str]) -> dict[str, str | None]:
    """The values of these flags, before the other flags of a command are known."""
    return {flag[2:]: value_of(words, flag) for flag in FLAGS}


def checked(
    *runs: Path, algorithm: str | None = None, tasks: str | None = None, model: str | None = None
) -> dict[str, str]:
    """What `innerloop.load` takes of these words: "learner", "tasks", "model"; those that were given.

    Raises:
        ConfigError: a word that does not say where something is, or a part that none of the runs lacks.
    """
    given = {"algorithm": algorithm, "problem": tasks, "model": model}
    given = {kind: word for kind, word in given.items() if word is not None}
    if not given:
        return {}
    flags = {"algorithm": "--algorithm", "problem": "--tasks", "model": "--model"}
    for kind, word in given.items():
        if not is_place(word):
            raise ConfigError(f"{flags[kind]} expected package.module:name, got {word!r}; leave it out")
    from innerloop.training.load import absent
    from innerloop.training.run_config import read_run_config

    lacking = set[str]()
    for run in runs:
        # A task file says what it lacks when it is opened.
        lacking |= absent(read_run_config(run)) if run.is_dir() else set(given)
    for kind in given:
        if kind not in lacking:
            where = ", ".join(map(str, runs))
            raise ConfigError(
                f"{flags[kind]} expected a run that lacks its {kind}, got {where}, whose is here; leave it out"
            )
    names = {"algorithm": "learner", "problem": "tasks", "model": "model"}
    return {names[kind]: word for kind, word in given.items()}
