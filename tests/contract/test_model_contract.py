"""Every model as learners use it: pure, in per-task copies, the same in files, second order through an inner step."""

from __future__ import annotations

import inspect

import pytest
import torch
from contract_table import assert_same, gradients

import innerloop as il
from innerloop import models
from innerloop.core import Examples, Task
from innerloop.functional import PureModel, convert

# All but the one that is told things over time, and has first derivatives alone: tests/models/test_policies.py.
NAMES = sorted(set(models.MODELS) - {"gru_policy"})
OUTPUTS = {"gaussian_policy": 4}  # an even number
pytestmark = [pytest.mark.usefixtures("double"), pytest.mark.parametrize("name", NAMES)]

# What makes a model small; one that is not here gets a plain vector of 4 numbers.
SMALL = {
    "conv4": ((1, 16, 16), {"filters": 2}),
    "resnet12": ((1, 8, 8), {"widths": (2, 3)}),
    "vit": ((1, 4, 6), {"patch": 2, "width": 4, "heads": 2, "depth": 1}),
    "transformer": ((3, 4), {"width": 4, "heads": 2, "depth": 1}),
    "lstm": ((3, 4), {"hidden": 3}),
    "oriented_gradients": ((1, 8, 6), {"cell": 3}),
    "cell_net": ((1, 6, 4), {"channels": 2}),
    "cell_supernet": ((1, 4, 4), {"channels": 2, "nodes": 2}),
    "items_mlp": (4, {"items": (3, 2), "width": 2}),
}


def small(name: str):
    shape, options = SMALL.get(name, (4, {}))
    torch.manual_seed(0)
    return getattr(models, name)(shape, OUTPUTS.get(name, 3), **options)


def batch(name: str, num_tasks: int = 2) -> Task:
    shape, _ = SMALL.get(name, (4, {}))
    generator = torch.Generator().manual_seed(1)

    def inputs() -> torch.Tensor:
        if name == "counts_mlp":  # two entries of four, once or more
            number = torch.rand(num_tasks, 6, 4, generator=generator).argsort(-1)[..., :2]
            return torch.stack([number, torch.randint(1, 4, number.shape, generator=generator)], 2).double()
        return torch.randn(num_tasks, 6, *(shape if isinstance(shape, tuple) else (shape,)), generator=generator)

    sides = [
        Examples(
            inputs(),
            torch.arange(3).repeat(2).expand(num_tasks, -1),
        )
        for _ in range(2)
    ]
    return Task(*sides)


def test_converting_keeps_names_shapes_and_outputs(name):
    model, x = small(name), batch(name).support.x[0]
    converted, _ = convert(model)
    ours = {key: tuple(p.shape) for key, p in converted.named_parameters()}
    assert list(ours.items()) == [(key, tuple(p.shape)) for key, p in model.named_parameters()]
    pure = PureModel(converted, "batch")
    found, _ = pure.apply(dict(model.named_parameters()), {}, x)
    assert torch.allclose(found, model.train()(x), rtol=1e-9, atol=1e-10)


def test_strategies_agree(name):
    found = {}
    for strategy in ("looped", "vmapped"):
        learner = il.maml(small(name), inner_lr=0.1, inner_steps=2)
        learner.strategy = strategy
        learner.backward(batch(name))
        found[strategy] = {**gradients(learner), "predictions": learner.predict_queries(batch(name))}
    # Gradients that are zero but for rounding (a bias before batch norm) are compared at the scale of the others.
    largest = max(float(v.abs().max()) for v in found["looped"].values())
    for key, value in found["looped"].items():
        assert (value - found["vmapped"][key]).abs().max() <= 1e-11 * largest, key


def test_second_order_is_there(name):
    first, second = (make(small(name), inner_lr=0.1) for make in (il.fomaml, il.maml))
    for learner in (first, second):
        learner.backward(batch(name))
    assert any(
        (a.grad - b.grad).abs().max() > 1e-8 for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_it_comes_back_from_a_file(name, tmp_path):
    task = batch(name)
    fitted = il.maml(small(name), inner_lr=0.1).adapt(task.support.x[0], task.support.y[0])
    again = il.load(fitted.save(tmp_path / "task"))
    assert_same({"p": fitted.outputs(task.query.x[0])}, {"p": again.outputs(task.query.x[0])})


def test_its_arguments_are_described(name):
    spec = models.describe(small(name))
    assert spec is not None and spec["name"] == name
    factory = getattr(models, name)
    assert set(spec["arguments"]) == set(inspect.signature(factory).parameters) - factory.newer
