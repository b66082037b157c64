"""What is kept of past searches: their trials, and how a new search is to use them. A file of tensors and JSON, no code."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerloop.errors import CheckpointError, InputError
from innerloop.hpo.past import PastTask
from innerloop.hpo.space import Parameter
from innerloop.storage import load_tensors, save_tensors, write_atomically

FILE, SUMMARY = "hpo.safetensors", "hpo.json"
_KIND, _VERSION = "innerloop-hpo", 1


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Past searches, ready for the next: what `innerloop.hpo.fit` returns and `TransferSampler` takes.

    Attributes:
        tasks: the past tasks, lower values are better.
        kind: how a search uses them, of `innerloop.hpo.search.KINDS`, or the method of a learned surrogate.
        regret: of each kind that was tried, and of random search, the mean regret on past tasks that were left out, after each
            number of trials in ``trials``; empty where a single task was given, of which none can be left out.
        trials: see ``regret``.
        seed: of the fit.
        seconds: that it took.
    """

    tasks: Sequence[PastTask]
    kind: str
    regret: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    trials: Sequence[int] = ()
    seed: int = 0
    seconds: float = 0.0

    @property
    def summary(self) -> dict[str, Any]:
        """What was found, as JSON values."""
        return {
            "kind": self.kind,
            "tasks": {task.name: len(task.values) for task in self.tasks},
            "parameters": sorted({name for task in self.tasks for name in task.parameters}),
            "trials": list(self.trials),
            "regret": {name: list(own) for name, own in self.regret.items()},
            "seed": self.seed,
            "seconds": round(self.seconds, 2),
        }

    def __repr__(self) -> str:
        trials = sum(len(task.values) for task in self.tasks)
        line = f"hyperparameter search from {len(self.tasks)} past tasks of {trials} trials: {self.kind}"
        if not self.regret:
            return f"{line} (with one task, none could be left out to try it)"
        at = len(self.trials) - 1
        beside = ", ".join(f"{name} {own[at]:.3f}" for name, own in self.regret.items())
        return f"{line}; regret after {self.trials[at]} trials on tasks left out: {beside}"

    def save(self, out: str | Path) -> Path:
        """Keep it in a folder; returns the folder."""
        folder = Path(out)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"out expected a folder, got the file {str(folder)!r}; give another")
        tensors: dict[str, torch.Tensor] = {}
        about: list[dict[str, Any]] = []
        for i, task in enumerate(self.tasks):
            tensors[f"{i}.values"] = torch.as_tensor(task.values, dtype=torch.float64)
            columns = {}
            for name in sorted({name for config in task.configs for name in config}):
                cells = [config.get(name, _Absent) for config in task.configs]
                columns[name], tensors[f"{i}.{name}"] = _written(cells)
            parameters = {name: own.to_dict() for name, own in task.parameters.items()}
            about.append({"name": task.name, "columns": columns, "parameters": parameters})
        header = {**self.summary, "tasks": about, "seconds": self.seconds}
        save_tensors(folder / FILE, _KIND, _VERSION, tensors, header)
        write_atomically(folder / SUMMARY, (json.dumps(self.summary, indent=1) + "\n").encode())
        return folder


class _Absent:
    """In place of the value of a parameter that a configuration has not."""


def _written(cells: Sequence[Any]) -> tuple[dict[str, Any], torch.Tensor]:
    """Values of one parameter: numbers as they are, others as places among their kinds; NaN or -1 where there is none."""
    kinds = {type(cell) for cell in cells if cell is not _Absent}
    if kinds <= {int, float} and all(cell is _Absent or abs(cell) < 2**53 for cell in cells):
        numbers = [math.nan if cell is _Absent else float(cell) for cell in cells]
        # A float that is whole has to come back as a float.
        return {"type": "int" if kinds == {int} else "float"}, torch.tensor(numbers, dtype=torch.float64)
    different: dict[tuple[type, Any], int] = {}
    places = [-1 if cell is _Absent else different.setdefault((type(cell), cell), len(different)) for cell in cells]
    return {"type": "other", "values": [value for _, value in different]}, torch.tensor(places, dtype=torch.int64)


def _read(said: Mapping[str, Any], cells: torch.Tensor) -> list[Any]:
    if said["type"] == "other":
        return [_Absent if at < 0 else said["values"][at] for at in cells.tolist()]
    kind = int if said["type"] == "int" else float
    return [_Absent if math.isnan(cell) else kind(cell) for cell in cells.tolist()]


def load(run: str | Path) -> Transfer:
    """What `innerloop.hpo.fit` kept in a folder. Reading cannot run code.

    Raises:
        CheckpointError: nothing of the kind there, or a damaged file.
    """
    folder = Path(run)
    if not (folder / FILE).is_file():
        got = "a folder without it" if folder.is_dir() else ("a file" if folder.exists() else "nothing there")
        raise CheckpointError(
            f"expected a folder with {FILE}, made by innerloop hpo fit, got {got} at {str(folder)!r}; fit past studies first"
        )
    tensors, header = load_tensors(folder / FILE, _KIND, _VERSION)
    try:
        tasks = []
        for i, about in enumerate(header["tasks"]):
            values = tensors[f"{i}.values"].numpy()
            configs: list[dict[str, Any]] = [{} for _ in values]
            for name, said in about["columns"].items():
                for config, cell in zip(configs, _read(said, tensors[f"{i}.{name}"]), strict=True):
                    if cell is not _Absent:
                        config[name] = cell
            parameters = {name: Parameter.from_dict(own) for name, own in about["parameters"].items()}
            tasks.append(PastTask(about["name"], configs, np.array(values), parameters))
        return Transfer(tasks, header["kind"], header["regret"], header["trials"], header["seed"], header["seconds"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{folder / FILE} is damaged ({error!r}); fit the past studies again") from None
