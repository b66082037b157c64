"""Implicit meta-gradients: least squares in closed form, converged inner loops, and memory that does not grow."""

from __future__ import annotations

import pytest
import torch
from plain_loops import outer_loss
from torch import nn

import innerloop as il
from innerloop.engine import memory
from innerloop.errors import ConfigError
from innerloop.meta_gradients.conjugate_gradient import conjugate_gradient
from innerloop.tasks.curves import quadratics as answers

pytestmark = pytest.mark.usefixtures("double")
STRENGTH = 0.7


def least_squares(num_tasks: int = 4):
    family = il.tasks.quadratics(dim=3, shots=5, queries=4, noise=0.3)
    torch.manual_seed(3)
    return family.train.at(0, 0, num_tasks), family.train.default_model()


def flat_gradient(learner, tasks) -> torch.Tensor:
    learner.zero_grad()
    learner.backward(tasks)
    return torch.cat([p.grad.reshape(-1) for p in learner.parameters()])


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_closed_form(strategy):
    tasks, model = least_squares()
    theta = next(model.parameters()).detach().reshape(-1)
    learner = il.imaml(model, inner_lr=0.25, inner_steps=200, strength=STRENGTH, cg_steps=3, damping=0.0)
    learner.strategy = strategy
    found = flat_gradient(learner, tasks)
    expected = answers.imaml_gradient(tasks, theta, STRENGTH).mean(0)
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.parametrize("damping", [0.0, 1.0])
def test_few_steps_and_damping_by_hand(damping):
    """One step of conjugate gradients is steepest descent with the best step; here from where 2 inner steps ended."""
    tasks, model = least_squares(1)
    theta = next(model.parameters()).detach().reshape(-1)
    side = answers.parabola(tasks.support)
    phi = theta
    for _ in range(2):
        phi = phi - 0.1 * (side.gradient(phi)[0] + STRENGTH * (phi - theta))
    slope = answers.parabola(tasks.query).gradient(phi)[0]
    matrix = (1 + damping) * torch.eye(3) + side.hessian[0] / STRENGTH
    expected = (slope @ slope) / (slope @ matrix @ slope) * slope
    learner = il.imaml(model, inner_lr=0.1, inner_steps=2, strength=STRENGTH, cg_steps=1, damping=damping)
    assert torch.allclose(flat_gradient(learner, tasks), expected, rtol=1e-11)
    metrics = learner.backward(tasks)
    left = (slope - matrix @ expected).norm() / slope.norm()
    assert torch.allclose(metrics["cg_residual"], left, rtol=1e-9)
    pulled = side.gradient(phi)[0] + STRENGTH * (phi - theta)
    assert torch.allclose(metrics["inner_gradient"], pulled.norm(), rtol=1e-11)


@pytest.mark.parametrize("adapt", [None, ["head.*"]], ids=["all", "head"])
def test_finite_differences_at_the_solution(adapt):
    """Also for the parameters that the inner loop leaves alone, which move the solution too."""
    torch.manual_seed(5)
    model = il.models.mlp(2, 2, hidden=(3,), activation="tanh")
    generator = torch.Generator().manual_seed(8)
    sides = [il.Examples(*(torch.randn(2, 4, 2, generator=generator) for _ in range(2))) for _ in range(2)]
    tasks = il.Task(*sides, noise=torch.arange(2))
    learner = il.imaml(model, inner_lr=0.3, inner_steps=60, strength=1.5, cg_steps=20, damping=0.0, adapt=adapt)
    gradient = flat_gradient(learner, tasks)
    start = [p.detach().clone() for p in learner.parameters()]
    for k in range(3):
        direction = [
            torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * k + i)) for i, p in enumerate(start)
        ]
        ends = []
        for by in (1e-5, -1e-5):
            with torch.no_grad():
                for p, at, d in zip(learner.parameters(), start, direction, strict=True):
                    p.copy_(at + by * d)
            ends.append(outer_loss(learner, tasks, 0))
        slope = float(gradient @ torch.cat([d.reshape(-1) for d in direction]))
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.slow
def test_memory_does_not_grow_with_inner_steps():
    tasks = il.tasks.sinusoid().train.at(0, 0, 4)

    def peak(steps: int, name: str) -> int:
        learner = il.imaml(il.models.mlp(1, 1, hidden=(60, 60)), inner_lr=0.01, inner_steps=steps)
        learner = il.with_meta_gradient(learner, name)
        learner.strategy = "vmapped"
        batch = learner.ready(tasks, 0)

        def step(meta, tasks):
            return learner.meta_gradient({}, meta, tasks, 0, None)

        found = memory.peak_bytes(step, learner.meta(), batch)
        assert found is not None
        return found

    implicit = [peak(steps, "implicit") for steps in (10, 50, 200)]
    assert max(implicit) <= 1.1 * min(implicit), implicit
    through = [peak(steps, "backprop") for steps in (10, 20)]
    assert through[1] > 1.5 * through[0] > 1.5 * implicit[0], (through, implicit)


def test_no_pull_in_evaluation_is_plain_adaptation():
    tasks, model = least_squares()
    free = il.imaml(model, inner_lr=0.1, inner_steps=4, eval_strength=0.0)
    plain = il.maml(model, inner_lr=0.1, inner_steps=4)
    held = il.imaml(model, inner_lr=0.1, inner_steps=4)
    assert torch.equal(free.predict_queries(tasks), plain.predict_queries(tasks))
    assert not torch.allclose(held.predict_queries(tasks), plain.predict_queries(tasks))
    assert torch.equal(flat_gradient(free, tasks), flat_gradient(held, tasks))  # training is the same


def test_conjugate_gradients_solve():
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(5, 5, generator=generator)
    matrix, right = half @ half.T + torch.eye(5), torch.randn(5, generator=generator)

    def product(v, matrix=matrix):
        both = matrix @ torch.cat([v["a"].reshape(-1), v["b"]])
        return {"a": both[:2].reshape(1, 2), "b": both[2:]}

    named = {"a": right[:2].reshape(1, 2), "b": right[2:]}
    x, left = conjugate_gradient(product, named, 5)
    expected = torch.linalg.solve(matrix, right)
    assert torch.allclose(torch.cat([x["a"].reshape(-1), x["b"]]), expected, rtol=1e-9)
    assert left < 1e-15
    x, _ = conjugate_gradient(product, named, 30)  # solved long before: stays, and stays finite
    assert torch.allclose(torch.cat([x["a"].reshape(-1), x["b"]]), expected, rtol=1e-9)
    x, _ = conjugate_gradient(product, {n: torch.zeros_like(v) for n, v in named.items()}, 3)
    assert all(not v.any() for v in x.values())
    x, left = conjugate_gradient(lambda v: {n: -p for n, p in v.items()}, named, 3)  # no positive curvature anywhere
    assert all(not v.any() for v in x.values()) and torch.allclose(left, right @ right)


class Dropping(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: il.imaml(il.models.mlp(1, 1), strength=0.0), "strength above 0"),
        (lambda: il.imaml(il.models.mlp(1, 1), strength=-1.0), "strength expected"),
        (lambda: il.imaml(il.models.mlp(1, 1), eval_strength=float("nan")), "eval_strength expected"),
        (lambda: il.imaml(il.models.mlp(1, 1), cg_steps=0), "cg_steps expected"),
        (lambda: il.imaml(il.models.mlp(1, 1), damping=-0.1), "damping expected"),
        (lambda: il.imaml(Dropping()), "dropout"),
        (lambda: il.with_meta_gradient(il.maml(il.models.mlp(1, 1)), "implicit"), "proximal"),
        (lambda: il.with_meta_gradient(il.protonet(il.models.mlp(4, None)), "implicit"), "proximal"),
    ],
)
def test_what_cannot_be_is_one_error(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
