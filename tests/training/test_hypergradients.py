"""Gradients by what a training run was set up with: against differences, a closed form, and one way against another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import innerloop as il
from innerloop.rules import HypergradientDescent

DOUBLE = torch.float64


def job():
    """A small regression: (network, train_loss, valid_loss)."""
    torch.manual_seed(0)
    x, y, xv, yv = (torch.randn(n, k, dtype=DOUBLE) for n, k in ((20, 3), (20, 1), (10, 3), (10, 1)))
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(DOUBLE)

    def train(model, hyper, step):
        errors = (model(x[step % 2 :: 2]) - y[step % 2 :: 2]).square()[:, 0]
        decay = sum(p.square().sum() for p in model.params.values())
        return (hyper["examples"].repeat(2) * errors).mean() + hyper["decay"].exp() * decay

    return net, train, lambda model: (model(xv) - yv).square().mean()


def ten(optimizer: str) -> dict:
    """Ten numbers at least: a rate for each tensor, the optimizer's own, weights of examples and of a part of the loss."""
    rates = {
        name: torch.tensor(0.02 + 0.01 * i, dtype=DOUBLE) for i, (name, _) in enumerate(job()[0].named_parameters())
    }
    own = {"sgd": {"weight_decay": 0.01}, "momentum": {"momentum": 0.8}, "adam": {"beta1": 0.8, "beta2": 0.95}}[
        optimizer
    ]
    examples = torch.linspace(0.5, 1.5, 5, dtype=DOUBLE)
    more = {name: torch.tensor(value, dtype=DOUBLE) for name, value in own.items()}
    return {"lr": rates, "decay": torch.tensor(-4.0, dtype=DOUBLE), "examples": examples, **more}


def differences(hyper, loss_of, size: float = 1e-4):
    """Central differences of the fourth order."""
    leaves, spec = pytree.tree_flatten(hyper)
    found = []
    for i, leaf in enumerate(leaves):
        slopes = torch.zeros_like(leaf).reshape(-1)
        for j in range(leaf.numel()):

            def at(by, i=i, j=j):
                moved = [v.clone() for v in leaves]
                moved[i].reshape(-1)[j] += by
                return float(loss_of(pytree.tree_unflatten(moved, spec)))

            near, far = (at(size) - at(-size)) / (2 * size), (at(2 * size) - at(-2 * size)) / (4 * size)
            slopes[j] = (4 * near - far) / 3
        found.append(slopes.view_as(leaf))
    return found


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_fifty_steps_against_differences_and_forward_mode(optimizer):
    net, train, valid = job()
    hyper, given = ten(optimizer), {"steps": 50, "params": net, "optimizer": optimizer}
    loss, grads = il.hypergradients(hyper, train, valid, **given, with_loss=True)
    assert pytree.tree_structure(grads) == pytree.tree_structure(hyper)
    assert sum(v.numel() for v in pytree.tree_leaves(grads)) >= 10

    def run(hyper):
        return il.hypergradients(hyper, train, valid, **given, recompute=False, with_loss=True)[0]

    found = pytree.tree_leaves(grads)
    assert float(loss) == pytest.approx(float(run(hyper)), rel=1e-12)
    for mine, theirs in zip(found, differences(hyper, run), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
        assert theirs.abs().max() > 1e-5
    for more in ({"method": "forward"}, {"recompute": False}):
        other = pytree.tree_leaves(il.hypergradients(hyper, train, valid, **given, **more))
        torch.testing.assert_close(found, other, rtol=1e-10, atol=1e-12)
    assert all(p.grad is None for p in net.parameters())


def ridge():
    """(hyper, train_loss, valid_loss, the gradient of the validation loss at the minimum in closed form)."""
    torch.manual_seed(1)
    x, y, xv, yv = (torch.randn(n, dtype=DOUBLE) for n in ((20, 3), 20, (10, 3), 10))
    hyper = {"l2": torch.tensor(0.3, dtype=DOUBLE), "examples": torch.rand(20, dtype=DOUBLE) + 0.5}

    def train(weights, hyper):
        squares = hyper["examples"] * (x @ weights["w"] - y).square()
        return 0.5 * squares.mean() + 0.5 * hyper["l2"] * weights["w"].square().sum()

    def valid(weights):
        return (xv @ weights["w"] - yv).square().mean()

    here = {name: v.clone().requires_grad_() for name, v in hyper.items()}
    weighted = x.T * here["examples"] / 20
    minimum = torch.linalg.solve(weighted @ x + here["l2"] * torch.eye(3, dtype=DOUBLE), weighted @ y)
    return hyper, train, valid, torch.autograd.grad(valid({"w": minimum}), list(here.values()))


@pytest.mark.parametrize("method", ["implicit", "backprop", "forward"])
def test_at_a_minimum_all_give_the_closed_form(method):
    hyper, train, valid, exact = ridge()
    begun = {"w": torch.zeros(3, dtype=DOUBLE)}
    grads = il.hypergradients(hyper, train, valid, steps=300, params=begun, lr=0.3, method=method)
    for mine, theirs in zip(grads.values(), exact, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


def test_what_enters_the_validation_loss_alone_or_too():
    """By the implicit way as by backprop: through the weights, directly, and both."""
    hyper, train, _, _ = ridge()
    hyper = {**hyper, "offset": torch.tensor(0.2, dtype=DOUBLE)}

    def valid(weights, hyper):
        return (weights["w"] - hyper["offset"]).square().sum() * hyper["l2"]

    begun = {"w": torch.zeros(3, dtype=DOUBLE)}
    both = [
        il.hypergradients(hyper, train, valid, steps=300, params=begun, lr=0.3, method=m)
        for m in ("implicit", "backprop")
    ]
    for name in hyper:
        assert both[1][name].abs().max() > 1e-3
        torch.testing.assert_close(both[0][name], both[1][name], rtol=1e-8, atol=1e-10)


def test_where_training_begins_may_be_in_hyper():
    """So that the gradient by it comes out, too; and hyper may be one tensor."""
    hyper, train, valid, _ = ridge()
    begun = {"w": torch.ones(3, dtype=DOUBLE)}
    both = il.hypergradients({**hyper, "params": begun}, train, valid, steps=3)
    assert both["params"]["w"].abs().max() > 1e-3
    apart = il.hypergradients(hyper, train, valid, steps=3, params=begun)
    torch.testing.assert_close(both["l2"], apart["l2"])
    one = il.hypergradients(hyper["l2"], lambda w, l2: train(w, {**hyper, "l2": l2}), valid, steps=3, params=begun)
    torch.testing.assert_close(one, apart["l2"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hyper": {"learning_rate": 0.1}}, "nothing reads 'learning_rate' of hyper"),
        ({"hyper": {"l2": 0.1}}, "hyper expected tensors alone, got float"),
        ({"hyper": {"lr": {"other": torch.tensor(0.1)}}}, "without the parameter 'w'"),
        ({"params": None}, "expected the weights where training begins"),
        ({"steps": 0}, "steps expected"),
        ({"optimizer": "adamw"}, "optimizer expected one of sgd"),
        ({"method": "forwards"}, "method expected one of backprop"),
        ({"method": "implicit", "steps": 2}, "a run that has come to rest"),
        ({"method": "implicit", "hyper": {"lr": torch.tensor(0.3, dtype=DOUBLE)}}, "expected 'lr' in train_loss"),
        ({"method": "implicit", "solver_steps": 1}, "raise solver_steps"),
        ({"method": "forward", "hyper": {"examples": torch.ones(200, dtype=DOUBLE)}}, "at most 100 numbers"),
        ({"train": lambda w, h: w["w"] * h["l2"] * h["examples"].sum()}, "train_loss expected a scalar"),
        ({"valid": lambda w: torch.zeros(())}, "depends on nothing"),
    ],
)
def test_what_cannot_be_is_one_line(change, said):
    hyper, train, valid, _ = ridge()
    change = dict(change)
    if "examples" in change.get("hyper", {}):
        train = lambda w, h: (h["examples"].mean() * h["l2"] * w["w"].square()).sum()  # noqa: E731
    hyper = {
        **hyper,
        **{k: torch.tensor(v, dtype=DOUBLE) if k == "learning_rate" else v for k, v in change.pop("hyper", {}).items()},
    }
    train, valid = change.pop("train", train), change.pop("valid", valid)
    given = {"steps": 300, "params": {"w": torch.zeros(3, dtype=DOUBLE)}, **change}
    given |= {} if "lr" in hyper else {"lr": 0.3}
    with pytest.raises(il.ConfigError, match=said) as error:
        il.hypergradients(hyper, train, valid, **given)
    assert "\n" not in str(error.value)


def test_a_run_that_diverges_says_so():
    hyper, train, valid, _ = ridge()
    with pytest.raises(il.DivergedError, match="not finite"):
        il.hypergradients(hyper, train, valid, steps=300, params={"w": torch.zeros(3, dtype=DOUBLE)}, lr=1e6)


def test_hypergradient_descent_is_the_papers_two_lines():
    """On a parabola: rate 1 = rate 0 + beta g1 . g0, step by step; beta 0 is gradient descent; a rate stays at 0."""
    curvature = torch.tensor([1.0, 3.0], dtype=DOUBLE)

    def run(beta, lr, steps):
        rule = HypergradientDescent(lr, beta)
        params = {"a": torch.tensor([2.0, -1.0], dtype=DOUBLE)}
        state = rule.init({"lr": torch.tensor(lr, dtype=DOUBLE)}, params)
        for i in range(steps):
            grads = {"a": curvature * params["a"]}
            params, state = rule.update({}, grads, state, params, loss=torch.zeros(()), step=i)
        return params["a"], float(state["rate"])

    start = torch.tensor([2.0, -1.0], dtype=DOUBLE)
    first = start - 0.1 * curvature * start
    rate = 0.1 + 0.01 * float((curvature * first * curvature * start).sum())
    found, last = run(0.01, 0.1, 2)
    torch.testing.assert_close(found, first - rate * curvature * first)
    assert last == pytest.approx(rate, rel=1e-12)
    torch.testing.assert_close(run(0.0, 0.1, 5)[0], start * (1 - 0.1 * curvature) ** 5)
    assert run(1.0, 1.0, 2)[1] == 0.0


def test_the_page_runs(capsys):
    page = Path(__file__).parents[2] / "docs" / "hypergradients.md"
    torch.manual_seed(0)
    exec(page.read_text(encoding="utf-8").split("```python")[1].split("```")[0], {})
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 5 and losses[-1] < losses[0]
