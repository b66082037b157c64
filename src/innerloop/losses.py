"""Objectives and metrics of one task, with masks, and the checks that keep (N,) from meeting (N, 1).

An objective maps (prediction, y) to a scalar: the mean over the examples that count. A loss given as a plain function
``loss(prediction, y) -> scalar`` is used as it is; on masked (padded) tasks it is applied to one example at a time, so it
has to be a mean over examples.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import ConfigError, ShapeError, nearest

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of logits (examples, ways) against integer labels (examples,)."""
    return F.cross_entropy(prediction, y)


def binary_cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of logits against labels 0/1 of the same shape, (examples,) or (examples, outputs)."""
    return F.binary_cross_entropy_with_logits(prediction, y.to(prediction.dtype))


def mse(prediction: Tensor, y: Tensor) -> Tensor:
    """Mean squared error, (examples, outputs) both."""
    return F.mse_loss(prediction, y)


OBJECTIVES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "mse": mse,
}
# Losses that compare element by element: with these, unequal shapes would broadcast to a wrong number, silently.
_ELEMENTWISE = {
    binary_cross_entropy,
    mse,
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.binary_cross_entropy_with_logits,
}


# Modules with their default settings mean the same as these functions, which files can name and checks know.
_MODULES: dict[type, Loss] = {
    nn.CrossEntropyLoss: F.cross_entropy,
    nn.MSELoss: F.mse_loss,
    nn.L1Loss: F.l1_loss,
    nn.SmoothL1Loss: F.smooth_l1_loss,
    nn.HuberLoss: F.huber_loss,
    nn.BCEWithLogitsLoss: F.binary_cross_entropy_with_logits,
}


def as_function(loss: Loss) -> Loss:
    """The function of a torch loss module that has default settings; anything else as it is."""
    function = _MODULES.get(type(loss))
    if function is None or not isinstance(loss, nn.Module):
        return loss
    plain = type(loss)()
    same = all(getattr(loss, name) == value for name, value in vars(plain).items() if not name.startswith("_"))
    return function if same and not list(loss.buffers()) else loss


def resolve(loss: str | Loss | None, y: Tensor) -> Loss:
    """The function that a name, a function or nothing stands for: nothing is cross-entropy for integers, else MSE."""
    if loss is None:
        return mse if y.is_floating_point() else cross_entropy
    if isinstance(loss, str):
        if loss not in OBJECTIVES:
            raise ConfigError(f"unknown loss {loss!r}: {nearest(loss, OBJECTIVES)}")
        return OBJECTIVES[loss]
    return loss


def is_binary(loss: str | Loss | None) -> bool:
    """Whether a loss compares one logit an example with labels 0/1."""
    return loss in ("binary_cross_entropy", binary_cross_entropy, F.binary_cross_entropy_with_logits)


def check_shapes(loss: Loss, prediction: Tensor, y: Tensor) -> None:
    """Raise ShapeError when ``loss`` cannot compare these, or would only by broadcasting. Shapes are of ONE task."""
    p, t = tuple(prediction.shape), tuple(y.shape)
    elementwise = loss in _ELEMENTWISE or _MODULES.get(type(loss)) in _ELEMENTWISE
    advice = f"expected equal shapes, got prediction {p} and targets {t}; "
    if p[:1] != t[:1]:
        raise ShapeError(f"{advice}the model must return one row for each of the {t[0]} examples")
    if p == (*t, 1):
        raise ShapeError(f"{advice}give the targets a last axis (y[:, None]) or drop the model's (squeeze(-1))")
    if t == (*p, 1):
        raise ShapeError(f"{advice}drop the targets' last axis (y[:, 0]) or give the model one")
    if elementwise and p != t:
        raise ShapeError(f"{advice}make the model's output as wide as the targets")
    if loss in (cross_entropy, F.cross_entropy) and not y.is_floating_point() and (len(p) != 2 or len(t) != 1):
        raise ShapeError(f"cross-entropy expected logits (examples, ways) and labels (examples,), got {p} and {t}")


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the leading axis of the rows that count; 0 where none does."""
    if mask is None:
        return values.mean(0)
    weight = mask.to(values.dtype).reshape(mask.shape + (1,) * (values.ndim - 1))
    return (values * weight).sum(0) / weight.sum(0).clamp(min=1.0)


def objective(loss: Loss, prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """The loss of one task, over the examples that count."""
    if mask is None:
        return loss(prediction, y)
    each = torch.vmap(lambda p, t: loss(p[None], t[None]))(prediction, y)
    return masked_mean(each, mask)


def accuracy(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Fraction of examples whose largest output is their label; for one logit an example, its sign."""
    one_logit = prediction.shape == y.shape
    right = (prediction > 0) == (y > 0.5) if one_logit else prediction.argmax(-1) == y
    return masked_mean(right.to(prediction.dtype).reshape(right.shape[0], -1).mean(-1), mask)


def mean_squared_error(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared error, averaged over the examples that count and over outputs."""
    return masked_mean((prediction - y).square().reshape(y.shape[0], -1).mean(-1), mask)


METRICS: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "accuracy": accuracy,
    "mse": mean_squared_error,
}
# Metrics of the predicted distribution, not of the outputs: the learner judges its queries itself (`BaseLearner.log_density`).
DISTRIBUTION_METRICS = ("log_likelihood",)
HIGHER_IS_BETTER = {"accuracy": True, "mse": False, "log_likelihood": True}


def judges_labels(loss: str | Loss, prediction: Tensor, y: Tensor) -> bool:
    """Whether accuracy is worth reporting beside ``loss``: integer labels of a wider prediction, or a binary loss."""
    return is_binary(loss) or (not y.is_floating_point() and prediction.ndim == y.ndim + 1)
