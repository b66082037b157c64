"""Save and load: task files (`Fitted`) and run directories (`MetaLearner`). Safetensors and JSON; reading runs no code."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop import algorithms, models
from innerloop.algorithms.other_meta_gradient import with_meta_gradient
from innerloop.algorithms.pairing import LossArgument
from innerloop.core import Examples, Task
from innerloop.errors import CheckpointError, ConfigError, InnerloopError
from innerloop.fitted import Fitted
from innerloop.meta_learner import MetaLearner
from innerloop.registry import load as load_named
from innerloop.training.checkpoint import RunDirectory, load_weights
from innerloop.training.files import load_tensors, save_tensors
from innerloop.unknown_inputs import Threshold

TASK, VERSION = "innerloop-task", 1
_MOST_OPTION = 10_000  # of a whole number in a configuration; more only where the file is as large
_MOST_STEPS = 1_000_000  # of a number of steps, each of which may have some numbers of its own
_SIZES_NOTHING = ("seed", "phase_steps", "pairs")  # in the names of options that may be as large as they like
_MOST_INPUT = 1 << 26  # numbers in one input


def load(path: str | Path, model: nn.Module | None = None, loss: LossArgument = None) -> MetaLearner | Fitted:
    """Open a task file or a run directory.

    Args:
        path: a file that `Fitted.save` wrote, or a directory that `fit` wrote.
        model: needed when the model is not one of `il.models`: an instance of the same class.
        loss: needed to adapt again when training used a loss function of one's own.

    Returns:
        A `Fitted` for a file, a `MetaLearner` with the best validated weights for a directory.

    Raises:
        CheckpointError: nothing there, damaged, of a newer version, or for another model.
    """
    path = Path(path)
    if path.is_dir():
        return load_run(path, model, loss)
    if not path.exists():
        raise CheckpointError(f"{path} expected a task file or a run directory, found nothing there")
    return load_fitted(path, model, loss)


def load_run(path: Path, model: nn.Module | None = None, loss: LossArgument = None) -> MetaLearner:
    """The learner of a run directory, with its best weights."""
    directory = RunDirectory(path)
    config = directory.read_config()
    learner = remake(config, model, loss, path)
    directory.load_best(learner)
    return learner


def remake(config: dict[str, Any], model: nn.Module | None, loss: LossArgument, path: Path) -> MetaLearner:
    """The learner that a configuration describes, with fresh weights."""
    try:
        name, options = config["algorithm"]["name"], dict(config["algorithm"]["options"])
        described, objective = config["model"], config.get("objective")
        paired = config.get("meta_gradient")
        paired = None if paired is None else {"name": paired["name"], "options": dict(paired["options"])}
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{path} expected entries 'algorithm' and 'model' in its configuration; it is damaged"
        ) from None
    if loss is not None:
        options["loss"] = loss
    if model is None:
        if "name" not in described:
            raise CheckpointError(
                f"{path} was made with your own model {described.get('custom')}; give it: il.load(path, model=MyNet())"
            )
        model = models.build(described["name"], described["arguments"])
    try:
        learner = load_named("algorithm", algorithms.ALGORITHMS, name)(model, **options)
        if paired is not None:
            learner = with_meta_gradient(learner, paired["name"], **paired["options"])
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    learner.task_objective = objective
    shape = config.get("input_shape")
    learner.input_shape = tuple(shape) if isinstance(shape, list) else None
    found = config.get("preprocessing")
    learner.preprocessing = found if isinstance(found, dict) else None
    return learner


def save_fitted(fitted: Fitted, path: Path) -> Path:
    """Write a task file: the learner's weights, what was adapted, class names, and what makes the learner again."""
    owner = fitted.owner
    leaves = pytree.tree_leaves(fitted.fast)
    tensors = {f"fast/{i:04d}": leaf for i, leaf in enumerate(leaves)}
    for part in ("params", "rule", "buffers"):
        tensors |= {f"meta/{part}/{name}": value for name, value in getattr(fitted.meta, part).items()}
    kept = owner.model.state_dict().keys() - fitted.meta.buffers.keys()  # a buffer that is not persistent is made again
    tensors |= {f"module/{name}": b for name, b in owner.model.named_buffers() if name in kept}
    if owner.mixes_examples:  # predictions are made beside the support set
        tensors["support/x"] = fitted.support.x
        if fitted.support.mask is not None:
            tensors["support/mask"] = fitted.support.mask
    support = fitted.support
    header = {
        "algorithm": {"name": owner.name, "options": owner.options},
        **({"meta_gradient": owner.meta_gradient_spec} if owner.meta_gradient_spec else {}),
        "model": owner.model_spec or {"custom": owner.model_class},
        "objective": owner.task_objective,
        "classes": fitted.classes_,
        "task_objective": fitted.objective if isinstance(fitted.objective, str) else None,
        "preprocessing": fitted.preprocessing,
        **({} if fitted.threshold is None else {"threshold": fitted.threshold.to_dict()}),
        "step": getattr(fitted.fast, "step", None),
        "mixes_examples": owner.mixes_examples,
        "needs_loop": list(owner.engine.needs_loop),
        "support": {
            "x": [list(support.x.shape), str(support.x.dtype)],
            "y": [list(support.y.shape), str(support.y.dtype)],
            "mask": support.mask is not None,
        },
        "dtype": str(owner.dtype),
    }
    save_tensors(path, TASK, VERSION, tensors, header)
    return path


def load_fitted(path: Path, model: nn.Module | None, loss: LossArgument) -> Fitted:
    tensors, header = load_tensors(path, TASK, VERSION)
    try:
        if not isinstance(header, dict):
            raise TypeError("no object")
        _expect_modest(header, tensors, path, own_model=model is not None)
        return _fitted(path, tensors, header, model, loss)
    except InnerloopError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: {error}") from None
    except Exception as error:  # a stranger's configuration may be anything, and fail in any way
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path} is damaged: its configuration and its tensors do not fit ({reason})") from None


def _fitted(
    path: Path, tensors: dict[str, Tensor], header: dict[str, Any], model: nn.Module | None, loss: LossArgument
) -> Fitted:
    owner = remake(header, model, loss, path)
    owner.to(dtype=_dtype(header["dtype"]))
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
    support = _support(header["support"], tensors)
    support = _as_long_as_adapted(support, header["support"], tensors)
    learner = owner.learner.in_evaluation()
    meta = owner.meta()
    classes, task_objective = _classes(header["classes"]), header["task_objective"]
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


def _expect_modest(header: dict[str, Any], tensors: dict[str, Tensor], path: Path, own_model: bool) -> None:
    """CheckpointError where a configuration asks for more memory than the file's own numbers account for.

    The model is built without memory first: what it describes has to be in the file.
    """
    held = sum(value.numel() for value in tensors.values())
    described = header["model"]
    for what, options in (("algorithm", header["algorithm"]["options"]), ("model", described.get("arguments"))):
        most = max(_MOST_OPTION, held)
        if _beyond(options, most):
            raise CheckpointError(f"{path} expected numbers up to {most} in the options of its {what}, got larger ones")
    if own_model or "name" not in described:
        return
    with torch.device("meta"):
        wanted = sum(p.numel() for p in models.build(described["name"], described["arguments"]).parameters())
    if wanted > held:
        raise CheckpointError(f"{path} expected the {wanted} numbers of the model that it describes, got {held}")


def _beyond(options: Any, most: int) -> bool:
    """Whether a configuration has a whole number that would size something beyond measure."""
    if isinstance(options, dict):
        sizes = {key: value for key, value in options.items() if not any(word in key for word in _SIZES_NOTHING)}
        return any(_beyond(v, max(most, _MOST_STEPS) if key.endswith("_steps") else most) for key, v in sizes.items())
    if isinstance(options, list):
        return any(_beyond(value, most) for value in options)
    return isinstance(options, int) and abs(options) > most


def _classes(names: Any) -> list[Any] | None:
    """The class names: texts, numbers or truth values."""
    if names is None:
        return None
    if not isinstance(names, list) or not names or not all(isinstance(n, str | int | float) for n in names):
        raise TypeError("class names are not a list of names")
    if len(set(names)) < len(names):
        raise TypeError("a class name comes twice")
    return names


def _dtype(name: str) -> torch.dtype:
    known = {
        str(d): d
        for d in (
            torch.float16,
            torch.bfloat16,
            torch.float32,
            torch.float64,
            torch.int64,
            torch.int32,
            torch.uint8,
        )
    }
    if name not in known:
        raise KeyError(f"unknown dtype {name}")
    return known[name]


def _as_long_as_adapted(support: Examples, described: dict[str, Any], tensors: dict[str, Tensor]) -> Examples:
    """The support set with all its rows where what was adapted has one for each of them; repeated without any memory."""
    rows = described["x"][0][0]
    if len(support.x) == rows or not any(n.startswith("fast/") and rows in t.shape for n, t in tensors.items()):
        return support
    x, y = (v.expand(rows, *v.shape[1:]) for v in (support.x[:1], support.y[:1]))
    return Examples(x, y, support.mask)


def _support(described: dict[str, Any], tensors: dict[str, Tensor]) -> Examples:
    """The stored support inputs, or zeros of their shape where predictions do not need them."""
    shape, dtype = described["x"]
    if math.prod(shape[1:]) > _MOST_INPUT or math.prod(described["y"][0][1:]) > _MOST_INPUT:
        raise ValueError("an input of too many numbers")
    x = tensors["support/x"] if "support/x" in tensors else torch.zeros(1, *shape[1:], dtype=_dtype(dtype))
    mask = tensors.get("support/mask") if described["mask"] else None
    y_shape, y_dtype = described["y"]
    return Examples(x, torch.zeros(x.shape[0], *y_shape[1:], dtype=_dtype(y_dtype)), mask)
