"""Every coordinate of the meta-gradient against central differences of the outer loss, in nets of about 20 parameters."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from plain_loops import first_order_by_definition, outer_loss, plain_gradient
from torch import nn

import innerloop as il
from innerloop.engine import take
from innerloop.learners import GradientLearner
from innerloop.objectives import losses
from innerloop.rules import SGD, Adam

pytestmark = pytest.mark.usefixtures("double")


def net(batch_norm: bool = False) -> nn.Module:
    torch.manual_seed(5)
    return il.models.mlp(2, 2, hidden=(3,), activation="tanh", batch_norm=batch_norm)


def tasks(num_tasks: int = 2, examples: int = 4) -> il.Task:
    generator = torch.Generator().manual_seed(8)
    sides = [
        il.Examples(torch.randn(num_tasks, examples, 2, generator=generator),
                    torch.randn(num_tasks, examples, 2, generator=generator))
        for _ in range(2)
    ]  # fmt: skip
    return il.Task(*sides, noise=torch.arange(num_tasks))


def worst_error(learner, batch, outer_step: int = 0, width: float = 1e-5) -> float:
    """Largest difference over all coordinates, relative to the largest coordinate of the gradient."""
    learner.backward(batch, outer_step=outer_step)
    worst, scale = 0.0, max(float(p.grad.abs().max()) for p in learner.parameters())
    for p in learner.parameters():
        flat = p.data.view(-1)
        for i in range(flat.numel()):
            start = flat[i].item()
            ends = []
            for moved in (start + width, start - width):
                flat[i] = moved
                ends.append(outer_loss(learner, batch, outer_step))
            flat[i] = start
            worst = max(worst, abs((ends[0] - ends[1]) / (2 * width) - p.grad.view(-1)[i].item()))
    return worst / scale


CASES = {
    "maml": lambda: il.maml(net(), inner_lr=0.3, inner_steps=3),
    "maml, batch norm": lambda: il.maml(net(True), inner_lr=0.1, inner_steps=2),
    "maml, momentum": lambda: il.maml(net(), inner_lr=0.1, inner_steps=3, inner_optimizer="momentum"),
    "maml, adam": lambda: il.maml(net(), inner_lr=0.1, inner_steps=3, inner_optimizer="adam"),
    "maml, some parameters": lambda: il.maml(net(), inner_lr=0.3, inner_steps=2, adapt=["*.bias"]),
    "anil": lambda: il.anil(net(), inner_lr=0.3, inner_steps=3),
    "boil": lambda: il.boil(net(), inner_lr=0.3, inner_steps=3),
    "meta_sgd": lambda: il.meta_sgd(net(), rate_low=0.1, rate_high=0.4, inner_steps=3),
    "mamlpp": lambda: il.mamlpp(net(), inner_lr=0.2, inner_steps=3),
    "mamlpp, positive rates, bounded gradient": lambda: il.mamlpp(
        net(), inner_lr=0.2, inner_steps=3, positive_rates=True, inner_clip_norm=0.3
    ),
    "mamlpp, batch norm": lambda: il.mamlpp(net(True), inner_lr=0.1, inner_steps=2),
    "mamlpp, one loss": lambda: il.mamlpp(net(), inner_lr=0.2, inner_steps=3, multi_step_loss=False),
    "mamlpp, fixed rates": lambda: il.mamlpp(net(), inner_lr=0.2, inner_steps=3, learned_rates=False),
}


@pytest.mark.parametrize("case", CASES)
def test_every_coordinate(case):
    learner = CASES[case]()
    learner.strategy = "vmapped"  # the differences are taken of looped losses
    assert worst_error(learner, tasks()) < 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("outer_step", [0, 700, 4_999, 5_000])
def test_every_coordinate_in_every_phase_of_the_multi_step_loss(outer_step):
    assert worst_error(il.mamlpp(net(), inner_lr=0.2, inner_steps=3), tasks(), outer_step) < 1e-7


def test_first_order_is_not_the_derivative():
    """The check can fail: first order leaves out what the check sees."""
    assert worst_error(il.fomaml(net(), inner_lr=0.3, inner_steps=3), tasks()) > 1e-3


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize(
    ("make", "adapted", "first_order"),
    [
        (il.maml, lambda name: True, False),
        (il.fomaml, lambda name: True, True),
        (il.anil, lambda name: name.startswith("head"), False),
        (il.boil, lambda name: not name.startswith("head"), False),
    ],
    ids=["maml", "fomaml", "anil", "boil"],
)
@pytest.mark.parametrize("steps", [1, 3])
def test_plain_loops_agree(make, adapted, first_order, steps, strategy):
    model, batch = net(), tasks(5)
    learner = make(model, inner_lr=0.3, inner_steps=steps)
    learner.strategy = strategy
    learner.backward(batch)
    expected = plain_gradient(
        model, batch, nn.functional.mse_loss, 0.3, steps, first_order=first_order, adapted=adapted
    )
    for name, value in expected.items():
        found = learner.model.get_parameter(name).grad
        assert (found - value).abs().max() <= 1e-12 * value.abs().max()


def test_fomaml_is_the_query_gradient_at_the_adapted_parameters():
    model, batch = net(), tasks(3)
    learner = il.fomaml(model, inner_lr=0.3, inner_steps=4)
    learner.backward(batch)
    for name, value in first_order_by_definition(model, batch, losses.mse, 0.3, 4).items():
        assert torch.allclose(learner.model.get_parameter(name).grad, value, rtol=1e-11, atol=1e-14)


def test_order_annealing_switches_at_its_step():
    batch = tasks()
    options = {"inner_lr": 0.2, "inner_steps": 3}
    annealed = il.mamlpp(net(), order_annealing=True, first_order_steps=7, **options)
    second = il.mamlpp(net(), **options)
    annealed.strategy = second.strategy = (
        "vmapped"  # a planner may choose differently for the two, and round differently
    )
    found = {}
    for step in (0, 6, 7, 100):
        for name, learner in (("annealed", annealed), ("second", second)):
            learner.zero_grad()
            learner.backward(batch, outer_step=step)
            found[name] = torch.cat([p.grad.reshape(-1) for p in learner.parameters()])
        assert torch.equal(found["annealed"], found["second"]) == (step >= 7)


def test_annealing_counts_the_calls_of_ones_own_loop():
    learner = il.mamlpp(net(), order_annealing=True, first_order_steps=2, inner_lr=0.2, inner_steps=3)
    found = []
    for _ in range(4):
        learner.zero_grad()
        learner.backward(tasks())
        found.append(torch.cat([p.grad.reshape(-1) for p in learner.parameters()]))
    assert torch.equal(found[0], found[1]) and torch.equal(found[2], found[3]) and not torch.equal(found[1], found[2])


# Antoniou et al., three inner steps, ten phases: every early weight falls by 1/30 a phase, not below 0.03/3.
BY_HAND = {
    0: (1 / 3, 1 / 3, 1 / 3),
    1: (0.3, 0.3, 0.4),
    4: (0.2, 0.2, 0.6),
    9: (1 / 30, 1 / 30, 14 / 15),
    10: (0.0, 0.0, 1.0),
    50: (0.0, 0.0, 1.0),
}


def test_multi_step_weights_by_hand():
    learner = il.mamlpp(net(), inner_steps=3, annealing_phases=10, phase_steps=20).learner
    for phase, expected in BY_HAND.items():
        for step in (20 * phase, 20 * phase + 19):
            assert learner.weights(step) == pytest.approx(expected, abs=1e-12)
    floor = il.mamlpp(net(), inner_steps=5, annealing_phases=100, phase_steps=1).learner
    assert floor.weights(99)[:4] == pytest.approx([0.006] * 4, abs=1e-12)  # 1/5 - 99/500 would be 0.002
    for step in range(120):
        assert sum(floor.weights(step)) == pytest.approx(1, abs=1e-12)


def test_multi_step_loss_is_the_weighted_sum():
    batch = tasks(1)
    many = il.mamlpp(net(), inner_lr=0.2, inner_steps=3, learned_rates=False)
    path = many.trajectory(batch, 3)
    each = [float((path[i] - batch.query.y).square().mean()) for i in (1, 2, 3)]
    for step, weights in ((0, BY_HAND[0]), (500, BY_HAND[1]), (5000, BY_HAND[10])):
        expected = sum(w * v for w, v in zip(weights, each, strict=True))
        assert outer_loss(many, batch, step) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("rule", "make"),
    [
        (SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (SGD(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        (Adam(0.1), lambda p: torch.optim.Adam(p, lr=0.1)),
        (Adam(0.1, beta1=0.0), lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.0, 0.999))),
    ],
    ids=["sgd", "momentum", "adam", "adam without first moment"],
)
def test_inner_optimizers_step_like_torchs(rule, make):
    model, task = net(), take(tasks(), 0)
    learner = il.maml(model, inner_steps=6)
    one = dataclasses.replace(learner.learner, rule=rule)
    assert isinstance(one, GradientLearner)
    fast = one.adapt(learner.meta(), task, 6)
    optimizer = make(model.parameters())
    for _ in range(6):
        optimizer.zero_grad()
        losses.mse(model(task.support.x), task.support.y).backward()
        optimizer.step()
    for name, p in model.named_parameters():
        # Ours keeps eps inside Adam's root, which moves a step by about 1e-8 / |gradient|.
        assert torch.allclose(fast.params[name], p, rtol=0, atol=1e-12 if isinstance(rule, SGD) else 3e-6)


def test_inner_adam_has_a_finite_meta_gradient_where_a_gradient_is_zero():
    """A parameter that the support loss does not reach: with eps outside the root the meta-gradient would be NaN."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].bias[0] = -100.0  # a dead unit: its weights never get a gradient
    learner = il.maml(model, inner_optimizer="adam", inner_lr=0.1, inner_steps=2)
    learner.backward(tasks())
    assert all(p.grad.isfinite().all() for p in learner.parameters())
