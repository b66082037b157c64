"""The config.json of a run directory: what repeats the run. Read in one place, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from innerloop.errors import CheckpointError, InputError

# Version 1 wrote "min_lr": 0.0 for "the method's".
RUN, VERSION = "innerloop-run", 2


def read_run_config(path: str | Path) -> dict[str, Any]:
    """The configuration of the run in this directory.

    Raises:
        InputError: there is no such directory.
        CheckpointError: it is no run directory, its configuration cannot be used, or a newer innerloop wrote it.
    """
    path = Path(path)
    if not path.is_dir():
        what = "a file" if path.exists() else "nothing"
        raise InputError(f"expected a run directory, got {path} where there is {what}; give what --out named")
    file = path / "config.json"
    if not file.is_file():
        raise CheckpointError(
            f"expected a run directory, got {path} without config.json; give the folder that `fit` or train wrote"
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"expected JSON in {file}, got something damaged ({error}); restore it or train again"
        ) from error
    if not isinstance(config, dict) or config.get("format") != RUN:
        raise CheckpointError(f"expected {file} to say format {RUN!r}, got another kind of file; give a run's folder")
    version = config.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise CheckpointError(
            f"expected {file} of version {VERSION} or older, got {version!r}; upgrade innerloop to read this run"
        )
    for key in ("algorithm", "model", "tasks", "training"):
        if not isinstance(config.get(key), dict):
            raise CheckpointError(
                f"expected a table {key!r} in {file}, got {config.get(key)!r}; restore it or train again"
            )
    return upgraded(config)


def upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration as this version would have written it, so that the run goes on to the same numbers."""
    training = config.get("training")
    if config.get("version") != 1 or not isinstance(training, dict):
        return config
    training = {name: None if name == "min_lr" and value == 0.0 else value for name, value in training.items()}
    return {**config, "version": VERSION, "training": training}
