"""Objectives and metrics of one task, with masks, and the checks that keep (N,) from meeting (N, 1).

An objective maps (prediction, y) to a scalar: the mean over the examples that count. A loss given as a plain function
``loss(prediction, y) -> scalar`` is used as it is; on masked (padded) tasks it is applied to one example at a time, so it
has to be a mean over examples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.core import Apply, Examples, Objective
from innerloop.errors import ConfigError, ShapeError, nearest
from innerloop.objectives.metrics import DISTRIBUTION_METRICS as DISTRIBUTION_METRICS
from innerloop.objectives.metrics import HIGHER_IS_BETTER, METRICS, masked_mean
from innerloop.objectives.metrics import accuracy as accuracy

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of logits (examples, ways) against integer labels (examples,)."""
    return F.cross_entropy(prediction, y)


def binary_cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of logits against labels 0/1 of the same shape, (examples,) or (examples, labels).

    Of several labels an example, one that is NaN is missing: the mean is over those that are there.
    """
    if y.ndim < 2 or not y.is_floating_point():
        return F.binary_cross_entropy_with_logits(prediction, y.to(prediction.dtype))
    known = ~y.isnan()
    each = F.binary_cross_entropy_with_logits(
        prediction, torch.where(known, y, 0.0).to(prediction.dtype), reduction="none"
    )
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


def mse(prediction: Tensor, y: Tensor) -> Tensor:
    """Mean squared error, (examples, outputs) both."""
    return F.mse_loss(prediction, y)


def known_mse(prediction: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of the targets that are there, (examples, outputs) both; one that is NaN is missing."""
    known = ~y.isnan()
    each = F.mse_loss(prediction, torch.where(known, y, 0.0).to(prediction.dtype), reduction="none")
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


OBJECTIVES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "mse": mse,
    "known_mse": known_mse,
}
# Losses that compare element by element: with these, unequal shapes would broadcast to a wrong number, silently.
_ELEMENTWISE = {
    binary_cross_entropy,
    mse,
    known_mse,
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


def resolve(loss: Any, y: Tensor) -> Loss:
    """The function that a name, a function or nothing stands for: nothing is cross-entropy for integers, else MSE."""
    loss = short_form(loss)
    if loss is None:
        return mse if y.is_floating_point() else cross_entropy
    if isinstance(loss, str):
        if loss not in OBJECTIVES:
            raise ConfigError(f"unknown loss {loss!r}: {nearest(loss, OBJECTIVES)}")
        return OBJECTIVES[loss]
    return loss


def is_binary(loss: Any) -> bool:
    """Whether a loss compares one logit an example with labels 0/1."""
    return short_form(loss) in ("binary_cross_entropy", binary_cross_entropy, F.binary_cross_entropy_with_logits)


def takes_missing(loss: Any, y: Tensor) -> bool:
    """Whether NaN among these targets of ONE task are missing labels, which the loss leaves out."""
    return y.ndim > 1 and y.is_floating_point() and resolve(loss, y) in (binary_cross_entropy, known_mse)


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


def objective(given: Any, prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """The loss of one task, over the examples that count; ``given`` is anything that `resolve` takes."""
    loss = resolve(given, y)
    if mask is None:
        return loss(prediction, y)
    if takes_missing(loss, y):
        return loss(prediction, torch.where(mask.reshape(-1, *[1] * (y.ndim - 1)), y, torch.nan))
    each = torch.vmap(lambda p, t: loss(p[None], t[None]))(prediction, y)
    return masked_mean(each, mask)


@dataclasses.dataclass(frozen=True)
class Supervised(Objective):
    """Labelled examples `Examples`: a loss of predictions and targets, over the examples that count.

    Args:
        given: the loss: a name of `OBJECTIVES`, ``loss(prediction, y) -> scalar``, or None: cross-entropy for integer and mean
            squared error for floating targets.
    """

    given: str | Loss | None = None

    draws: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return self.given if isinstance(self.given, str) else getattr(self.given, "__name__", "") or "supervised"

    @property
    def metrics(self) -> Mapping[str, bool]:  # type: ignore[override]
        """Those of its loss, each with whether higher is better."""
        kinds = ("values",) if predicts_values(self) else ("labels", "scores")
        return {name: metric.higher_is_better for name, metric in METRICS.items() if metric.kind in kinds}

    def loss(self, apply: Apply, data: Examples, key: Tensor | None = None) -> Tensor:
        return self.judge(apply(data.x, mask=data.mask), data)

    def judge(self, prediction: Tensor, data: Examples) -> Tensor:
        """The loss of predictions that were made."""
        return objective(self.given, prediction, data.y, data.mask)

    def measure(self, apply: Apply, data: Examples, key: Tensor | None = None) -> dict[str, Tensor]:
        prediction = apply(data.x, mask=data.mask)
        labels = judges_labels(resolve(self.given, data.y), prediction, data.y)
        kinds = ("labels", "scores") if labels else ("values",) if data.y.shape == prediction.shape else ()
        return {n: m.function(prediction, data.y, data.mask) for n, m in METRICS.items() if m.kind in kinds}

    def data(self, side: Any, shared: Any) -> Any:
        """The examples; where a side is row numbers into shared `Examples`, those rows."""
        if shared is None or isinstance(side, Examples):
            return side
        return Examples(shared.x[side], shared.y[side], None if shared.mask is None else shared.mask[side])

    def examples(self, data: Any) -> int:
        return data.y.shape[0] if isinstance(data, Examples) else super().examples(data)


def as_objective(given: str | Loss | Objective | None) -> Objective:
    """An objective as it is; a loss as the supervised objective that it is the short form of."""
    return given if isinstance(given, Objective) else Supervised(given)


def short_form(given: Any) -> str | Loss | None:
    """What `resolve` takes for a supervised objective: the loss behind it."""
    return given.given if isinstance(given, Supervised) else given


def is_own(given: Any) -> bool:
    """Whether an objective is somebody's own: no loss that a name stands for, and none of torch's that compare values."""
    loss = short_form(given)
    return not (loss is None or isinstance(loss, str) or loss in {*OBJECTIVES.values(), *_ELEMENTWISE, F.cross_entropy})


def name_of(given: Any) -> str | None:
    """What a file calls an objective; None for one that has no name, which then goes by the targets' dtype."""
    return given.name if isinstance(given, Objective) else given if isinstance(given, str) else None


def is_labelled(given: Any) -> bool:
    """Whether a task of this objective holds `Examples`, which any learner can take."""
    return not isinstance(given, Objective) or isinstance(given, Supervised)


def predicts_values(given: Any) -> bool:
    """Whether an objective is of a regression problem: its targets are values, not labels."""
    return short_form(given) in (
        *("mse", mse, "known_mse", known_mse),
        *(F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss),
    )


def kind_of(given: Any) -> str:
    """What kind of problem an objective is of: "regression" where `predicts_values`, else "classification"."""
    return "regression" if predicts_values(given) else "classification"


def metrics_of(objective: Any, metrics: Sequence[str] | Mapping[str, bool] | None) -> dict[str, bool]:
    """The metrics of a problem and whether higher is better, the one that is reported first.

    Args:
        objective: the problem's.
        metrics: names that the problem asks for; None or empty: all of its objective.

    Raises:
        ConfigError: a name that nothing measures.
    """
    known = {**HIGHER_IS_BETTER, **as_objective(objective).metrics}
    if isinstance(metrics, Mapping):
        known |= metrics
    if not metrics:
        metrics = as_objective(objective).metrics
    for name in metrics:
        if name not in known:
            raise ConfigError(f"unknown metric {name!r}: {nearest(name, known)}")
    return {name: known[name] for name in metrics}


def judges_labels(loss: str | Loss, prediction: Tensor, y: Tensor) -> bool:
    """Whether accuracy is worth reporting beside ``loss``: integer labels of a wider prediction, or a binary loss."""
    return is_binary(loss) or (not y.is_floating_point() and prediction.ndim == y.ndim + 1)
