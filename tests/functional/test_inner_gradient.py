"""The inner gradient is the same inside torch.func's transforms and outside of them, to the second order."""

from __future__ import annotations

import pytest
import torch

from innerloop.functional import inner_gradient, transformed


def two_steps(meta, x, first_order):
    """An inner loop whose loss sees a parameter also directly, as meta, and one parameter not at all."""
    fast = dict(meta)
    for _ in range(2):

        def loss(p):
            return (p["a"] * x).tanh().sum() + (p["a"] * meta["a"]).square().sum(), p["a"].sum()

        grads, _aux = inner_gradient(loss, fast, first_order)
        fast = {name: p - 0.1 * grads[name] for name, p in fast.items()}
    return (fast["a"] * x).square().sum() + fast["unused"].sum()


def meta_gradient(first_order, under_vmap):
    torch.manual_seed(0)
    meta = {"a": torch.randn(3, dtype=torch.float64), "unused": torch.ones(2, dtype=torch.float64)}
    meta = {name: p.requires_grad_() for name, p in meta.items()}
    x = torch.randn(4, 3, dtype=torch.float64)
    if under_vmap:
        value = torch.vmap(lambda x: two_steps(meta, x, first_order))(x).sum()
    else:
        value = sum(two_steps(meta, one, first_order) for one in x)
    return torch.autograd.grad(value, list(meta.values()))


@pytest.mark.parametrize("first_order", [False, True])
def test_equal_with_and_without_vmap(first_order):
    plain, mapped = meta_gradient(first_order, False), meta_gradient(first_order, True)
    torch.testing.assert_close(plain, mapped, rtol=1e-13, atol=1e-13)
    assert not torch.allclose(plain[0], meta_gradient(not first_order, False)[0], rtol=1e-3)


def test_no_graph_is_kept_where_none_is_wanted():
    p = {"a": torch.ones(2, requires_grad=True)}
    square = lambda p: (p["a"].square().sum(), None)  # noqa: E731
    assert not inner_gradient(square, p, True)[0]["a"].requires_grad
    assert inner_gradient(square, p, False)[0]["a"].requires_grad
    with torch.no_grad():
        found = inner_gradient(square, p, False)[0]["a"]
    assert not found.requires_grad and found.tolist() == [2.0, 2.0]


def test_a_loss_without_parameters_has_a_gradient_of_zero():
    found, aux = inner_gradient(lambda p: (torch.ones(()), "aux"), {"a": torch.ones(2)}, False)
    assert found["a"].tolist() == [0.0, 0.0] and aux == "aux"


def test_transformed_knows_torch_func():
    seen = []
    torch.vmap(lambda x: seen.append(transformed()) or x)(torch.ones(1))
    torch.func.grad(lambda x: seen.append(transformed()) or x)(torch.ones(()))
    assert seen == [True, True] and not transformed()
