"""MAML-RL's outer derivative: against finite differences on fixed episodes, and on a two-armed bandit by enumeration."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

import innerloop as il
from innerloop.core import Meta, Task
from innerloop.meta_gradients.trust_region import conjugate_gradients
from innerloop.objectives.policy import Policy
from innerloop.objectives.rollouts import Rollouts
from innerloop.objectives.world import Discrete

ARMS = Discrete(2)
PAYS = torch.tensor([0.2, 0.9], dtype=torch.float64)
RATE = 0.7


def policy(quarter: bool = True) -> nn.Module:
    """Logits of two arms whatever is seen; the first has probability 1/4, or else another that is no simple share."""
    net = nn.Linear(1, 2, bias=False).double()
    first = 0.25 if quarter else 0.37
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[first], [1 - first]], dtype=torch.float64).log())
    return net


def pulls(arms: list[int], logits: torch.Tensor, advantage: torch.Tensor, **noted: torch.Tensor) -> Rollouts:
    """Episodes of one pull each, by a policy with these logits."""
    n = len(arms)
    actions = torch.tensor(arms)[:, None]
    outputs = logits.detach().expand(n, 1, 2)
    kept = {"outputs": outputs, "log_prob": ARMS.log_prob(outputs, actions), "advantage": advantage.double()[:, None]}
    yes = torch.ones(n, 1, dtype=torch.bool)
    seen = torch.ones(n, 1, 1, dtype=torch.float64)
    return Rollouts(seen, actions, PAYS[actions], yes, yes, {**kept, **noted}, horizon=1)


def learner(credit: str, episodes: int, quarter: bool = True, **options):
    return il.maml_rl(policy(quarter), inner_lr=RATE, episodes=episodes, credit=credit, **options)


def gradient(made, support: Rollouts, query: Rollouts) -> torch.Tensor:
    """Of the outer loss on one task, by the logits of the policy."""
    task = Task(support, query, Policy(ARMS, 1, 1), noise=torch.tensor(0))
    weight = made.model.weight.detach().clone().requires_grad_()
    loss, _ = made.learner.meta_loss(Meta({"weight": weight}, {}, {}), task, 0)
    return torch.autograd.grad(loss, weight)[0][:, 0]


def expected(logits: torch.Tensor) -> torch.Tensor:
    return (logits.softmax(-1) * PAYS).sum()


def both_arms(logits: torch.Tensor) -> Rollouts:
    """A pull of each arm, weighed as the policy would pull them: their mean is an expectation."""
    return pulls([0, 1], logits, 2 * logits.detach().softmax(-1) * PAYS)


@pytest.mark.parametrize("credit", ["ratio", "none"])
def test_outer_derivative_of_expected_inner_gradient(credit):
    """theta' = theta + rate * gradient of the expected return: pulls in exact proportion stand for the expectation."""
    made = learner(credit, episodes=4)
    logits = made.model.weight.detach()[:, 0].clone().requires_grad_()
    inner = torch.autograd.grad(expected(logits), logits, create_graph=True)[0]
    adapted = logits + RATE * inner
    exact = torch.autograd.grad(expected(adapted), logits)[0]
    arms = [0, 1, 1, 1]
    found = -gradient(made, pulls(arms, logits, PAYS[torch.tensor(arms)]), both_arms(adapted))
    if credit == "ratio":
        torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12)
    else:  # known to be another: that the parameters also say which arms are pulled is left out
        assert (found - exact).abs().max() > 1e-3


@pytest.mark.parametrize("credit", ["sampled", "none"])
def test_outer_derivative_of_expected_return_after_sampled_pulls(credit):
    """J = sum over what three pulls may be of its probability times the return of the policy that they lead to."""
    number = 3
    made = learner(credit, episodes=number, quarter=False)
    logits = made.model.weight.detach()[:, 0].clone().requires_grad_()
    exact = torch.zeros((), dtype=torch.float64)
    found = torch.zeros(2, dtype=torch.float64)
    for arms in itertools.product([0, 1], repeat=number):
        which = torch.tensor(arms)
        logs = logits.log_softmax(-1)[which]
        inner = torch.autograd.grad((logs * PAYS[which]).mean(), logits, create_graph=True)[0]
        adapted = logits + RATE * inner
        exact = exact + logs.sum().exp() * expected(adapted)
        worth = expected(adapted).detach().expand(number, 1)
        support = pulls(list(arms), logits, PAYS[which], credit=worth)
        found = found - float(logs.detach().sum().exp()) * gradient(made, support, both_arms(adapted))
    wanted = torch.autograd.grad(exact, logits)[0]
    if credit == "sampled":
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    else:
        assert (found - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("credit", ["ratio", "sampled", "none"])
@pytest.mark.parametrize("outer", ["ppo", "promp"])
@pytest.mark.parametrize("steps", [1, 2])
def test_meta_gradient_is_that_of_finite_differences(credit, outer, steps):
    torch.manual_seed(0)
    model = il.models.gaussian_policy(2, 4, hidden=(5,), deviation=0.3).double()
    made = il.maml_rl(model, episodes=3, inner_steps=steps, credit=credit, outer=outer, penalty=0.1)
    stored = made.experience(il.tasks.navigation(steps=6).train.at(0, 0, 2))
    # Away from where it was played: there ratios are 1 and the divergence is flat.
    with torch.no_grad():
        for p in made.model.parameters():
            p.add_(0.003 * torch.randn_like(p))
    made.backward(stored)
    for p in made.model.parameters():
        index = int(p.grad.abs().argmax())
        flat, step, values = p.data.view(-1), 1e-5, []
        for sign in (1, -1):
            flat[index] += sign * step
            values.append(float(made.backward(dataclasses.replace(stored))["loss"]))
            flat[index] -= sign * step
        slope = (values[0] - values[1]) / (2 * step)
        first = float(p.grad.view(-1)[index]) / 3  # backward adds, and was called three times at about the same place
        assert first == pytest.approx(slope, rel=2e-4, abs=1e-8)
        made.zero_grad()
        made.backward(stored)


def test_conjugate_gradients_solve():
    torch.manual_seed(0)
    root = torch.randn(6, 6, dtype=torch.float64)
    matrix, target = root @ root.T + torch.eye(6), torch.randn(6, dtype=torch.float64)
    torch.testing.assert_close(
        conjugate_gradients(lambda v: matrix @ v, target, 12), torch.linalg.solve(matrix, target)
    )


def test_trust_region_step_stays_within_its_divergence_and_gains():
    torch.manual_seed(0)
    made = il.maml_rl(il.models.gaussian_policy(2, 4, hidden=(8,), deviation=0.1), episodes=6, outer="trpo")
    stored = made.experience(il.tasks.navigation(steps=20).train.at(0, 0, 4))
    task = made.ready(stored, 0)

    def judged():
        found = torch.vmap(lambda one: made.learner.judged(made.meta(), one)[:2])(task)
        return [float(v.mean()) for v in found]

    before = judged()
    made.backward(stored)
    with torch.no_grad():
        for p in made.model.parameters():
            p.sub_(p.grad)
    after = judged()
    assert after[0] < before[0]
    assert 0.002 < after[1] <= 0.01 * 1.001
