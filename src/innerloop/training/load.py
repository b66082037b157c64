"""Opening what was written: task files and run directories."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop import methods, models
from innerloop.core import Task
from innerloop.errors import CheckpointError, ConfigError, InnerloopError
from innerloop.meta_learner.files import (
    TASK,
    VERSION,
    as_long_as_adapted,
    class_names,
    dtype_named,
    expect_modest,
    stored_support,
)
from innerloop.meta_learner.fitted import Fitted
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.unknown_inputs import Threshold
from innerloop.methods.other_meta_gradient import with_meta_gradient
from innerloop.methods.pairing import LossArgument
from innerloop.registry import load as load_named
from innerloop.storage import load_tensors
from innerloop.training.checkpoint import RunDirectory, load_weights


@dataclasses.dataclass(frozen=True)
class Again:
    """What a file does not hold and its user gives again; see `load`."""

    model: nn.Module | None = None
    loss: LossArgument = None
    learner: MetaLearner | None = None

    def __post_init__(self) -> None:
        if self.learner is not None and not isinstance(self.learner, MetaLearner):
            raise ConfigError(
                f"learner expected a MetaLearner made as the stored one was, got {type(self.learner).__name__}"
            )


def load(
    path: str | Path,
    model: nn.Module | None = None,
    loss: LossArgument = None,
    *,
    learner: MetaLearner | None = None,
) -> MetaLearner | Fitted:
    """Open a task file or a run directory.

    Args:
        path: a file that `Fitted.save` wrote, or a directory that `fit` wrote.
        model: needed when the model is not one of `il.models`: an instance of the same class.
        loss: needed to adapt again when training used a loss function of one's own.
        learner: needed when the pairing is one's own (`il.MetaLearner.of`), or has an update rule of one's own: a learner that
            was made in the same way, model included. It is not changed.

    Returns:
        A `Fitted` for a file, a `MetaLearner` with the best validated weights for a directory.

    Raises:
        CheckpointError: nothing there, damaged, of a newer version, or for another model.
    """
    path, again = Path(path), Again(model, loss, learner)
    if path.is_dir():
        return load_run(path, again)
    if not path.exists():
        raise CheckpointError(f"{path} expected a task file or a run directory, found nothing there")
    return load_fitted(path, again)


def load_run(path: Path, again: Again) -> MetaLearner:
    """The learner of a run directory, with its best weights."""
    directory = RunDirectory(path)
    config = directory.read_config()
    learner = remake(config, path, again)
    directory.load_best(learner)
    return learner


def remake(config: dict[str, Any], path: Path, again: Again) -> MetaLearner:
    """The learner that a configuration describes, with fresh weights; or the one that was given again."""
    try:
        recorded, described = config["algorithm"], config["model"]
        name, options = recorded["name"], dict(recorded["options"])
        paired = config.get("meta_gradient")
        paired = None if paired is None else {"name": paired["name"], "options": dict(paired["options"])}
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{path} expected entries 'algorithm' and 'model' in its configuration; it is damaged"
        ) from None
    if again.learner is not None:
        learner = copy.deepcopy(again.learner)
        _expect_same(learner.method_spec, recorded, path)
    else:
        missing = own_parts({**recorded, "options": options})
        if missing:
            raise CheckpointError(
                f"{path} was made with parts of your own, {missing}; give a learner made in the same way: "
                "il.load(path, learner=...)"
            )
        if again.loss is not None:
            options["loss"] = again.loss
        model = again.model
        if model is None:
            if "name" not in described:
                raise CheckpointError(
                    f"{path} was made with your own model {described.get('custom')}; give it: "
                    "il.load(path, model=MyNet())"
                )
            model = models.build(described["name"], described["arguments"])
        try:
            learner = load_named("algorithm", methods.ALGORITHMS, name)(model, **options)
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from None
    if paired is not None and learner.meta_gradient_spec != paired:
        try:
            learner = with_meta_gradient(learner, paired["name"], **paired["options"])
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from None
    learner.task_objective = config.get("objective")
    shape = config.get("input_shape")
    learner.input_shape = tuple(shape) if isinstance(shape, list) else None
    found = config.get("preprocessing")
    learner.preprocessing = found if isinstance(found, dict) else None
    return learner


def own_parts(recorded: dict[str, Any]) -> str:
    """The parts of a stored method that no file holds and no name stands for, in words; none: empty."""
    rule = recorded["options"].get("inner_optimizer")
    if recorded.get("made_of"):
        return str(recorded["made_of"])
    return rule[7:] if isinstance(rule, str) and rule.startswith("custom:") else ""


def _expect_same(given: dict[str, Any], stored: dict[str, Any], path: Path) -> None:
    """CheckpointError where a learner that was given again is not made as the stored one was."""
    given, stored = ({"name": d.get("name"), "parts": d.get("made_of"), **d["options"]} for d in (given, stored))
    for key in dict.fromkeys([*given, *stored]):
        mine, theirs = (list(v) if isinstance(v, tuple) else v for v in (given.get(key), stored.get(key)))
        if mine != theirs and not str(theirs).startswith("custom:"):
            raise CheckpointError(f"{path} expected a learner with {key} {theirs!r}, got one with {mine!r}")


def load_fitted(path: Path, again: Again) -> Fitted:
    tensors, header = load_tensors(path, TASK, VERSION)
    try:
        if not isinstance(header, dict):
            raise TypeError("no object")
        expect_modest(header, tensors, path, own_model=again.model is not None or again.learner is not None)
        return _fitted(path, tensors, header, again)
    except InnerloopError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: {error}") from None
    except Exception as error:  # a stranger's configuration may be anything, and fail in any way
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path} is damaged: its configuration and its tensors do not fit ({reason})") from None


def _fitted(path: Path, tensors: dict[str, Tensor], header: dict[str, Any], again: Again) -> Fitted:
    owner = remake(header, path, again)
    owner.to(dtype=dtype_named(header["dtype"]))
    named: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.startswith("meta/params/"):
            named[f"learner/model.{name[12:]}"] = value
        elif name.startswith("meta/rule/"):
            named[f"learner/rule.{name[10:].replace('.', '|')}"] = value
        elif name.startswith("meta/buffers/"):
            named[f"learner/model.{name[13:]}"] = value
        elif name.startswith("module/"):
            named[f"learner/model.{name[7:]}"] = value
    load_weights(owner, named, path)
    owner.engine.needs_loop = tuple(header["needs_loop"])
    owner.assume_mixing(bool(header["mixes_examples"]))
    support = stored_support(header["support"], tensors)
    support = as_long_as_adapted(support, header["support"], tensors)
    learner = owner.learner.in_evaluation()
    meta = owner.meta()
    classes, task_objective = class_names(header["classes"]), header["task_objective"]
    ids = None if classes is None else torch.arange(len(classes))
    one = Task(support, support, task_objective, class_ids=ids, noise=torch.tensor(0))
    skeleton = learner.init(meta, one)
    leaves, spec = pytree.tree_flatten(skeleton)
    saved = [tensors[f"fast/{i:04d}"] for i in range(len(leaves))]
    if any(a.shape != b.shape for a, b in zip(leaves, saved, strict=True)):
        raise CheckpointError(f"{path} belongs to another model: adapted values have other shapes")
    fast = pytree.tree_unflatten(saved, spec)
    if header["step"] is not None:
        fast = dataclasses.replace(fast, step=int(header["step"]))
    limit = None if header.get("threshold") is None else Threshold.from_dict(header["threshold"])
    meta = type(meta)(*({n: v.detach().clone() for n, v in part.items()} for part in meta))
    return Fitted(owner, learner, meta, fast, support, classes, task_objective, owner.preprocessing, limit)
