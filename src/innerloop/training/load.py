"""Opening what was written: task files and run directories."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop import methods, models
from innerloop import tasks as problems
from innerloop.builtin import located
from innerloop.core import Objective, Task, TaskFamily, TaskSpec
from innerloop.data import support_files, table_preprocessing, texts
from innerloop.errors import CheckpointError, ConfigError, InnerloopError
from innerloop.functional.outputs import Output
from innerloop.meta_learner.agent import Agent, policy_of
from innerloop.meta_learner.files import (
    TASK,
    VERSION,
    as_long_as_adapted,
    class_names,
    dtype_named,
    expect_modest,
    item_names,
    steps_of,
    stored_support,
    stored_weights,
)
from innerloop.meta_learner.fitted import Fitted
from innerloop.meta_learner.fitted_score import FittedScore
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.own_examples import Judged
from innerloop.meta_learner.unknown_inputs import Threshold
from innerloop.methods.other_meta_gradient import with_meta_gradient
from innerloop.methods.pairing import LossArgument
from innerloop.objectives import denoising, losses
from innerloop.registry import GROUPS, find, is_place, plain
from innerloop.storage import load_tensors
from innerloop.tasks import own_data
from innerloop.training.checkpoint import RunDirectory, load_weights


@dataclasses.dataclass(frozen=True)
class Again:
    """What a file does not hold and its user gives again; see `load`."""

    model: nn.Module | str | None = None
    loss: LossArgument = None
    learner: MetaLearner | str | None = None
    tasks: str | None = None
    output: Output = None

    def __post_init__(self) -> None:
        for name, value, kind in (("model", self.model, nn.Module), ("learner", self.learner, MetaLearner)):
            if not (value is None or isinstance(value, kind) or (isinstance(value, str) and is_place(value))):
                raise ConfigError(
                    f"{name} expected a {kind.__name__} made as the stored one was, or 'package.module:name', got {value!r}"
                )


def load(
    path: str | Path,
    model: nn.Module | str | None = None,
    loss: LossArgument = None,
    *,
    learner: MetaLearner | str | None = None,
    tasks: str | None = None,
    output: Output = None,
) -> MetaLearner | Fitted:
    """Open a task file or a run directory.

    A part that has a name of innerloop's or of an installed package's entry point comes back by itself; nothing else that a
    file names is ever imported. Where you give a part as "package.module:name", that is imported, since you say so.

    Args:
        path: a file that `Fitted.save` wrote, a directory that `fit` wrote, or ``builtin:NAME``, a learner that ships with
            innerloop (`innerloop list learners`).
        model: needed when the model is not one that has a name: an instance of the same class, or where its factory is.
        loss: needed to adapt again when training used a loss function of one's own.
        learner: needed when the pairing is one's own (`il.MetaLearner.of`), or has an update rule of one's own: a learner that
            was made in the same way, model included, which is not changed; or where the method's function is.
        tasks: where the problem's function is, for a model that is the default one of a problem without a name, or an objective
            that only the problem has.
        output: needed when a function of one's own picked the model's output.

    Returns:
        A `Fitted` for a file, a `MetaLearner` with the best validated weights for a directory.

    Raises:
        ConfigError: an unknown built-in learner.
        CheckpointError: nothing there, damaged, of a newer version, for another model, or made with parts that are not here.
    """
    path, again = located(path), Again(model, loss, learner, tasks, output)
    if path.is_dir():
        return load_run(path, again)
    if not path.exists():
        raise CheckpointError(f"{path} expected a task file or a run directory, found nothing there")
    return load_fitted(path, again)


_REGISTRIES = {"algorithm": methods.NAMED, "problem": problems.NAMED, "model": models.NAMED}
assert set(_REGISTRIES) == set(GROUPS)


def _here(kind: str, name: Any) -> bool:
    return isinstance(name, str) and find(kind, _REGISTRIES[kind], name) is not None


def absent(record: Mapping[str, Any]) -> set[str]:
    """Which parts of a run or a task file are not here, and have to be given again: "algorithm", "model", "problem"."""
    found = set()
    for kind in ("algorithm", "model"):
        part = record.get(kind)
        if (
            isinstance(part, dict)
            and part.get("rule") is None
            and (not _here(kind, part.get("name")) or own_parts(part))
        ):
            found.add(kind)
    name = (record.get("tasks") or {}).get("name")
    if absent_network(record) is not None:
        found.add("model")
    if isinstance(name, str) and not _here("problem", name) and (is_place(name) or not own_data.looks_like_path(name)):
        found.add("problem")
    return found


def absent_network(record: Mapping[str, Any]) -> str | None:
    """The network that the training runs of a run train, by its name, where it is not here."""
    name = ((record.get("tasks") or {}).get("options") or {}).get("make_model")
    return name if isinstance(name, str) and not _here("model", name) else None


KINDS = {"learner": "algorithm", "model": "model", "tasks": "problem"}  # what `load` takes, and which part that is


def lacked(record: Mapping[str, Any], again: Mapping[str, Any]) -> dict[str, Any]:
    """Of parts that were given again, by their names as arguments of `load`, those that this run or task file lacks."""
    lacking = absent(record)
    return {name: part for name, part in again.items() if KINDS[name] in lacking}


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
    recorded = {"name": name, "options": options, "made_of": recorded.get("made_of")}
    if isinstance(again.learner, MetaLearner):
        learner = copy.deepcopy(again.learner)
        _expect_same(learner.method_spec, recorded, path)
    else:
        _expect_here(recorded, path, again)  # told first: a learner that is given again brings its model
        model = None if described.get("rule") else _model(described, config.get("tasks"), path, again)
        learner = _method(recorded, model, path, again)
    if paired is not None and learner.meta_gradient_spec != paired:
        try:
            learner = with_meta_gradient(learner, paired["name"], **paired["options"])
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from None
    shape, preprocessing, tasks = config.get("input_shape"), config.get("preprocessing"), config.get("tasks")
    _expect_known(preprocessing, path)
    learner.spec = TaskSpec(
        objective=_objective(config.get("objective"), tasks, again),
        input_shape=tuple(shape) if isinstance(shape, list) else None,
        preprocessing=preprocessing if isinstance(preprocessing, dict) else None,
        problem=tasks if isinstance(tasks, dict) else None,
    )
    return learner


_RECORDS = {part.KIND: part.VERSION for part in (support_files, table_preprocessing, texts)}


def _expect_known(preprocessing: Any, path: Path) -> None:
    """CheckpointError where a newer innerloop wrote how inputs are read: read as of old, they would be others without a word."""
    record = preprocessing if isinstance(preprocessing, dict) else {}
    kind, version = record.get("kind"), record.get("version")
    if kind in _RECORDS and version is not None and not (isinstance(version, int) and version <= _RECORDS[kind]):
        raise CheckpointError(
            f"{path} expected a record of {kind} of version {_RECORDS[kind]} or older, got version {version!r}; upgrade "
            "innerloop to read it"
        )


def _expect_here(recorded: dict[str, Any], path: Path, again: Again) -> None:
    name, own = recorded["name"], own_parts(recorded)
    if again.learner is None and (own or not _here("algorithm", name)):
        what = f"parts of your own, {own}" if own else f"the algorithm {name!r}, which is not here"
        raise CheckpointError(
            f"{path} was made with {what}; install the package that has it, or give it again: il.load(path, learner=...), or "
            f"--algorithm {name if is_place(str(name)) else 'package.module:function'}"
        )


def _method(recorded: dict[str, Any], model: nn.Module | None, path: Path, again: Again) -> MetaLearner:
    """The learner of this method, by its name or by the function that was given in its place."""
    name, options, word = recorded["name"], dict(recorded["options"]), again.learner
    assert not isinstance(word, MetaLearner)
    if again.loss is not None:
        options["loss"] = again.loss
    if again.output is not None:
        options["output"] = again.output
    try:
        if word is None:
            return methods.make(name, model, options)
        if not recorded["made_of"] and name not in methods.ALGORITHMS:
            learner = methods.make(word, model, options, typed=True)
            learner.name = name  # the run's own, wherever its function is now
            return learner
        # What was wrapped is on record, whose options are not those of the function around it.
        learner = methods.load("algorithm", methods.ALGORITHMS, word, typed=True)(model)
        _expect_same(learner.method_spec, recorded, path)
        return learner
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _model(described: dict[str, Any], tasks: Any, path: Path, again: Again) -> nn.Module:
    """A fresh model: the given one, the one of this name, or the problem's default one."""
    if isinstance(again.model, nn.Module):
        return again.model
    name = described.get("name")
    if again.model is not None:
        return models.build(again.model, described.get("arguments") or {}, typed=True)
    if name is not None and (name == models.EMBEDDED or _here("model", name)):
        return models.build(name, described["arguments"])
    found = None if name is not None else _default_model(described, tasks, again)
    if found is not None:
        return found
    what = f"the model {name!r}, which is not here" if name else f"your own model {described.get('custom')}"
    raise CheckpointError(
        f"{path} was made with {what}; give it: il.load(path, model=MyNet()), or "
        f"--model {name if is_place(str(name)) else 'package.module:factory'}"
    )


def _default_model(described: dict[str, Any], tasks: Any, again: Again) -> nn.Module | None:
    """The default model of the problem that was trained on, where that is the model described."""
    if "printed" not in described:
        return None
    family = _family(tasks, again)
    try:
        model = None if family is None else family.train.default_model()
    except (InnerloopError, TypeError):
        return None
    return model if model is not None and models.printed(model) == described["printed"] else None


def _objective(name: Any, tasks: Any, again: Again) -> Any:
    """What the learner was trained for: a name of ours, or the objective of this name that its problem has, where it is here."""
    if not isinstance(name, str) or name in losses.OBJECTIVES:
        return name
    if (found := denoising.named(name)) is not None:
        return found
    family = _family(tasks, again)
    found = None if family is None else family.train.objective
    return found if isinstance(found, Objective) and found.name == name else name


def _family(tasks: Any, again: Again) -> TaskFamily | None:
    """The problem that was trained on, where it is here or was given again."""
    name = tasks.get("name") if isinstance(tasks, dict) and again.tasks is None else again.tasks
    if not isinstance(tasks, dict) or (again.tasks is None and not _here("problem", name)):
        return None
    try:
        return problems.make(str(name), dict(tasks.get("options") or {}), typed=again.tasks is not None)
    except (InnerloopError, TypeError):
        return None


def own_parts(recorded: dict[str, Any]) -> str:
    """The parts of a stored method that no file holds and no name stands for, in words; none: empty."""
    if recorded.get("made_of"):
        return str(recorded["made_of"])
    options = recorded.get("options")
    rule = options.get("inner_optimizer") if isinstance(options, dict) else None
    return rule[7:] if isinstance(rule, str) and rule.startswith("custom:") else ""


def _expect_same(given: dict[str, Any], stored: dict[str, Any], path: Path) -> None:
    """CheckpointError where a learner that was given again is not made as the stored one was."""
    given, stored = ({"name": d.get("name"), "parts": d.get("made_of"), **d["options"]} for d in (given, stored))
    for key in dict.fromkeys([*given, *stored]):
        mine, theirs = plain(given.get(key)), plain(stored.get(key))
        if mine != theirs and not str(theirs).startswith("custom:"):
            raise CheckpointError(f"{path} expected a learner with {key} {theirs!r}, got one with {mine!r}")


def load_fitted(path: Path, again: Again) -> Fitted:
    tensors, header = load_tensors(path, TASK, VERSION)
    try:
        if not isinstance(header, dict):
            raise TypeError("no object")
        given = again.model is not None or isinstance(again.learner, MetaLearner)
        expect_modest(header, tensors, path, own_model=given or not _here("model", header["model"].get("name")))
        return _fitted(path, tensors, header, again)
    except CheckpointError as error:
        if str(path) in str(error):
            raise
        raise CheckpointError(f"{path}: {error}") from None
    except InnerloopError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    except Exception as error:  # a stranger's configuration may be anything, and fail in any way
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path} is damaged: its configuration and its tensors do not fit ({reason})") from None


def _agent(path: Path, tensors: dict[str, Tensor], header: dict[str, Any], again: Again) -> Agent:
    """A policy that was adapted to a world; see `Agent.save`."""
    owner, objective = remake(header, path, again), policy_of(header["policy"])
    if owner.dtype != dtype_named(header["dtype"]):
        owner.to(dtype=dtype_named(header["dtype"]))
    load_weights(owner, stored_weights(tensors), path)
    owner.spec = dataclasses.replace(owner.spec, objective=objective)
    learner, meta = owner.learner.in_evaluation(), owner.snapshot()
    leaves, spec = pytree.tree_flatten(
        learner.init(meta, Task(meta.params, meta.params, objective, noise=torch.tensor(0)))
    )
    saved = [tensors[f"fast/{i:04d}"] for i in range(len(leaves))]
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(leaves, saved, strict=True)):
        raise CheckpointError(f"{path} belongs to another policy: adapted values have other shapes")
    fast = pytree.tree_unflatten(saved, spec)
    steps, world = steps_of(header["steps"]), _world_of(path, tensors, header, again)
    return Agent(owner, learner, meta, fast, world, None, objective, steps=steps, holds_support=False, num_examples=1)


def _world_of(path: Path, tensors: dict[str, Tensor], header: dict[str, Any], again: Again) -> Any:
    """The world that an agent was adapted to, where it is one of a family that is here."""
    family = _family(header.get("tasks"), again) if header.get("world") else None
    if family is None:
        return None
    leaves, spec = pytree.tree_flatten(family.test.from_keys(torch.zeros(1, dtype=torch.int64)).support)
    saved = [tensors[f"world/{i:04d}"] for i in range(len(leaves))]
    if any(a.shape[1:] != b.shape for a, b in zip(leaves, saved, strict=True)):
        raise CheckpointError(f"{path} is damaged: its world has other numbers than those of its family")
    return pytree.tree_unflatten(saved, spec)


def _fitted(path: Path, tensors: dict[str, Tensor], header: dict[str, Any], again: Again) -> Fitted:
    if "policy" in header:
        return _agent(path, tensors, header, again)
    owner = remake(header, path, again)
    if owner.dtype != dtype_named(header["dtype"]):  # else layers in a type of their own would lose it
        owner.to(dtype=dtype_named(header["dtype"]))
    load_weights(owner, stored_weights(tensors), path)
    owner.engine.needs_loop = tuple(header["needs_loop"])
    owner.pure.written = tuple(name for name in header.get("written", ()) if name in owner.pure.names)
    owner.pure.draws_itself = bool(header.get("draws"))
    owner.assume_mixing(bool(header["mixes_examples"]))
    classes, task_objective = class_names(header["classes"]), header["task_objective"]
    of_score = isinstance(owner.task_objective, denoising.Denoising)
    support, whole = stored_support(header["support"], tensors, classes)
    support = as_long_as_adapted(support, header["support"], tensors)
    learner = owner.learner.in_evaluation()
    meta = owner.meta()
    ids = None if classes is None else torch.arange(len(classes))
    side = support.x if of_score else support
    given = owner.task_objective if of_score else task_objective
    one = Task(side, side, given, class_ids=ids, noise=torch.tensor(0))
    skeleton = learner.init(meta, one)
    if "fast/0000" in tensors and f"fast/{len(pytree.tree_leaves(skeleton)) - 1:04d}" not in tensors:
        skeleton = getattr(skeleton, "older", skeleton)  # a record that has grown since
    leaves, spec = pytree.tree_flatten(skeleton)
    saved = [tensors[f"fast/{i:04d}"] for i in range(len(leaves))]
    if any(a.shape != b.shape for a, b in zip(leaves, saved, strict=True)):
        raise CheckpointError(f"{path} belongs to another model: adapted values have other shapes")
    fast = pytree.tree_unflatten(saved, spec)
    if header["step"] is not None:
        fast = dataclasses.replace(fast, step=int(header["step"]))
    limit = None if header.get("threshold") is None else Threshold.from_dict(header["threshold"])
    meta = type(meta)(*({n: v.detach().clone() for n, v in part.items()} for part in meta))
    number = int(header["support"]["y"][0][0])
    if of_score:
        more = {"steps": steps_of(header["step"]), "holds_support": whole, "num_examples": number}
        return FittedScore(owner, learner, meta, fast, side, None, given, owner.preprocessing, **more)
    return Fitted(
        owner,
        learner,
        meta,
        fast,
        support,
        classes,
        task_objective,
        owner.preprocessing,
        limit,
        steps=steps_of(header["step"]),
        holds_support=whole,
        num_examples=number,
        judged=None if header.get("judged") is None else Judged.from_dict(header["judged"]),
        seen=item_names(header.get("seen")),
    )
