"""What each method declares, read where it declares it, and how the contract makes small learners and batches.

A method that declares nothing is held to the defaults. Nothing in the contract asks for a method by its name.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn
from toy_tasks import FEATURES, clusters

import innerloop as il
from innerloop import methods
from innerloop.core import Task, TaskFamily
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.methods.traits import Traits

NAMES = sorted(methods.ALGORITHMS)
CASES = ("regression", "classification", "batch_norm")
# For tests that take seconds: make test runs them on classification, make test-all on all.
SLOW_BUT_ONE = [c if c == "classification" else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
_SMALL = {
    "inner_steps": 2,
    "eval_steps": 3,
    "inner_lr": 0.05,
    "inner_batch": 3,
    "units": 5,
    "memory_rows": 20,
    "memory_columns": 4,
    "heads": 2,
    "base_hidden": 4,
    "generator_hidden": 3,
    "groups": 2,
    "filters": 6,
    "width": 16,
    "depth": 2,
    "trees": 4,
    "buckets": 20,
    "keys": (4, 4),
    "values": (4, 4),
}


def declared(name: str) -> Traits:
    return getattr(il, name).traits if name in NAMES else Traits()


def with_known(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Those options that the method's factory takes."""
    known = inspect.signature(getattr(il, name)).parameters
    return {key: value for key, value in options.items() if key in known}


def model_for(case: str, ways: int = 3, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    if case == "regression":
        return il.models.mlp(1, 1, hidden=(5,), activation="tanh")
    return il.models.mlp(FEATURES, ways, hidden=(6,), activation="tanh", batch_norm=case == "batch_norm")


def small(name: str, case: str = "classification", *, ways: int = 3, seed: int = 1, **options: Any) -> MetaLearner:
    """A small learner of this method; the same for the same arguments."""
    if case == "batch_norm":
        # The bias before batch norm has a gradient of zero but for rounding, which inner Adam would blow up.
        options = {"inner_optimizer": "sgd", **options}
    return getattr(il, name)(model_for(case, ways, seed), **with_known(name, {**_SMALL, **options}))


def family(case: str, **options: Any) -> TaskFamily:
    if case == "regression":
        return il.tasks.sinusoid(shots=4, queries=3)
    return clusters(**options)


def batch(case: str, num_tasks: int = 5, step: int = 0) -> Task:
    return family(case).train.at(0, step, num_tasks)


def gradients(learner: MetaLearner) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}


def outcome(learner: MetaLearner, case: str, num_tasks: int = 5) -> dict[str, torch.Tensor]:
    """All numbers that a batch leads to: metrics, meta-gradient, running statistics, predictions."""
    tasks = batch(case, num_tasks)
    metrics = learner.backward(tasks)
    buffers = {f"buffer {name}": value.clone() for name, value in learner.named_buffers()}
    predictions = {"predictions": learner.predict_queries(tasks), "trajectory": learner.trajectory(tasks, 2)}
    return {**{f"metric {k}": v for k, v in metrics.items()}, **gradients(learner), **buffers, **predictions}


def assert_same(
    first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float = 0.0, least_scale: float = 1e-3
) -> None:
    """Equal names, shapes, dtypes and values; the tolerance is relative to each tensor's largest number."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.shape == second[name].shape and value.dtype == second[name].dtype, name
        scale = float(value.abs().max()) if value.numel() else 0.0
        worst = float((value - second[name]).abs().max()) if value.numel() else 0.0
        assert worst <= tolerance * max(scale, least_scale), f"{name}: {worst} apart at a scale of {scale}"
