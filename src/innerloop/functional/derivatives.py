"""The inner gradient: through torch.func inside its transforms, by plain autograd outside of them.

Both give the same numbers. torch.func is what vmap needs; its bookkeeping makes a step of a small network two to three times
slower than autograd, so a task that runs by itself does without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack

from innerloop.functional.postponed_dynamo import postpone_dynamo

postpone_dynamo()


def transformed() -> bool:
    """Whether the code is running inside a transform of torch.func (vmap, grad, jvp, ...)."""
    return peek_interpreter_stack() is not None


_traced = [False]


@contextmanager
def tracing() -> Iterator[None]:
    """What runs inside is recorded for a compiler, which has kernels of its own."""
    _traced.append(True)
    try:
        yield
    finally:
        _traced.pop()


def being_traced() -> bool:
    return _traced[-1]


def inner_gradient(
    function: Callable[[dict[str, Tensor]], tuple[Tensor, Any]], params: Mapping[str, Tensor], first_order: bool
) -> tuple[dict[str, Tensor], Any]:
    """(gradient of ``function(params)[0]`` by params, ``function(params)[1]``); zeros where nothing arrives.

    Args:
        function: a pure function of the parameters: ``(scalar loss, anything)``.
        params: where the gradient is taken.
        first_order: the outer gradient stops here, so no graph of the gradient is kept.
    """
    if transformed():
        grads, aux = torch.func.grad(function, has_aux=True)(dict(params))
        return ({name: g.detach() for name, g in grads.items()} if first_order else grads), aux
    create = torch.is_grad_enabled() and not first_order
    with torch.enable_grad():
        # A view of its own for each parameter: the function may see the same tensor by another way (as meta), and that way
        # does not belong to this gradient.
        here = {
            name: p.view_as(p) if create and p.requires_grad else p.detach().requires_grad_()
            for name, p in params.items()
        }
        loss, aux = function(here)
        if not loss.requires_grad:
            return {name: torch.zeros_like(p) for name, p in params.items()}, aux
        found = torch.autograd.grad(
            loss, list(here.values()), create_graph=create, allow_unused=True, materialize_grads=True
        )
    return dict(zip(here, found, strict=True)), aux


Products = Callable[[dict[str, Tensor]], tuple[dict[str, Tensor], dict[str, Tensor]]]


def gradient_products(
    function: Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor],
    params: Mapping[str, Tensor],
    others: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], Products]:
    """The gradient of ``function(params, others)`` by params, and a function that multiplies its derivatives by a vector.

    ``products(v)`` is (H v, C'v): H the second derivatives by params, C' those by others and params. By reverse mode twice,
    over a graph that is built once: fewer operations have a batching rule for forward mode.

    Args:
        function: pure, to a scalar.
        params, others: where the derivatives are taken.
    """
    if transformed():

        def slope(here: dict[str, Tensor], there: dict[str, Tensor]) -> dict[str, Tensor]:
            return torch.func.grad(lambda p: function(p, there))(here)

        grads, pullback = torch.func.vjp(slope, dict(params), dict(others))[:2]
        return grads, pullback
    with torch.enable_grad():
        here, there = ({n: p.detach().requires_grad_() for n, p in part.items()} for part in (params, others))
        loss = function(here, there)
        found = [torch.zeros_like(p) for p in here.values()]
        if loss.requires_grad:
            found = torch.autograd.grad(
                loss, list(here.values()), create_graph=True, allow_unused=True, materialize_grads=True
            )
    slopes = dict(zip(here, found, strict=True))
    leaves = [*here.values(), *there.values()]

    def products(v: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        curved = [(g, v[name]) for name, g in slopes.items() if g.requires_grad]
        result: Any = [torch.zeros_like(p) for p in leaves]
        if curved:
            outputs, weights = zip(*curved, strict=True)
            result = torch.autograd.grad(
                outputs, leaves, weights, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        return dict(zip(here, result, strict=False)), dict(zip(there, result[len(here) :], strict=True))

    return {name: g.detach() for name, g in slopes.items()}, products
