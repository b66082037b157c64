"""The closed forms of the least-squares problem against autograd, and the problem itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from innerloop.errors import InputError
from innerloop.tasks.curves import quadratics as answers
from innerloop.tasks.curves.quadratics import quadratics

TASKS, DIM, LR = 4, 3, 0.15
DISTRIBUTION = quadratics(dim=DIM, shots=5, queries=6, noise=0.3, dtype="float64").train
TASK = DISTRIBUTION.at(0, 0, TASKS)
THETA = torch.tensor([0.3, -0.7, 1.9], dtype=torch.float64)


def loss(side, i, theta):
    return F.mse_loss(side.x[i] @ theta[:, None], side.y[i])


def by_autograd(i: int, steps: int, second_order: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(outer loss, meta-gradient, adapted parameters) of task i, by unrolling."""
    start = THETA.clone().requires_grad_()
    theta = start
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(loss(TASK.support, i, theta), theta, create_graph=second_order)
        theta = theta - LR * gradient
    outer = loss(TASK.query, i, theta)
    return outer.detach(), torch.autograd.grad(outer, start)[0], theta.detach()


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_maml_fomaml_and_reptile(steps):
    second = [by_autograd(i, steps, True) for i in range(TASKS)]
    first = [by_autograd(i, steps, False) for i in range(TASKS)]
    near = {"atol": 1e-12, "rtol": 1e-12}
    torch.testing.assert_close(answers.maml_loss(TASK, THETA, LR, steps), torch.stack([s[0] for s in second]), **near)
    torch.testing.assert_close(
        answers.maml_gradient(TASK, THETA, LR, steps), torch.stack([s[1] for s in second]), **near
    )
    torch.testing.assert_close(
        answers.fomaml_gradient(TASK, THETA, LR, steps), torch.stack([s[1] for s in first]), **near
    )
    torch.testing.assert_close(
        answers.reptile_gradient(TASK.support, THETA, LR, steps),
        THETA - torch.stack([s[2] for s in second]),
        **near,
    )


def test_the_orders_differ_after_a_step_and_agree_before():
    for steps, same in ((0, True), (1, False)):
        exact, first = (f(TASK, THETA, LR, steps) for f in (answers.maml_gradient, answers.fomaml_gradient))
        assert torch.allclose(exact, first) == same


@pytest.mark.parametrize("strength", [0.1, 2.0])
def test_imaml(strength):
    solution = answers.proximal_solution(TASK.support, THETA, strength)
    gradient = answers.parabola(TASK.support).gradient(solution) + strength * (solution - THETA)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)

    def outer(theta):
        return answers.parabola(TASK.query).loss(answers.proximal_solution(TASK.support, theta, strength))

    by_jacobian = torch.autograd.functional.jacobian(outer, THETA)
    torch.testing.assert_close(answers.imaml_gradient(TASK, THETA, strength), by_jacobian, atol=1e-12, rtol=0)


def test_many_steps_reach_the_least_squares_solution():
    expected = torch.linalg.lstsq(TASK.support.x, TASK.support.y).solution[..., 0]
    reached = answers.adapted(answers.parabola(TASK.support), THETA, 0.1, 20_000)
    torch.testing.assert_close(reached, expected, atol=1e-8, rtol=0)


def test_without_noise_the_optimum_is_exact_and_chunks_agree():
    tasks = quadratics(dim=DIM, dtype="float64").train
    keys = torch.arange(10)
    batch = tasks.from_keys(keys)
    assert torch.equal(batch.support.y, batch.support.x @ tasks.optima(keys)[..., None])
    assert torch.equal(tasks.from_keys(keys[3:5]).query.y, batch.query.y[3:5])
    assert not torch.equal(batch.support.x, batch.query.x)


def test_curvature_is_the_identity_on_average():
    hessian = answers.parabola(quadratics(dtype="float64").train.at(0, 0, 4000).support).hessian.mean(0)
    torch.testing.assert_close(hessian, torch.eye(3, dtype=torch.float64), atol=0.05, rtol=0)


def test_default_model_has_one_weight_a_coordinate():
    tasks = quadratics(dim=5).train
    model = tasks.default_model()
    assert [tuple(p.shape) for p in model.parameters()] == [(1, 5)]
    assert model(tasks.at(0, 0, 1).support.x[0]).shape == (8, 1)


def test_sizes_below_one_are_refused():
    with pytest.raises(InputError, match="dim expected at least 1, got 0"):
        quadratics(dim=0)
