"""The per-task convolution against torch's own, to the second order, in every way that vmap can reach it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop.functional import convert
from innerloop.functional.convolutions import Conv2d, Geometry, _Convolve, per_task_convolutions

DOUBLE = torch.float64


def ours(x, w, b, geometry):
    return _Convolve.apply(x, w, b, geometry)


def torchs(x, w, b, geometry):
    return F.conv2d(x, w, b, *geometry)


def adapted_loss(x, w, b, conv, geometry):
    """A second-order quantity in which all three operands appear at every order."""

    def loss(x, w, b):
        return conv(x, w, b, geometry).tanh().square().sum()

    moved = w - 0.1 * torch.func.grad(loss, 1)(x, w, b)
    shifted = None if b is None else b - 0.1 * torch.func.grad(loss, 2)(x, w, b)
    by_input = torch.func.grad(loss)(x, moved, shifted)
    return loss(x, moved, shifted) + by_input.square().sum()


def gradients(conv, x, w, b, dims, geometry):
    leaves = [v.clone().requires_grad_() for v in (x, w, b) if v is not None]
    given = [*leaves, None][:3]
    batched = torch.vmap(lambda x, w, b: adapted_loss(x, w, b, conv, geometry), in_dims=dims)(*given)
    return [batched, *torch.autograd.grad(batched.sum(), leaves)]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("x_own", "w_own"), [(True, True), (True, False), (False, True)])
def test_equal_to_torchs_grouped_rule(groups, bias, x_own, w_own):
    torch.manual_seed(0)
    geometry = Geometry((2, 1), (1, 0), (1, 2), groups)
    x = torch.randn(*(3,) * x_own, 2, 4, 6, 7, dtype=DOUBLE)
    w = torch.randn(*(3,) * w_own, 6, 4 // groups, 3, 3, dtype=DOUBLE)
    b = torch.randn(*(3,) * w_own, 6, dtype=DOUBLE) if bias else None
    dims = (0 if x_own else None, 0 if w_own else None, 0 if bias and w_own else None)
    for mine, theirs in zip(
        gradients(ours, x, w, b, dims, geometry), gradients(torchs, x, w, b, dims, geometry), strict=True
    ):
        assert theirs.abs().max() > 0.01
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


def nested(conv, geometry, x, w):
    """Tasks by the outer vmap; by the inner one, pictures with shared weights, or weights with shared pictures."""

    def of_pictures(x, w):
        return torch.func.grad(lambda w: torch.vmap(lambda one: conv(one, w, None, geometry).tanh().sum())(x).sum())(w)

    def of_weights(x, w):
        return torch.vmap(lambda one: conv(x[0], one, None, geometry))(torch.stack([w, 2 * w]))

    return torch.vmap(of_pictures)(x, w), torch.vmap(of_weights)(x, w)


def test_vmap_in_vmap():
    torch.manual_seed(0)
    geometry = Geometry((1, 1), (1, 1), (1, 1), 1)
    x, w = torch.randn(3, 2, 2, 4, 5, 5, dtype=DOUBLE), torch.randn(3, 6, 4, 3, 3, dtype=DOUBLE)
    for mine, theirs in zip(nested(ours, geometry, x, w), nested(torchs, geometry, x, w), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_gradients_by_finite_differences():
    torch.manual_seed(0)
    geometry = Geometry((2, 2), (1, 1), (1, 1), 1)
    x = torch.randn(2, 2, 5, 5, dtype=DOUBLE, requires_grad=True)
    w, b = torch.randn(3, 2, 3, 3, dtype=DOUBLE, requires_grad=True), torch.randn(3, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *v: ours(*v, geometry), (x, w, b))
    assert torch.autograd.gradgradcheck(lambda *v: ours(*v, geometry).tanh(), (x, w, b))


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1, "bias": False}, {"groups": 2, "dilation": (1, 2)}])
def test_the_layer_is_torchs_with_and_without_vmap(options):
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(4, 6, 3, **options)).to(DOUBLE)
    mine = convert(layer)[0]
    assert isinstance(mine[0], Conv2d) and not isinstance(layer[0], Conv2d), "the given module stays as it is"
    x = torch.randn(5, 4, 8, 9, dtype=DOUBLE)
    torch.testing.assert_close(mine(x), layer(x))
    params = dict(layer.named_parameters())
    many = {name: torch.stack([p, 2 * p]) for name, p in params.items()}
    for per_task in (False, True):
        with per_task_convolutions(per_task):
            found = torch.vmap(lambda p: torch.func.functional_call(mine, p, (x,)))(many)
        expected = [torch.func.functional_call(layer, {n: p[i] for n, p in many.items()}, (x,)) for i in range(2)]
        torch.testing.assert_close(found, torch.stack(expected))


def test_per_task_is_asked_for_and_ends_with_its_block(monkeypatch):
    calls = []
    monkeypatch.setattr(_Convolve, "apply", lambda *a: calls.append(1) or F.conv2d(a[0], a[1], a[2], *a[3]))
    layer = convert(nn.Sequential(nn.Conv2d(1, 2, 3)))[0]
    x = torch.randn(3, 1, 1, 5, 5)
    torch.vmap(layer)(x)
    assert not calls
    with per_task_convolutions(True):
        torch.vmap(layer)(x)
        with per_task_convolutions(False):
            torch.vmap(layer)(x)
    torch.vmap(layer)(x)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(1, 2, 3, padding_mode="reflect", padding=1), nn.Conv2d(1, 2, 3, padding="same")]
)
def test_what_it_does_not_compute_stays_torchs(layer):
    assert type(convert(nn.Sequential(layer))[0][0]) is nn.Conv2d
