"""A run directory: the configuration that repeats it, checkpoints that resume it, the best weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop.core import TaskFamily
from innerloop.engine import Plan
from innerloop.errors import CheckpointError, InputError
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.objectives import losses
from innerloop.provenance import commit, environment
from innerloop.storage import load_tensors, save_tensors, write_atomically
from innerloop.training import launch
from innerloop.training.config import TrainConfig
from innerloop.training.optimizer_state import flat_state, put_state
from innerloop.training.run_config import RUN, read_run_config
from innerloop.training.run_config import VERSION as RUN_VERSION

CHECKPOINT, WEIGHTS, VERSION = "innerloop-checkpoint", "innerloop-weights", 1
Checkpoint = tuple[dict[str, Tensor], dict[str, Any]]  # tensors and header


@dataclasses.dataclass
class Progress:
    """Where a run is: everything that a step depends on besides tensors.

    ``seconds`` are those of all sittings; ``ended_minutes`` is the budget that is used up, 0 while none is.
    """

    step: int = 0
    best_step: int = 0
    best_value: float | None = None
    validations_since_best: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    seconds: float = 0.0
    ended_minutes: float = 0.0


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path: Path = Path(path)
        self.config_file: Path = self.path / "config.json"
        self.checkpoint_file: Path = self.path / "checkpoint.safetensors"
        self.best_file: Path = self.path / "best.safetensors"
        self.metrics_file: Path = self.path / "metrics.jsonl"
        self.plan_file: Path = self.path / "plan.json"

    def create(self, force: bool) -> None:
        """Make the directory, empty of an earlier run.

        Raises:
            InputError: something is there already and ``force`` is off.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} expected a directory for the run, got a file; choose another place")
        if self.path.is_dir() and any(self.path.iterdir()):
            if not force:
                raise InputError(
                    f"{self.path} is not empty; resume that run, choose another place, or overwrite it with force"
                )
            if not self.config_file.exists():
                raise InputError(f"{self.path} is not empty and holds no innerloop run; it is not overwritten")
            self._clear()
        self.path.mkdir(parents=True, exist_ok=True)

    def remove_unstarted(self) -> None:
        """Take away what a run without any checkpoint left, so that the next try finds the place free."""
        self._clear()
        self.config_file.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def _clear(self) -> None:
        """Remove what a run writes, but for its configuration."""
        named = [self.checkpoint_file, self.best_file, self.metrics_file, self.plan_file, self.path / "evaluation.json"]
        for old in [*named, *self.path.glob("events.out.tfevents*")]:
            old.unlink(missing_ok=True)

    def write_config(self, learner: MetaLearner, tasks: TaskFamily, config: TrainConfig, command: str) -> None:
        described = {
            "format": RUN,
            "version": RUN_VERSION,
            **describe(learner, tasks, config),
            "commit": commit(),
            "environment": environment(),
            "command": command,
            "launch": launch.identity(),
        }
        write_atomically(self.config_file, json.dumps(described, indent=1).encode())

    def write_plan(self, plan: Plan) -> None:
        """Keep how steps are taken: taken in the same way, they are the same to the last bit."""
        write_atomically(self.plan_file, json.dumps(plan.as_dict(), indent=1).encode())

    def read_plan(self) -> Plan | None:
        """What `write_plan` wrote; None where nothing was, or nothing that this version knows."""
        try:
            return Plan.from_dict(json.loads(self.plan_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def begun_here(self, learner: MetaLearner, tasks: TaskFamily, config: TrainConfig) -> bool:
        """Whether this very launch of torchrun began this run, and has since started its processes again."""
        if launch.restarts() == 0 or not self.config_file.exists():
            return False
        found = self.read_config()
        own = json.loads(json.dumps(describe(learner, tasks, config)))
        return found.get("launch") == launch.identity() and all(found.get(key) == own[key] for key in own)

    def read_config(self) -> dict[str, Any]:
        """The run's configuration.

        Raises:
            CheckpointError: no run, a damaged one, or one of a newer version.
        """
        return read_run_config(self.path)

    def save(self, learner: MetaLearner, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """One atomic file with all that resuming needs."""
        tensors = weights(learner)
        tensors |= {f"carry/{name}": value for name, value in learner.carry.items()}
        kept, plain = flat_state(optimizer)
        tensors |= kept
        tensors["rng/torch"] = torch.get_rng_state()
        header = {**dataclasses.asdict(progress), "outer_step": learner.outer_step, "method": learner.name}
        if plain:
            header["optimizer"] = plain
        if learner.meta_gradient_spec:
            header["meta_gradient"] = learner.meta_gradient_spec
        save_tensors(self.checkpoint_file, CHECKPOINT, VERSION, tensors, header)

    def read_checkpoint(self) -> Checkpoint:
        """What `save` wrote.

        Raises:
            CheckpointError: missing, damaged or newer.
        """
        return load_tensors(self.checkpoint_file, CHECKPOINT, VERSION)

    def restore(self, learner: MetaLearner, optimizer: torch.optim.Optimizer, found: Checkpoint) -> Progress:
        """Put a checkpoint back into learner, optimizer and torch's generator.

        Raises:
            CheckpointError: it is of another method or model.
        """
        tensors, header = found
        if header.get("method") != learner.name:
            raise CheckpointError(
                f"{self.checkpoint_file} expected a run of {learner.name}, got one of {header.get('method')}"
            )
        paired = header.get("meta_gradient")
        if paired != learner.meta_gradient_spec:
            raise CheckpointError(
                f"{self.checkpoint_file} expected the meta-gradient {_said(paired)}, got {_said(learner.meta_gradient_spec)}; "
                "make the learner as it was: il.with_meta_gradient, or il.load(run)"
            )
        load_weights(learner, tensors, self.checkpoint_file)
        learner.carry = {n[6:]: v.to(learner.device) for n, v in tensors.items() if n.startswith("carry/")}
        learner.outer_step = header["outer_step"]
        put_state(optimizer, tensors, header.get("optimizer", {}))
        torch.set_rng_state(tensors["rng/torch"])
        names = {f.name for f in dataclasses.fields(Progress)}
        return Progress(**{name: value for name, value in header.items() if name in names})

    def save_best(self, learner: MetaLearner, progress: Progress) -> None:
        header = {"method": learner.name, "step": progress.step, "value": progress.best_value}
        save_tensors(self.best_file, WEIGHTS, VERSION, weights(learner), header)

    def load_best(self, learner: MetaLearner) -> None:
        """Put the best validated weights into ``learner``; the last ones where the run was not validated."""
        if self.best_file.exists():
            tensors, _ = load_tensors(self.best_file, WEIGHTS, VERSION)
            load_weights(learner, tensors, self.best_file)
        else:
            tensors, _ = load_tensors(self.checkpoint_file, CHECKPOINT, VERSION)
            load_weights(learner, tensors, self.checkpoint_file)


def describe(learner: MetaLearner, tasks: TaskFamily, config: TrainConfig) -> dict[str, Any]:
    """What decides a run's result: method, model, problem and settings, as JSON values."""
    return {
        "algorithm": learner.method_spec,
        **({"meta_gradient": learner.meta_gradient_spec} if learner.meta_gradient_spec else {}),
        "model": learner.model_record,
        "tasks": {"name": tasks.name, "options": dict(tasks.options)},
        "training": config.as_dict(),
        "objective": losses.name_of(tasks.train.objective),
        "input_shape": list(tasks.train.input_shape),
        **({} if tasks.train.preprocessing is None else {"preprocessing": dict(tasks.train.preprocessing)}),
    }


def _said(paired: dict[str, Any] | None) -> str:
    """An estimator as a sentence names it."""
    if paired is None:
        return "of the method itself"
    return f"{paired['name']} ({', '.join(f'{name}={value}' for name, value in paired['options'].items())})"


def weights(learner: MetaLearner) -> dict[str, Tensor]:
    """Copies of all that is learned. (`state_dict()` alone is no copy: it changes as training goes on.)"""
    return {f"learner/{name}": value.detach().clone() for name, value in learner.state_dict().items()}


def load_weights(learner: MetaLearner, tensors: dict[str, Tensor], path: Path) -> None:
    """Put weights back; a missing, surplus or misshapen tensor is a CheckpointError."""
    found = {name[8:]: value for name, value in tensors.items() if name.startswith("learner/")}
    written = {name for name, _ in learner.model.named_buffers() if f"model.{name}" in found}
    learner.pure.keep_in_files(written)
    own = learner.state_dict()
    for name, first in learner.pure.names.items():  # task files hold what has several names under the first
        if f"model.{name}" in own and f"model.{first}" in found:
            found.setdefault(f"model.{name}", found[f"model.{first}"])
    missing, surplus = sorted(set(own) - set(found)), sorted(set(found) - set(own))
    if missing or surplus:
        raise CheckpointError(
            f"{path} belongs to another model: it lacks {missing[:3] or 'nothing'} and has {surplus[:3] or 'nothing'} too many"
        )
    learner.widen(_stored_rows(own, found))
    stored = next((v.dtype for n, v in found.items() if n.startswith("model.") and v.is_floating_point()), None)
    if stored is not None and stored != learner.dtype:
        learner.to(dtype=stored)  # a float64 run comes back as one
    for name, part in (*learner.named_parameters(), *learner.named_buffers()):
        if name in found and part.dtype != found[name].dtype:  # a layer in a type of its own
            part.data = part.data.to(found[name].dtype)
    own = learner.state_dict()
    for name, value in found.items():
        if value.shape != own[name].shape:
            raise CheckpointError(
                f"{path} belongs to another model: {name} expected shape {tuple(own[name].shape)}, got {tuple(value.shape)}"
            )
    learner.load_state_dict(found)


def _stored_rows(own: dict[str, Tensor], found: dict[str, Tensor]) -> int | None:
    """How long those of the method's parameters are stored that have another length here; None: no or no single length."""
    rows = {
        len(value)
        for name, value in found.items()
        if name.startswith("rule.")
        and value.ndim
        and value.shape != own[name].shape
        and value.shape[1:] == own[name].shape[1:]
    }
    return rows.pop() if len(rows) == 1 else None
