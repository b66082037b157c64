"""The format of task files: one safetensors file with what was adapted, and a header that makes the learner again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop import models
from innerloop.core import Examples, Meta
from innerloop.errors import CheckpointError
from innerloop.storage import save_tensors

TASK, VERSION = "innerloop-task", 1
_MOST_OPTION = 10_000  # of a whole number in a configuration; more only where the file is as large
_MOST_STEPS = 1_000_000  # of a number of steps, each of which may have some numbers of its own
_SIZES_NOTHING = ("seed", "phase_steps", "pairs")  # in the names of options that may be as large as they like
_MOST_INPUT = 1 << 26  # numbers in one input


def write_task(
    path: Path,
    *,
    fast: Any,
    meta: Meta,
    module: nn.Module,
    support: Examples,
    num_examples: int,
    keeps_inputs: bool,
    keeps_targets: bool,
    header: Mapping[str, Any],
) -> None:
    """Write a task file.

    Args:
        path: where.
        fast, meta: what was adapted, and the outer parameters it was adapted from.
        module: the model, for its other buffers.
        support: the support set, whose shapes are always kept.
        num_examples: how many it had.
        keeps_inputs: keep its inputs too, because predictions are made beside them.
        keeps_targets: keep its targets too, for more data to be learnt beside them.
        header: what makes the learner again, and the class names.
    """
    tensors = {f"fast/{i:04d}": leaf for i, leaf in enumerate(pytree.tree_leaves(fast))}
    for part in ("params", "rule", "buffers"):
        tensors |= {f"meta/{part}/{name}": value for name, value in getattr(meta, part).items()}
    kept = module.state_dict().keys() - meta.buffers.keys()  # a buffer that is not persistent is made again
    tensors |= {f"module/{name}": b for name, b in module.named_buffers() if name in kept}
    if keeps_targets:
        tensors["support/y"] = support.y
    if keeps_inputs:
        tensors["support/x"] = support.x
        if support.mask is not None:
            tensors["support/mask"] = support.mask
    about = {
        **header,
        "step": getattr(fast, "step", None),
        "support": {
            "x": [[num_examples, *support.x.shape[1:]], str(support.x.dtype)],
            "y": [[num_examples, *support.y.shape[1:]], str(support.y.dtype)],
            "mask": support.mask is not None,
        },
    }
    save_tensors(path, TASK, VERSION, tensors, about)


def expect_modest(header: dict[str, Any], tensors: dict[str, Tensor], path: Path, own_model: bool) -> None:
    """CheckpointError where a configuration asks for more memory than the file's own numbers account for.

    The model is built without memory first: what it describes has to be in the file.
    """
    held = sum(value.numel() for value in tensors.values())
    described = header["model"]
    for what, options in (("algorithm", header["algorithm"]["options"]), ("model", described.get("arguments"))):
        most = max(_MOST_OPTION, held)
        if _beyond(options, most):
            raise CheckpointError(f"{path} expected numbers up to {most} in the options of its {what}, got larger ones")
    if own_model or described.get("name") in (None, models.EMBEDDED):  # a trained network's size is its own
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


def steps_of(number: Any) -> int | None:
    """How many inner steps a task was adapted with; None: not known."""
    if number is None:
        return None
    if not 0 <= int(number) <= _MOST_STEPS:
        raise ValueError(f"{number} inner steps")
    return int(number)


def class_names(names: Any) -> list[Any] | None:
    """The class names: texts, numbers or truth values."""
    if names is None:
        return None
    if not isinstance(names, list) or not names or not all(isinstance(n, str | int | float) for n in names):
        raise TypeError("class names are not a list of names")
    if len(set(names)) < len(names):
        raise TypeError("a class name comes twice")
    return names


def item_names(names: Any) -> tuple[str, ...] | None:
    """The items that a task has rated."""
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("items are not a list of names")
    return tuple(names)


def dtype_named(name: str) -> torch.dtype:
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


def as_long_as_adapted(support: Examples, described: dict[str, Any], tensors: dict[str, Tensor]) -> Examples:
    """The support set with all its rows where what was adapted has one for each of them; repeated without any memory."""
    rows = described["x"][0][0]
    if len(support.x) == rows or not any(n.startswith("fast/") and rows in t.shape for n, t in tensors.items()):
        return support
    x, y = (v.expand(rows, *v.shape[1:]) for v in (support.x[:1], support.y[:1]))
    return Examples(x, y, support.mask)


def stored_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outer parameters and the model's other buffers by the names that checkpoints have for them."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        for kept in ("meta/params/", "meta/buffers/", "module/"):
            if name.startswith(kept):
                found[f"learner/model.{name.removeprefix(kept)}"] = value
        if name.startswith("meta/rule/"):
            found[f"learner/rule.{name.removeprefix('meta/rule/').replace('.', '|')}"] = value
    return found


def stored_support(
    described: dict[str, Any], tensors: dict[str, Tensor], classes: list[Any] | None
) -> tuple[Examples, bool]:
    """(the stored support set, True), or its stored inputs, or zeros of their shape, with other zeros for its targets."""
    shape, dtype = described["x"]
    if math.prod(shape[1:]) > _MOST_INPUT or math.prod(described["y"][0][1:]) > _MOST_INPUT:
        raise ValueError("an input of too many numbers")
    x = tensors["support/x"] if "support/x" in tensors else torch.zeros(1, *shape[1:], dtype=dtype_named(dtype))
    mask = tensors.get("support/mask") if described["mask"] else None
    y_shape, y_dtype = described["y"]
    y = torch.zeros(x.shape[0], *y_shape[1:], dtype=dtype_named(y_dtype))
    if "support/x" not in tensors or "support/y" not in tensors:
        return Examples(x, y, mask), False
    if tensors["support/y"].shape != y.shape or tensors["support/y"].dtype != y.dtype:
        raise ValueError("other targets than described")
    y = tensors["support/y"]
    if classes is not None and not bool(((y >= 0) & (y < len(classes))).all()):
        raise ValueError("a label that has no class")
    return Examples(x, y, mask), True
