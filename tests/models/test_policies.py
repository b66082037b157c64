"""Policies: the GRU against torch's, its written gradient against differences, vmap against one by one."""

from __future__ import annotations

import pytest
import torch

import innerloop as il
from innerloop.errors import ConfigError
from innerloop.models.gated import GruLayer, _Sequence

pytestmark = pytest.mark.usefixtures("double")


def layer() -> GruLayer:
    torch.manual_seed(0)
    made = GruLayer(4, 5)
    for part in (made.from_input, made.from_state):
        torch.nn.init.normal_(part.bias)
    return made


def test_it_computes_what_torchs_gru_does():
    ours, theirs = layer(), torch.nn.GRU(4, 5, batch_first=True)
    pairs = (("weight_ih_l0", ours.from_input.weight), ("weight_hh_l0", ours.from_state.weight))
    pairs += (("bias_ih_l0", ours.from_input.bias), ("bias_hh_l0", ours.from_state.bias))
    for name, value in pairs:
        getattr(theirs, name).data.copy_(value.data)
    x, state = torch.randn(3, 6, 4), torch.randn(3, 5)
    found, known = ours(x, state), theirs(x, state[None])[0]
    assert torch.allclose(found, known, atol=1e-12)
    (found.sin() * x.sum()).sum().backward()
    (known.sin() * x.sum()).sum().backward()
    for name, value in pairs:
        assert torch.allclose(value.grad, getattr(theirs, name).grad, atol=1e-10), name


def test_its_gradient_is_that_of_differences():
    made = layer()
    given = (torch.randn(4, 3, 15, requires_grad=True), torch.randn(3, 5, requires_grad=True))
    weights = (made.from_state.weight, made.from_state.bias)
    assert torch.autograd.gradcheck(lambda *v: _Sequence.apply(*v)[0], (*given, *weights))


def test_vmap_is_one_by_one():
    made, x, state = layer(), torch.randn(7, 3, 6, 4), torch.randn(3, 5)
    many, each = torch.vmap(lambda v: made(v, state))(x), torch.stack([made(v, state) for v in x])
    assert torch.allclose(many, each, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(v.sin().sum(), list(made.parameters())) for v in (many, each)), strict=True):
        assert torch.allclose(a, b, atol=1e-10)
    own = torch.stack([made.from_state.weight * s for s in (1.0, 0.5)])
    gates, begun = torch.randn(2, 4, 3, 15), torch.randn(3, 5)
    many = torch.vmap(lambda g, w: _Sequence.apply(g, begun, w, made.from_state.bias)[0])(gates, own)
    each = torch.stack([_Sequence.apply(g, begun, w, made.from_state.bias)[0] for g, w in zip(gates, own, strict=True)])
    assert torch.allclose(many, each, atol=1e-12), "networks of their own"


def test_going_on_from_a_state_is_one_sequence():
    torch.manual_seed(0)
    policy = il.models.gru_policy(2, 3, hidden=4)
    x = torch.randn(5, 8, 2 + 3 + 2)
    first, state = policy(x[:, :3], policy.begin(5, x))
    rest, _ = policy(x[:, 3:], state)
    assert torch.allclose(torch.cat([first, rest], 1), policy(x), atol=1e-12) and policy(x).shape == (5, 8, 4)


def test_a_second_derivative_is_refused_not_wrong():
    made = layer()
    out = made(torch.randn(1, 2, 4, requires_grad=True), torch.zeros(1, 5)).sum()
    (slope,) = torch.autograd.grad(out, [made.from_state.weight], create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        slope.sum().backward()


def test_gaussian_policies():
    policy = il.models.gaussian_policy(3, 4, hidden=(5,), deviation=0.5)
    out = policy(torch.randn(6, 3))
    assert out.shape == (6, 4) and torch.allclose(out[:, 2:].exp(), torch.full((6, 2), 0.5))
    # The first means are near 0 by small last weights alone: with small hidden ones nothing would follow what is seen.
    assert 0 < out[:, :2].abs().max() < 0.1 and policy.body(torch.randn(6, 3)).abs().mean() > 0.1
    assert il.models.gaussian_policy(3, 4, hidden=())(torch.randn(6, 3)).shape == (6, 4)
    with pytest.raises(ConfigError, match="an even number, got 3"):
        il.models.gaussian_policy(3, 3)
    with pytest.raises(ConfigError, match="deviation expected"):
        il.models.gaussian_policy(3, 4, deviation=0.0)
