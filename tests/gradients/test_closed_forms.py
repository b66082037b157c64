"""Least squares: the learners' meta-gradients are the matrices that algebra gives."""

from __future__ import annotations

import pytest
import torch

import innerloop as il
from innerloop.tasks.curves import quadratics as answers

pytestmark = pytest.mark.usefixtures("double")
LR, TOLERANCE = 0.07, 1e-10


def problem(num_tasks: int = 6):
    family = il.tasks.quadratics(dim=3, shots=5, queries=4, noise=0.3)
    torch.manual_seed(3)
    return family.train.at(0, 0, num_tasks), family.train.default_model()


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found.reshape(-1) - expected).abs().max() <= TOLERANCE * expected.abs().max())


def meta_gradient(learner, tasks, strategy: str) -> torch.Tensor:
    learner.strategy = strategy
    learner.zero_grad()
    learner.backward(tasks)
    return next(learner.parameters()).grad


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_maml_fomaml_reptile(steps, strategy):
    tasks, model = problem()
    theta = next(model.parameters()).detach().reshape(-1)
    options = {"inner_lr": LR, "inner_steps": steps}
    maml = meta_gradient(il.maml(model, **options), tasks, strategy)
    fomaml = meta_gradient(il.fomaml(model, **options), tasks, strategy)
    assert close(maml, answers.maml_gradient(tasks, theta, LR, steps).mean(0))
    assert close(fomaml, answers.fomaml_gradient(tasks, theta, LR, steps).mean(0))
    assert close(fomaml, maml.reshape(-1)) == (steps == 0)
    reptile = il.reptile(model, inner_optimizer="sgd", inner_batch=None, **options)
    expected = answers.reptile_gradient(tasks.support, theta, LR, steps).mean(0)
    found = meta_gradient(reptile, tasks, strategy)
    assert close(found, expected) if steps else found.abs().max() < 1e-15


def test_the_reported_loss_is_the_query_loss_after_adaptation():
    tasks, model = problem()
    theta = next(model.parameters()).detach().reshape(-1)
    loss = il.maml(model, inner_lr=LR, inner_steps=3).backward(tasks)["loss"]
    assert loss.item() == pytest.approx(answers.maml_loss(tasks, theta, LR, 3).mean().item(), rel=1e-12)


def test_adapted_predictions():
    tasks, model = problem()
    theta = next(model.parameters()).detach().reshape(-1)
    path = il.maml(model, inner_lr=LR).trajectory(tasks, 4)
    for steps in range(5):
        solution = answers.adapted(answers.parabola(tasks.support), theta, LR, steps)
        assert torch.allclose(path[steps], tasks.query.x @ solution[..., None], rtol=1e-11, atol=1e-12)


def test_the_average_of_solutions_is_their_running_mean():
    """Outer SGD at rate 1/(step + 1) leaves the mean of all solutions, each from the first initialisation."""
    family = il.tasks.quadratics(dim=3, shots=5, queries=4)
    torch.manual_seed(3)
    model = family.train.default_model()
    theta = next(model.parameters()).detach().reshape(-1).clone()
    learner = il.multitask_average(model, inner_lr=LR, inner_steps=4, inner_optimizer="sgd")
    il.fit(learner, family, steps=5, num_tasks=3, validate_every=0, quiet=True)
    solutions = [
        answers.adapted(answers.parabola(family.train.at(0, step, 3).support), theta, LR, 4).mean(0)
        for step in range(5)
    ]
    assert close(next(learner.parameters()).detach(), torch.stack(solutions).mean(0))


def test_pooled_pretraining_is_least_squares_of_everything():
    tasks, model = problem()
    theta = next(model.parameters()).detach().reshape(-1)
    both = [answers.parabola(side).gradient(theta).mean(0) for side in (tasks.support, tasks.query)]
    expected = (both[0] * 5 + both[1] * 4) / 9
    assert close(meta_gradient(il.pretrained(model), tasks, "looped"), expected)


def test_meta_sgd_rates_have_the_gradient_of_algebra():
    """One step: d L_query / d rate = - grad L_query(fast) * grad L_support(meta), number by number."""
    tasks, model = problem()
    theta = next(model.parameters()).detach().reshape(-1)
    learner = il.meta_sgd(model, rate_low=LR, rate_high=LR)
    learner.backward(tasks)
    rate = list(learner.parameters())[-1]
    expected = -answers.fomaml_gradient(tasks, theta, LR, 1) * answers.parabola(tasks.support).gradient(theta)
    assert close(rate.grad, expected.mean(0))
