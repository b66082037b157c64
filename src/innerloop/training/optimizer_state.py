"""An optimizer's state as tensors and JSON values, whatever its shape, and back without the change of a bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from innerloop.errors import ConfigError

_RATES = ("params", "lr", "peak_lr")  # of a group; the run's settings say them


def flat_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state's tensors by names that begin with "optimizer", and the rest: {} where there are plain tensors only.

    Of the groups' settings only those are kept that are no longer as the optimizer was made.

    Raises:
        ConfigError: a state of another kind than tensors, numbers, texts, None, and lists, tuples and dictionaries of these.
    """
    described = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for index, state in _in_order(described["state"]):  # which is another in a run that was resumed
        if not isinstance(index, int) or not isinstance(state, dict):
            rest.setdefault("own", []).append([_flat(index, tensors), _flat(state, tensors)])
            continue
        for key, value in _in_order(state):
            if isinstance(value, Tensor) and isinstance(key, str) and "/" not in key:
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                rest.setdefault("state", []).append([index, _flat(key, tensors), _flat(value, tensors)])
    for number, group in enumerate(described["param_groups"]):
        for key, value in group.items():
            if key not in _RATES and not _same(value, optimizer.defaults.get(key)):
                rest.setdefault("groups", []).append([number, key, _flat(value, tensors)])
    for key, value in described.items():
        if key not in ("state", "param_groups"):
            rest.setdefault("more", []).append([key, _flat(value, tensors)])
    return tensors, rest


def put_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    """Put back what `flat_state` gave; ``tensors`` may hold others too.

    Raises:
        ConfigError: it is of an optimizer with other parameters or groups.
    """
    state: dict[Any, Any] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = value
    for index, key, value in rest.get("state", []):
        state.setdefault(index, {})[_whole(key, tensors)] = _whole(value, tensors)
    of_parameters = dict(state)
    for key, value in rest.get("own", []):
        state[_whole(key, tensors)] = _whole(value, tensors)
    described = optimizer.state_dict()
    by_index = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for number, _, _ in rest.get("groups", [])]
    if max(of_parameters, default=-1) >= len(by_index) or max(numbers, default=-1) >= len(optimizer.param_groups):
        raise ConfigError(
            f"outer_optimizer expected the parameters that the run was begun with, got {len(by_index)} of them in "
            f"{len(optimizer.param_groups)} groups; make it as it was"
        )
    described["state"] = state
    for number, key, value in rest.get("groups", []):
        described["param_groups"][number][key] = _whole(value, tensors)
    for key, value in rest.get("more", []):
        described[key] = _whole(value, tensors)
    optimizer.load_state_dict(described)
    # torch has given every state of a floating parameter that parameter's type, and spoilt texts.
    for index, values in of_parameters.items():
        own = optimizer.state[by_index[index]]
        for key, value in values.items():
            own[key] = _of_type(own[key], value)


def _in_order(values: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """By key: whole numbers first, by size, and all else by its text."""
    return sorted(
        values.items(), key=lambda item: (0, item[0], "") if isinstance(item[0], int) else (1, 0, str(item[0]))
    )


def _flat(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"optimizer_inside/{len(tensors)}"
        tensors[name] = value
        return {"tensor": name}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return {type(value).__name__: [_flat(v, tensors) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[_flat(k, tensors), _flat(v, tensors)] for k, v in value.items()]}
    raise ConfigError(
        "the outer optimizer's state expected tensors, numbers, texts, None, and lists and dictionaries of these, got "
        f"{type(value).__name__}; keep nothing else there, or use another optimizer"
    )


def _whole(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_whole(k, tensors): _whole(v, tensors) for k, v in content}
    found = [_whole(v, tensors) for v in content]
    return tuple(found) if kind == "tuple" else found


def _same(a: Any, b: Any) -> bool:
    """Whether two settings of a group are the same; tensors never are."""
    return not isinstance(a, Tensor) and not isinstance(b, Tensor) and type(a) is type(b) and a == b


def _of_type(loaded: Any, stored: Any) -> Any:
    """``loaded``, where torch put it, with the types of ``stored``."""
    if isinstance(stored, Tensor):
        return loaded if loaded.dtype == stored.dtype else stored.to(loaded.device)
    if isinstance(stored, dict):
        return {key: _of_type(loaded[key], value) for key, value in stored.items()}
    if isinstance(stored, list | tuple):
        return type(stored)(_of_type(a, b) for a, b in zip(loaded, stored, strict=True))
    return stored
