"""Several runs that differ in their seed alone, in one folder: RUN/seed-0, RUN/seed-1, ... Without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from innerloop.errors import CheckpointError, ConfigError
from innerloop.storage import write_atomically

SEEDS, VERSION = "innerloop-seeds", 1
_FILE = "seeds.json"


class Seeds(NamedTuple):
    """Runs of one setting.

    Attributes:
        path: of the folder.
        seeds: in the order they are trained in.
        settings: what they share, as a configuration file has it: tables training, algorithm, tasks, model, meta_gradient.
        names: part -> name: algorithm and tasks, and where they were chosen model and meta_gradient.
    """

    path: Path
    seeds: tuple[int, ...]
    settings: dict[str, Any]
    names: dict[str, str]

    @property
    def folders(self) -> dict[int, Path]:
        """The run directory of each seed."""
        return {seed: self.path / f"seed-{seed}" for seed in self.seeds}

    def write(self, command: str) -> None:
        described = {"format": SEEDS, "version": VERSION, **self._asdict(), "command": command}
        del described["path"]
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / _FILE, json.dumps(described, indent=1).encode())


def parse_seeds(text: str) -> tuple[int, ...]:
    """The seeds of "0,1,2".

    Raises:
        ConfigError: fewer than two, one twice, or something that is no 64-bit integer.
    """
    try:
        seeds = tuple(int(word.strip()) for word in text.replace("_", "x").split(","))
    except ValueError:
        raise ConfigError(f"--seeds expected integers with commas between them, got {text!r}; 0,1,2, say") from None
    if len(seeds) < 2:
        raise ConfigError(f"--seeds expected two or more, which give an interval, got {text!r}; for one give --seed")
    if len(set(seeds)) < len(seeds) or not all(-(2**63) <= seed < 2**63 for seed in seeds):
        raise ConfigError(f"--seeds expected different 64-bit integers, got {text!r}; 0,1,2, say")
    return seeds


def has_seeds(path: Path) -> bool:
    """Whether this folder is one of several runs."""
    return (path / _FILE).is_file()


def read_seeds(path: Path) -> Seeds:
    """What `Seeds.write` wrote.

    Raises:
        CheckpointError: it cannot be used, or a newer innerloop wrote it.
    """
    file = path / _FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["format"] != SEEDS:
            raise ValueError(f"its format is {found['format']!r}")
        if found["version"] > VERSION:
            raise CheckpointError(
                f"expected {file} of version {VERSION} or older, got {found['version']}; upgrade innerloop"
            )
        names = {str(part): str(name) for part, name in found["names"].items()}
        seeds = tuple(int(seed) for seed in found["seeds"])
        return Seeds(path, seeds, dict(found["settings"]), names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"expected the seeds of several runs in {file}, got something damaged ({error})"
        ) from None


def runs_of(path: Path) -> list[Path]:
    """The run directories of this folder: those of its seeds that were begun, or the folder itself."""
    if not has_seeds(path):
        return [path]
    return [folder for folder in read_seeds(path).folders.values() if (folder / "config.json").is_file()]


def plain_settings(merged: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, Any]:
    """Settings by part as a configuration file has them; those of named parts with the name."""

    def plain(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    found: dict[str, Any] = {}
    for part, table in merged.items():
        own = {name: plain(value) for name, value in table.items()}
        if part in ("model", "meta_gradient"):
            own = {"name": names[part], **own} if part in names else {}
        if own:
            found[part] = own
    return found
