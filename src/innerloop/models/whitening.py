"""A start for a last layer, in closed form: what differs within a class is made small, what is left tells classes apart."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from innerloop.errors import ConfigError, InputError, ShapeError

M = TypeVar("M", bound=nn.Module)
_PIECE = 256  # pictures that go through the model together


def whiten(model: M, x: Shaped[Tensor, "examples ..."], y: Int64[Tensor, "*labels"], *, ridge: float = 0.3) -> M:
    """Set the model's last layer so that differences within classes are about equally large in all directions.

    With S the covariance of the last layer's inputs around their class means, within the span of the examples, outputs are
    ``P'(S + ridge s I)^(-1/2) (f(x) - mean f)``, s being the mean variance and P the principal directions of what comes out,
    those of most variance first. Nearest class means in these outputs are Fisher's linear discriminant with a ridge. It
    carries over to new classes as far as they differ within themselves in the same ways; meta-training may go on from it.

    Args:
        model: ends in an ``nn.Linear`` called ``head``, as all of `il.models` do; its weight and bias are overwritten.
        x: inputs of the model, all training examples.
        y: their classes, any integers.
        ridge: what is added to all variances, above 0, in units of their mean.

    Returns:
        The same model. Outputs beyond the rank of the examples are zero.

    Raises:
        ConfigError: no linear layer called ``head``, or a ridge that is not above 0.
        ShapeError: not one class an example.
        InputError: fewer than two classes, or no class that has two different examples.

    Example:
        >>> import torch
        >>> import innerloop as il
        >>> x, y = torch.randn(40, 2), torch.arange(4).repeat(10)
        >>> model = il.models.whiten(il.models.mlp(2, 2, hidden=()), x, y)

    Reference: Fisher 1936, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7; for faces Belhumeur,
        Hespanha and Kriegman 1997, "Eigenfaces vs. Fisherfaces", IEEE PAMI 19.
    """
    head = getattr(model, "head", None)
    if not isinstance(head, nn.Linear):
        raise ConfigError(
            f"whiten expected a model whose last layer, head, is linear, got {type(head).__name__}: build it with outputs"
        )
    if not 0 < ridge < math.inf:
        raise ConfigError(f"ridge expected a number above 0, got {ridge!r}: leave it out for the default")
    if y.shape != x.shape[:1]:
        raise ShapeError(
            f"y expected one class an example, ({len(x)},), got {tuple(y.shape)}: give both for the same examples"
        )
    classes, number = torch.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"whiten expected examples of at least two classes, got {len(classes)}: add other classes")
    features = _entering(model, head, x).double()
    mean = features.mean(0)
    _, sizes, span = torch.linalg.svd(features - mean, full_matrices=False)
    span = span[sizes > 1e-6 * sizes[0]]
    inside = (features - mean) @ span.T
    means = torch.stack([inside[number == c].mean(0) for c in range(len(classes))])
    apart = inside - means[number]
    if not float(apart.square().sum()) > 1e-12 * float(inside.square().sum()):
        raise InputError("whiten expected a class of at least two different examples, got none: add examples")
    variances, axes = torch.linalg.eigh(apart.T @ apart / len(apart))
    variances = variances.clamp(min=0)
    scale = axes / (variances + ridge * variances.mean()).sqrt()
    principal = torch.linalg.svd(inside @ scale, full_matrices=False)[2][: head.out_features]
    weight = features.new_zeros(head.weight.shape)
    weight[: len(principal)] = principal @ scale.T @ span
    with torch.no_grad():
        head.weight.copy_(weight)
        if head.bias is not None:
            head.bias.copy_(-weight @ mean)
    return model


def _entering(model: nn.Module, head: nn.Linear, x: Tensor) -> Float[Tensor, "examples features"]:
    """What enters the last layer, as in evaluation."""
    found: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, args: found.append(args[0].detach()))
    training = model.training
    try:
        with torch.no_grad():
            for piece in x.split(_PIECE):
                model.eval()(piece)
    finally:
        hook.remove()
        model.train(training)
    return torch.cat(found)
