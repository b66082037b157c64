"""Batch norm, ReLU and max-pooling as one function: against one after the other, to the third order and under vmap."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from innerloop.functional import context, convert, norm_relu_pool, norms, sequences
from innerloop.functional.convolutions import Conv2d, Geometry, _product
from innerloop.functional.norm_relu_pool import Pool, moments

DOUBLE = torch.float64
PLAIN, PADDED = Pool([2, 2], [2, 2], [0, 0], [1, 1], False), Pool([3, 3], [2, 2], [1, 1], [1, 1], True)


def joined(x, weight=None, bias=None, pool=PLAIN):
    return norm_relu_pool.norm_relu_pool(x, weight, bias, *moments(x), 1e-2, pool)


def apart(x, weight=None, bias=None, pool=PLAIN):
    centred = x - x.mean((0, 2, 3), keepdim=True)
    y = centred * torch.rsqrt(centred.square().mean((0, 2, 3), keepdim=True) + 1e-2)
    y = y if weight is None else y * weight + bias
    return F.max_pool2d(y.relu(), pool.kernel, pool.stride, pool.padding, pool.dilation, pool.ceil)


def operands(affine=True, scales=(1.0, -0.7, 0.5), channels_last=True):
    torch.manual_seed(0)
    x = 2 * torch.randn(4, 3, 5, 6, dtype=DOUBLE) + 1
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    weight = torch.tensor(scales, dtype=DOUBLE).view(1, 3, 1, 1)
    found = [x, weight, torch.randn(1, 3, 1, 1, dtype=DOUBLE)][: 3 if affine else 1]
    return [v.requires_grad_() for v in found]


@pytest.fixture(params=[2**18, 40])
def part(request, monkeypatch):
    monkeypatch.setattr(norm_relu_pool, "_PART", request.param)
    monkeypatch.setattr(norm_relu_pool, "_ADDED_UP", 3)


def close(mine, theirs):
    for a, b in zip(mine, theirs, strict=True):
        assert b.abs().max() > 1e-3
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("part")
@pytest.mark.parametrize("pool", [PLAIN, PADDED])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("scales", [(1.0, -0.7, 0.5), (1.0, 0.7, 0.5), None])
def test_values_and_derivatives_of_three_orders(pool, channels_last, scales):
    given = operands(scales is not None, scales or (1.0, 1.0, 1.0), channels_last)
    assert torch.autograd.gradcheck(lambda *v: joined(*v, pool=pool), given, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *v: joined(*v, pool=pool), given, fast_mode=True)

    def orders(function):
        y = function(*given, pool=pool)
        first = torch.autograd.grad(y.tanh().square().sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), given, create_graph=True)
        third = torch.autograd.grad(sum(g.square().sum() for g in second), given)
        return [y, *first, *second, *third]

    close(orders(joined), orders(apart))


def test_a_scale_of_zero_takes_the_value_that_torch_takes():
    given = operands(scales=(0.0, 1.0, 0.5))
    with torch.no_grad():
        given[2].abs_()
    mine, theirs = ([*torch.autograd.grad(f(*given).square().sum(), given)] for f in (joined, apart))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("weights", [0, None])
def test_the_meta_gradient_under_vmap_and_traced(weights):
    """One inner step and the loss after it, of several tasks; ``weights`` None: all tasks begin with the same."""
    x, weight, bias = operands()
    x = torch.stack([x.detach(), 1.5 * x.detach().flip(0), x.detach() ** 2])
    given = [weight, bias] if weights is None else [torch.stack([v.detach(), 1.3 * v.detach(), v.detach() - 0.1])
                                                   for v in (weight, bias)]  # fmt: skip
    given = [v.detach().requires_grad_() for v in (x, *given)]

    def of(function):
        def after_a_step(x, weight, bias):
            def loss(x, weight, bias):
                return function(x, weight, bias).tanh().square().sum()

            moved = torch.func.grad(loss, (0, 1, 2))(x, weight, bias)
            return loss(*(v - 0.1 * g for v, g in zip((x, weight, bias), moved, strict=True)))

        def total(*given):
            return torch.vmap(after_a_step, (0, weights, weights))(*given).sum()

        return total

    mine = torch.autograd.grad(of(joined)(*given), given)
    close(mine, torch.autograd.grad(of(apart)(*given), given))
    gradient = torch.func.grad(of(joined), (0, 1, 2))
    plain = [v.detach() for v in given]
    close(make_fx(gradient)(*plain)(*(1.1 * v for v in plain)), gradient(*(1.1 * v for v in plain)))


def test_moments_far_from_zero_keep_their_digits():
    torch.manual_seed(0)
    x = (torch.randn(300, 4, 20, 20) + 300).contiguous(memory_format=torch.channels_last)
    mean, variance = moments(x)
    exact = x.double()
    torch.testing.assert_close(mean.flatten().double(), exact.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance.flatten().double(), exact.var((0, 2, 3), unbiased=False), rtol=1e-4, atol=0)


# ---- in a module ---------------------------------------------------------------------------------------------------
def network(**options):
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, **options))
    return nn.Sequential(first, nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()).to(
        DOUBLE
    )


@pytest.fixture
def counted(monkeypatch):
    """How often the one function was taken, whatever the size."""
    calls = []
    plain = norm_relu_pool._NormReLUPool.apply
    monkeypatch.setattr(norms, "_LARGE", 0)
    monkeypatch.setattr(norm_relu_pool._NormReLUPool, "apply", lambda *a: calls.append(1) or plain(*a))
    return calls


def run(module, x, policy, **call):
    with context.running(context.Call(training=True, **call)) as here:
        y = module(x)
    module.zero_grad()
    y.square().sum().backward()
    return [y.detach(), *(p.grad.clone() for p in module.parameters()), *here.buffers.values()]


@pytest.mark.parametrize("policy", ["running"])
def test_a_users_sequential_gives_the_same(counted, policy, monkeypatch):
    model = convert(network(), policy)[0]
    assert type(model) is sequences.Sequential and type(model[0][0]) is Conv2d
    x = torch.randn(6, 1, 12, 12, dtype=DOUBLE)
    mine = run(model, x, policy)
    assert len(counted) == 2
    monkeypatch.setattr(norms, "_LARGE", 2**40)
    theirs = run(model, x, policy)
    assert len(counted) == 2, "small maps go the plain way"
    assert len(mine) == 9 + (0 if policy == "batch" else 4)
    torch.testing.assert_close(mine, theirs)


def test_hooks_masks_and_evaluation_go_the_plain_way(counted):
    model, x = convert(network(), "running")[0], torch.randn(6, 1, 12, 12, dtype=DOUBLE)
    with context.running(context.Call(training=False)):
        model(x)
    run(model, x, "running", mask=torch.tensor([True] * 5 + [False]))
    torch.vmap(model)(x[None])
    assert not counted
    seen = []
    model[0][2].register_forward_hook(lambda *a: seen.append(a[-1].shape))
    run(model, x, "running")
    assert seen == [(6, 4, 12, 12)] and len(counted) == 1
    model[2].forward = model[2].forward
    run(model, x, "running")
    assert len(counted) == 1


@pytest.mark.parametrize("bias", [True, False])
def test_a_first_layer_as_a_product(bias):
    torch.manual_seed(0)
    x, w = torch.randn(3, 2, 7, 9, dtype=DOUBLE), torch.randn(4, 2, 3, 2, dtype=DOUBLE, requires_grad=True)
    b = torch.randn(4, dtype=DOUBLE, requires_grad=True) if bias else None
    g, given = Geometry((2, 1), (1, 2), (1, 1), 1), [w, b][: 1 + bias]

    def orders(function):
        y = function(x, w, b)
        first = torch.autograd.grad(y.tanh().square().sum(), given, create_graph=True)
        return [y, *first, *torch.autograd.grad(sum(v.square().sum() for v in first), given)]

    close(orders(lambda *v: _product(*v, g)), orders(lambda *v: F.conv2d(*v, *g)))


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
@pytest.mark.parametrize("relu", [True, False])
def test_pooling_of_which_no_graph_is_kept(size, relu, monkeypatch):
    torch.manual_seed(0)
    layers = [[nn.ReLU(), nn.MaxPool2d(2)] if relu else [nn.MaxPool2d(2)] for _ in range(2)]
    plain = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), *layers[0], nn.Conv2d(3, 2, 1), *layers[1])
    fast = copy.deepcopy(plain)
    sequences.speed_up(fast)
    x = torch.randn(4, 2, *size)
    x[0, 0, 1, 2] = torch.nan
    kernels = []
    forward = nn.MaxPool2d.forward
    monkeypatch.setattr(nn.MaxPool2d, "forward", lambda *a: kernels.append(1) or forward(*a))
    with torch.no_grad():
        found = fast(x)
        assert not kernels
        torch.testing.assert_close(found, plain(x), rtol=0, atol=0, equal_nan=True)
        assert found.isnan().any()
        torch.testing.assert_close(torch.vmap(fast)(x[None])[0], found, equal_nan=True)
    kernels.clear()
    assert fast(x[1:]).requires_grad and kernels, (
        "with a graph, torch's kernel decides which of equal values is the largest"
    )
    kernels.clear()
    fast[-1].register_forward_hook(lambda *_: None)
    with torch.no_grad():
        fast(x)
    assert len(kernels) == 1, "a layer that is listened to is called"
