"""Faults put in on purpose: each is found and named."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_doctor_verdicts import conv4, mlp, pictures, sequences, sine
from torch import Tensor, nn

import innerloop as il
from innerloop.core import Meta, OuterGradient, Task
from innerloop.functional.norms import BatchNorm
from innerloop.learners import GradientLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.methods.reptile import Displacement
from innerloop.methods.scratch import NoGradient


class _WrongBackward(torch.autograd.Function):
    """The identity, with a gradient that is one percent too large."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * 1.01


class ScaledLoss(GradientLearner):
    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        loss, aux = super().meta_loss(meta, task, outer_step)
        return _WrongBackward.apply(loss), aux  # type: ignore[return-value]


class ScaledParameter(GradientLearner):
    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        params = {**meta.params, "head.bias": _WrongBackward.apply(meta.params["head.bias"])}
        return super().meta_loss(meta._replace(params=params), task, outer_step)  # type: ignore[arg-type]


def with_learner(learner: MetaLearner, cls: type[GradientLearner]) -> MetaLearner:
    inner = learner.learner
    assert isinstance(inner, GradientLearner)
    made = cls(**{f.name: getattr(inner, f.name) for f in dataclasses.fields(inner)})
    learner.learner, learner.meta_gradient = made, Backprop(made, learner.engine)
    return learner


@pytest.mark.slow
def test_a_wrong_backward_of_the_whole_loss() -> None:
    learner = with_learner(il.maml(mlp(), inner_lr=0.05, inner_steps=2), ScaledLoss)
    found = il.check_meta_gradient(learner, sine())
    assert not found.ok and found.differences_error == pytest.approx(0.01, rel=0.2)
    assert len(found.wrong_parameters) == 6
    assert found.lines()[0] == "maml: SOMETHING IS WRONG (float64, 2 tasks, 2 inner steps)"
    assert il.check_meta_gradient(learner, sine(), tolerance=0.05).ok


def test_a_wrong_backward_of_one_parameter_is_named() -> None:
    learner = with_learner(il.maml(mlp(), inner_lr=0.05, inner_steps=2), ScaledParameter)
    found = il.check_meta_gradient(learner, sine())
    assert not found.ok and found.wrong_parameters == ("head.bias",)
    assert any("head.bias" in problem for problem in found.problems)


@pytest.mark.slow
def test_first_order_passed_off_as_second() -> None:
    learner = il.maml(mlp(), inner_lr=0.05, inner_steps=3)
    assert isinstance(learner.meta_gradient, Backprop)
    learner.meta_gradient._cheap = learner.meta_gradient.learner
    learner.meta_gradient.learner = dataclasses.replace(learner.learner, first_order=True)  # type: ignore[type-var]
    found = il.check_meta_gradient(learner, sine())
    assert not found.ok and "not the gradient of the outer loss" in found.problems[0]


@pytest.mark.slow
def test_second_order_passed_off_as_first() -> None:
    learner = il.fomaml(mlp(), inner_lr=0.05, inner_steps=3)
    assert isinstance(learner.meta_gradient, Backprop)
    learner.meta_gradient._cheap = learner.meta_gradient.learner
    found = il.check_meta_gradient(learner, sine())
    assert not found.ok and "held constant" in found.problems[0]


def test_a_cut_parameter_is_named() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(1, 8), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.body(x)).detach())

    torch.manual_seed(0)
    found = il.check_meta_gradient(il.maml(Cut(), inner_lr=0.1, inner_steps=2), sine())
    assert not found.ok and found.no_gradient["cut"] == ("body.weight", "body.bias")


class Extra(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.spare = nn.Linear(1, 1), nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.zeros(1))
        self.dead = nn.Parameter(torch.full((1,), -5.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + 0 * self.scale + torch.relu(self.dead)


def test_unused_and_silent_parameters_are_told_apart_and_are_no_fault() -> None:
    torch.manual_seed(0)
    found = il.check_meta_gradient(il.maml(Extra(), inner_lr=0.1, inner_steps=2), sine())
    assert found.ok, found.problems
    assert found.no_gradient == {"unused": ("spare.weight", "spare.bias"), "silent": ("scale", "dead")}


def test_a_frozen_parameter_is_listed_and_must_stay() -> None:
    model = mlp()
    next(model.parameters()).requires_grad_(False)
    learner = il.maml(model, inner_lr=0.05, inner_steps=2)
    found = il.check_meta_gradient(learner, sine())
    assert found.no_gradient["frozen"] == ("body.0.weight",)
    learner.backward(sine())
    left = learner.model.get_parameter("body.0.weight").grad
    moved = left is not None and bool((left != 0).any())
    assert found.ok is not moved  # a gradient on a frozen parameter is a fault, and is named as one
    assert moved is any("body.0.weight is frozen" in problem for problem in found.problems)


def test_a_functional_layer_norm_forced_under_vmap() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(12, 8), nn.Linear(8, 3)
            self.weight, self.bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(F.layer_norm(self.first(x.flatten(1)), (8,), self.weight, self.bias)))

    torch.manual_seed(0)
    learner = il.maml(Functional(), inner_lr=0.4, inner_steps=3).double()
    found = il.check_meta_gradient(learner, sequences())
    assert found.ok and "layer_norm" in found.vmap_skipped
    learner.check(sequences())
    learner.engine.needs_loop = ()
    forced = il.check_meta_gradient(learner, sequences())
    assert not forced.ok and forced.loop_against_vmap is not None and forced.loop_against_vmap > 1e-4
    assert forced.loop_against_vmap_worst in forced.problems[0]
    assert forced.differences_error is not None and forced.differences_error < 1e-6  # the loop is right


def test_a_wrong_displacement() -> None:
    class Doubled(Displacement):
        def __call__(self, *args: Any) -> OuterGradient:
            found = super().__call__(*args)
            return found._replace(params={name: 1.001 * g for name, g in found.params.items()})

    learner = il.reptile(mlp(), inner_steps=3)
    assert isinstance(learner.learner, GradientLearner)
    learner.meta_gradient = Doubled(learner.learner, learner.engine)
    found = il.check_meta_gradient(learner, sine())
    assert not found.ok and found.definition_error == pytest.approx(0.001, rel=0.1)


def test_a_gradient_where_there_should_be_none() -> None:
    class Leaky(NoGradient):
        def __call__(self, *args: Any) -> OuterGradient:
            found = super().__call__(*args)
            return found._replace(params={name: torch.ones_like(g) for name, g in found.params.items()})

    learner = il.scratch(mlp(), inner_steps=2)
    assert isinstance(learner.learner, GradientLearner)
    learner.meta_gradient = Leaky(learner.learner, learner.engine)
    assert "no meta-gradient" in il.check_meta_gradient(learner, sine()).problems[0]


def test_a_norm_layer_that_is_not_torchs() -> None:
    learner = il.maml(conv4(), inner_lr=0.4, inner_steps=1)
    layer = next(m for m in learner.model.modules() if isinstance(m, BatchNorm))
    layer.eps = 1e-2
    assert il.check_meta_gradient(learner, pictures()).ok  # another eps is another model, not a wrong one

    class Biased(BatchNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 1.001

    layer.__class__ = Biased
    found = il.check_meta_gradient(learner, pictures())
    assert not found.ok and "'body.1'" in found.problems[0]


def test_a_model_that_cannot_compute_in_float64() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.table = nn.Linear(1, 1), torch.ones(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x @ self.table)

    with pytest.raises(il.ConfigError, match="register_buffer"):
        il.check_meta_gradient(il.maml(Constant(), inner_lr=0.1), sine())
