"""Random directions around meta as functions of keys, and sums of them: what evolution strategies share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop import keys as random_keys
from innerloop.core import BaseLearner, Meta, Task
from innerloop.errors import expect_above_zero, expect_whole
from innerloop.records import record

_SALT = 21
_NUMBERS = 1 << 22  # of noise, drawn at once


@record
class Trial(Task):
    """One pair of opposite perturbations on one task; ``key`` says which. A batch has one a task and pair."""

    key: Tensor | None = None


def trials(tasks: Task, num_pairs: int) -> Trial:
    """Every task ``num_pairs`` times, each time with a key of its own: a function of the task's."""
    assert tasks.noise is not None
    repeated = pytree.tree_map(lambda v: v.repeat_interleave(num_pairs, 0), tasks)
    drawn = random_keys.fold(
        random_keys.fold(tasks.noise, _SALT)[:, None], torch.arange(num_pairs, device=tasks.noise.device)
    )
    return Trial(**{**fields_of(repeated), "key": drawn.reshape(-1)})


def fields_of(task: Task) -> dict[str, Any]:
    """A task's own fields, for a record that has more."""
    return {field.name: getattr(task, field.name) for field in dataclasses.fields(Task)}


def perturbed(meta: Meta, learner: BaseLearner) -> dict[str, Tensor]:
    """The outer parameters that are moved, by name: all but frozen ones."""
    module = getattr(getattr(learner, "model", None), "module", None)
    frozen = set() if module is None else {name for name, p in module.named_parameters() if not p.requires_grad}
    return {name: p for name, p in {**meta.params, **meta.rule}.items() if name not in frozen}


def noise(key: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Standard normal numbers in these shapes, for one key () or for many (trials,)."""
    return {name: random_keys.normal(key, p.shape, i, p.dtype) for i, (name, p) in enumerate(like.items())}


def moved(meta: Meta, direction: Mapping[str, Tensor], by: float) -> Meta:
    """Meta at ``by`` times this direction."""

    def there(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: p + by * direction[name] if name in direction else p for name, p in values.items()}

    return Meta(there(meta.params), there(meta.rule), meta.buffers)


def weighted_noise(weights: Tensor, key: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean over trials of weight times `noise`, some trials at a time."""
    found = {}
    for i, (name, p) in enumerate(like.items()):
        # As many trials at a time as fit; a large tensor goes trial by trial.
        at_once = max(1, _NUMBERS // max(p.numel(), 1))
        total = torch.zeros_like(p)
        for a in range(0, len(weights), at_once):
            drawn = random_keys.normal(key[a : a + at_once], p.shape, i, p.dtype)
            total = total + torch.tensordot(weights[a : a + at_once].to(p.dtype), drawn, 1)
        found[name] = total / len(weights)
    return found


def like_meta(found: Mapping[str, Tensor], meta: Meta) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(by params, by rule), zeros where nothing was found."""
    both = (
        {name: found.get(name, torch.zeros_like(p)) for name, p in part.items()} for part in (meta.params, meta.rule)
    )
    params, rule = both
    return params, rule


def check_settings(sigma: float, num_pairs: int) -> None:
    """ConfigError where they are out of range."""
    expect_above_zero("sigma", sigma)
    expect_whole("num_pairs", num_pairs)
