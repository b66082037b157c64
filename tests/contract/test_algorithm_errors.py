"""Every method: input that cannot work is refused with innerloop's own errors, which say what to do."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from contract_table import NAMES, batch, declared, small
from torch import nn

import innerloop as il
from innerloop.core import Examples, Task

pytestmark = [pytest.mark.usefixtures("double"), pytest.mark.parametrize("name", NAMES)]


def with_value(side: Examples, value: float) -> Examples:
    x = side.x.clone()
    x[1, 2, 0] = value
    return Examples(x, side.y)


def spoil(kind: str) -> Task:
    task = batch("regression" if kind == "flat targets" else "classification")
    s, q = task.support, task.query
    new = {
        "nan": {"support": with_value(s, float("nan"))},
        "inf": {"query": with_value(q, float("inf"))},
        "empty support": {"support": Examples(s.x[:, :0], s.y[:, :0])},
        "empty query": {"query": Examples(q.x[:, :0], q.y[:, :0])},
        "no tasks": {"support": Examples(s.x[:0], s.y[:0]), "query": Examples(q.x[:0], q.y[:0])},
        "widths": {"query": Examples(q.x[..., :3], q.y)},
        "model's width": {"support": Examples(s.x[..., :3], s.y), "query": Examples(q.x[..., :3], q.y)},
        "x dtypes": {"query": Examples(q.x.float(), q.y)},
        "y dtypes": {"query": Examples(q.x, q.y.double())},
        "large label": {"query": Examples(q.x, q.y + 1)},
        "negative label": {"support": Examples(s.x, s.y - 1)},
        "lengths": {"support": Examples(s.x, s.y[:, :-1])},
        "numbers of tasks": {"query": Examples(q.x[:-1], q.y[:-1])},
        "flat targets": {"support": Examples(s.x, s.y[..., 0]), "query": Examples(q.x, q.y[..., 0])},
        "one task": {"support": Examples(s.x[0], s.y[0]), "query": Examples(q.x[0], q.y[0])},
        "mask": {"support": Examples(s.x, s.y, torch.ones(2, 2, dtype=torch.bool))},
    }[kind]
    return dataclasses.replace(task, **new)


BAD_BATCHES = [
    ("nan", il.InputError, "support.x expected finite numbers, got 1 NaN or infinite of 120"),
    ("inf", il.InputError, "query.x expected finite numbers"),
    ("empty support", il.InputError, "the support set is empty.*give at least one"),
    ("empty query", il.InputError, "the query set is empty"),
    ("no tasks", il.InputError, "set is empty"),
    ("widths", il.ShapeError, r"one width, got \(4,\) and \(3,\)"),
    ("model's width", il.ShapeError, "expected inputs of shape"),
    ("x dtypes", il.ShapeError, "one dtype, got x torch.float64 and torch.float32"),
    ("y dtypes", il.ShapeError, "one dtype"),
    ("large label", il.InputError, "labels expected 0 to 2 for (a model with 3 outputs|tasks of 3 classes).*, got 3"),
    ("negative label", il.InputError, "labels from 0 up, got -1"),
    ("lengths", il.ShapeError, "same tasks and examples axes"),
    ("numbers of tasks", il.ShapeError, "same number of tasks"),
    ("flat targets", il.ShapeError, r"prediction \(4, 1\) and targets \(4,\).*y\[:, None\]"),
    ("one task", il.ShapeError, "leading tasks axis"),
    ("mask", il.ShapeError, "mask expected shape"),
]


@pytest.mark.parametrize(("kind", "error", "message"), BAD_BATCHES, ids=[kind for kind, _, _ in BAD_BATCHES])
def test_bad_batches(name, kind, error, message):
    tasks, case = spoil(kind), "classification"
    if kind == "flat targets" and declared(name).regression:
        case = "regression"
    elif kind == "flat targets":
        error, message = il.InputError, "integer labels, one an example.*use a method that adapts by gradients"
    for call in ("backward", "predict_queries"):
        learner = small(name, case)
        with pytest.raises(error, match=f"(?s){message}"):
            getattr(learner, call)(tasks)
        assert all(p.grad is None for p in learner.parameters())


def test_bad_labels_are_found_in_later_batches_too(name):
    learner = small(name)
    learner.backward(batch("classification"))
    with pytest.raises(il.InputError, match="labels expected 0 to 2"):
        learner.backward(spoil("large label"))


def test_no_task_at_all(name):
    with pytest.raises(il.InputError, match=r"expected an innerloop\.Task.*got dict"):
        small(name).backward({"support": 1})


def test_bad_support_sets(name):
    task = batch("classification")
    x, y = task.support.x[0], task.support.y[0]
    learner = small(name)
    with pytest.raises(il.InputError, match="finite"):
        learner.adapt(x / 0, y)
    with pytest.raises(il.InputError, match="the support set is empty"):
        learner.adapt(x[:0], y[:0])
    if declared(name).any_ways:
        assert learner.adapt(x, list("abcdef")).predict_proba(x).shape == (6, 6)
    else:
        with pytest.raises(il.InputError, match="the model has 3 outputs, got 6 classes; train with ways=6"):
            learner.adapt(x, list("abcdef"))
    with pytest.raises(il.ShapeError, match="same tasks and examples"):
        learner.adapt(x, y[:-1])
    with pytest.raises(il.ShapeError, match="expected inputs of shape"):
        learner.adapt(x[:, :2], y)
    with pytest.raises(il.InputError, match=r"floating-point inputs, got torch\.int64; convert and scale"):
        learner.adapt(x.long(), y)
    with pytest.raises(il.InputError, match="steps expected an integer of at least 0, got -1"):
        learner.adapt(x, y, steps=-1)
    fitted = learner.adapt(x, y)
    with pytest.raises(il.ShapeError, match="as the support set had"):
        fitted.predict(x[:, :2])
    with pytest.raises(il.InputError, match="empty"):
        fitted.predict(x[:0])
    with pytest.raises(il.InputError, match="finite"):
        fitted.predict(x / 0)
    with pytest.raises(il.InputError, match="label 9 was not in the support set"):
        fitted.score(x, y + 9)


def test_a_loss_that_gives_no_scalar(name):
    learner = small(name, loss=lambda p, y: nn.functional.cross_entropy(p, y, reduction="none"))
    with pytest.raises(il.ShapeError, match=r"scalar tensor, got shape \(6,\).*reduction='mean'"):
        learner.backward(batch("classification"))
    learner = small(name, loss=lambda p, y: 0.5)
    with pytest.raises(il.ShapeError, match="scalar tensor, got float"):
        learner.backward(batch("classification"))


def test_models_that_cannot_be_adapted(name):
    make = getattr(il, name)
    message = "no parameters" if declared(name).needs_parameters else "input shape of Sequential is not known"
    if declared(name).needs_parameters or declared(name).asks_shape:
        with pytest.raises(il.ConfigError, match=message):
            make(nn.Sequential(nn.ReLU(), nn.Flatten()))
    with pytest.raises(il.ConfigError, match="lazy layers"):
        make(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 3)))
    with pytest.raises(il.ConfigError, match=r"expected a torch\.nn.Module as the model, got"):
        make(lambda x: x)


def test_bad_options(name):
    of_loop = (
        ({"inner_stepz": 1}, "did you mean 'inner_steps'"),
        ({"inner_steps": -1}, "inner_steps expected an integer of at least 0, got -1"),
        ({"inner_steps": 1.5}, "inner_steps expected an integer"),
        ({"eval_steps": -2}, "eval_steps expected"),
    )
    for options, message in (
        *(of_loop if declared(name).inner_loop else [({"inner_steps": 1}, "has no argument 'inner_steps'")]),
        ({"losss": None}, "has no argument 'losss'.*did you mean 'loss'"),
        ({"loss": "cross_entropi"}, "did you mean 'cross_entropy'"),
    ):
        with pytest.raises(il.ConfigError, match=message):
            getattr(il, name)(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3)), **options)


def test_settings_of_the_engine(name):
    learner = small(name)
    with pytest.raises(il.ConfigError, match="strategy expected"):
        learner.strategy = "vmaped"
    with pytest.raises(il.ConfigError, match="chunk_size expected"):
        learner.chunk_size = 0
