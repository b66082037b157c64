"""Conjugate gradients for equations between named tensors: a fixed number of steps, nothing decided by values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Values = dict[str, Tensor]


def dot(a: Values, b: Values) -> Tensor:
    """The inner product over all names."""
    return torch.stack([(v * b[name]).sum() for name, v in a.items()]).sum()


def conjugate_gradient(product: Callable[[Values], Values], right: Values, steps: int) -> tuple[Values, Tensor]:
    """(x, |right - A x|^2) with ``A x = right`` solved approximately from x = 0.

    Where A has no positive curvature along the next direction, and where the equation is solved, x stays as it is.

    Args:
        product: ``v -> A v`` for a symmetric A.
        right: the right side.
        steps: how many steps; each asks for one product.
    """
    x = {name: torch.zeros_like(v) for name, v in right.items()}
    residual = direction = right
    size = dot(right, right)
    going = size > 0
    for _ in range(steps):
        turned = product(direction)
        curvature = dot(direction, turned)
        going = going & (curvature > 0)
        rate = torch.where(going, size / torch.where(going, curvature, 1.0), 0.0)
        x = {name: v + rate * direction[name] for name, v in x.items()}
        residual = {name: v - rate * turned[name] for name, v in residual.items()}
        left = dot(residual, residual)
        share = torch.where(going, left / torch.where(going, size, 1.0), 0.0)
        direction = {name: v + share * direction[name] for name, v in residual.items()}
        going, size = going & (left > 0), left
    return x, size
