"""The metrics of one task: pure functions ``(prediction, y, mask) -> scalar`` that run inside ``torch.vmap``.

Targets that are labels come in two forms. *Classes*: integers ``y`` (examples,) beside logits (examples, ways), whose label
is the largest logit. *One logit each*: ``y`` of the prediction's own shape, (examples,) or (examples, labels), 0 or 1, whose
label is 1 where the logit is above 0. Targets that are values have the prediction's shape. A NaN in ``y`` is a missing
entry and left out; an example whose ``mask`` (examples,) is False counts nowhere, whatever it holds.

Every metric is judged output by output (class by class for classes) and averaged over the outputs that can be judged: NaN
where there are none. A NaN in a prediction that counts makes every metric NaN that depends on its size or order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from innerloop.errors import ConfigError, ShapeError, nearest


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the leading axis of the rows that count; 0 where none does."""
    if mask is None:
        return values.mean(0)
    weight = mask.to(values.dtype).reshape(mask.shape + (1,) * (values.ndim - 1))
    return (values * weight).sum(0) / weight.sum(0).clamp(min=1.0)


def accuracy(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Fraction of examples whose largest output is their label; for one logit each, its sign.

    0 where the mask leaves no example at all, NaN where every entry is missing.
    """
    one_logit = prediction.shape == y.shape
    right = (prediction > 0) == (y > 0.5) if one_logit else prediction.argmax(-1) == y
    return _mean_of_entries(right.to(prediction.dtype), y, mask)


def f1(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """F1 of the predicted labels, 2 tp / (2 tp + fp + fn), as ``sklearn.metrics.f1_score(average="macro")``.

    Classes, two of them too: the mean over those that are in ``y`` or predicted. One logit each: the F1 of label 1, averaged
    over the labels with any entry; 0 where 1 is neither present nor predicted (``zero_division=0``).
    """
    positive, counts = _sides(prediction, y, mask)
    if prediction.shape == y.shape:
        predicted, judged = (prediction > 0).reshape(positive.shape), counts.any(0)
    else:
        ways = torch.arange(prediction.shape[-1], device=prediction.device)
        predicted = prediction.argmax(-1).reshape(-1, 1) == ways
        judged = ((predicted | positive) & counts).any(0)
    dtype = _wide(prediction.dtype)
    both = (predicted & positive & counts).sum(0).to(dtype)
    either = (predicted & counts).sum(0).to(dtype) + (positive & counts).sum(0).to(dtype)
    return _mean_of_judged(2 * both / either.clamp(min=1), judged)


def roc_auc(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Area under the ROC curve: the chance that a 1 is scored above a 0, ties counting half.

    The mean over the labels with both a 0 and a 1 among their entries. Classes: each against the rest, ranked by its softmax
    probability, the mean over the classes that are in ``y`` beside another: where all are, as
    ``sklearn.metrics.roc_auc_score(multi_class="ovr", average="macro")``.
    """
    found = _ranked(prediction, y, mask)
    below, upto = found.before_group(found.negative), found.through_group(found.negative)
    ones, zeros = found.positive.sum(-1), found.negative.sum(-1)
    won = (below + upto) / (2 * zeros.clamp(min=1)[:, None])
    area = (found.positive * won).sum(-1) / ones.clamp(min=1)
    return _mean_of_judged(area, (ones > 0) & (zeros > 0)) + found.broken


def average_precision(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average precision: the precision at the threshold of each 1, averaged, as ``sklearn.metrics.average_precision_score``.

    Equal scores share one threshold; nothing is interpolated. Labels and classes are averaged as in `roc_auc`; a label or
    class without a 0 is left out there too (scikit-learn gives it 1).
    """
    found = _ranked(prediction, y, mask)
    ones, zeros = found.positive.sum(-1), found.negative.sum(-1)
    right = found.from_group(found.positive)
    precision = right / (right + found.from_group(found.negative)).clamp(min=1)
    area = (found.positive * precision).sum(-1) / ones.clamp(min=1)
    return _mean_of_judged(area, (ones > 0) & (zeros > 0)) + found.broken


def delta_auprc(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average precision less the share of 1s, which scores without meaning reach: how much an order of the examples is worth.

    Of two classes, that of the second alone: of the active molecules of an assay, say (Stanley et al. 2021, FS-Mol). Else labels
    and classes are averaged as in `average_precision`.
    """
    found = _ranked(prediction, y, mask)
    ones, zeros = found.positive.sum(-1), found.negative.sum(-1)
    right = found.from_group(found.positive)
    precision = right / (right + found.from_group(found.negative)).clamp(min=1)
    lead = (found.positive * precision).sum(-1) / ones.clamp(min=1) - ones / (ones + zeros).clamp(min=1)
    judged = (ones > 0) & (zeros > 0)
    if prediction.shape != y.shape and prediction.shape[-1] == 2:
        lead, judged = lead[1:], judged[1:]
    return _mean_of_judged(lead, judged) + found.broken


def mse(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared error, averaged over the examples that count and over outputs.

    0 where the mask leaves no example at all, NaN where every entry is missing.
    """
    return _mean_of_entries(_differences(prediction, y, mask).square(), y, mask)


def mae(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Absolute error: the mean over each output's entries, then over outputs, as ``sklearn.metrics.mean_absolute_error``."""
    counts = _entries(y, mask).sum(0)
    return _mean_of_judged(_wide_differences(prediction, y, mask).abs().sum(0) / counts.clamp(min=1), counts > 0)


def rmse(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Root of the mean squared error of each output, then the mean over outputs (not the root of `mse` where they are many).

    So does ``sklearn.metrics.root_mean_squared_error``.
    """
    counts = _entries(y, mask).sum(0)
    means = _wide_differences(prediction, y, mask).square().sum(0) / counts.clamp(min=1)
    return _mean_of_judged(means.sqrt(), counts > 0)


def r2(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Coefficient of determination of each output, then the mean over outputs, as ``sklearn.metrics.r2_score``.

    An output whose target is constant has 1 where the prediction is perfect, else 0; one with fewer than two entries is
    left out.
    """
    entries = _entries(y, mask)
    counts = entries.sum(0)
    target = y.reshape(entries.shape)
    target = target.to(_wide(target.dtype))
    known = torch.where(entries, target, 0.0)
    around = torch.where(entries, target - known.sum(0) / counts.clamp(min=1), 0.0)
    residual, total = _wide_differences(prediction, y, mask).square().sum(0), around.square().sum(0)
    # The mean of equal numbers may differ from them in its last digit, so constancy is not asked of the sum alone.
    highest = torch.where(entries, target, -torch.inf).amax(0)
    lowest = torch.where(entries, target, torch.inf).amin(0)
    constant = (highest <= lowest) | (total == 0)
    flat = torch.where(residual == 0, 1.0, residual * 0.0)  # times 0: what is not finite stays so
    return _mean_of_judged(torch.where(constant, flat, 1 - residual / torch.where(constant, 1.0, total)), counts > 1)


_DEPTH = 10  # of a list that somebody looks at


def ndcg(prediction: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """nDCG@10: how good the ten examples are that the prediction puts first, of those at hand; the mean over outputs.

    ``sum over ranks r of (2^y - 1) / log2(r + 1)`` over the first ten, divided by what the best order would have. Targets are
    grades such as stars, in their own unit; at least 0. Equal predictions keep the order of the examples.
    """
    wide = _wide(prediction.dtype)
    entries = _entries(y, mask)
    found, target = prediction.to(wide).reshape(entries.shape), y.to(wide).reshape(entries.shape)
    gains = torch.where(entries, target.clamp(min=0.0).exp2() - 1, 0.0)
    depth = min(_DEPTH, len(entries))
    discounts = 1 / torch.arange(2, depth + 2, dtype=wide, device=y.device).log2()[:, None]
    order = torch.where(entries, found, -torch.inf).argsort(dim=0, descending=True, stable=True)[:depth]
    reached = (gains.gather(0, order) * discounts).sum(0)
    best = (gains.sort(0, descending=True).values[:depth] * discounts).sum(0)
    broken = torch.where((found.isnan() & entries).any(), torch.nan, 0.0)
    return _mean_of_judged(reached / best.clamp(min=1e-30), best > 0) + broken


class Metric(NamedTuple):
    """One metric and what has to be known of it.

    function: (prediction, y, mask) -> scalar, of one task.
    higher_is_better: its direction.
    kind: what it judges: "labels" (the predicted ones), "scores" (their order, against labels), "values", or "order" (that of
        values, which are grades).
    units: the power of the target's unit that it is in; 0 is a pure number.
    """

    function: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    higher_is_better: bool
    kind: Literal["labels", "values", "scores", "order"]
    units: int


METRICS: dict[str, Metric] = {
    "accuracy": Metric(accuracy, True, "labels", 0),
    "mse": Metric(mse, False, "values", 2),
    "mae": Metric(mae, False, "values", 1),
    "rmse": Metric(rmse, False, "values", 1),
    "r2": Metric(r2, True, "values", 0),
    "roc_auc": Metric(roc_auc, True, "scores", 0),
    "average_precision": Metric(average_precision, True, "scores", 0),
    "delta_auprc": Metric(delta_auprc, True, "scores", 0),
    "f1": Metric(f1, True, "labels", 0),
    "ndcg": Metric(ndcg, True, "order", 0),
}
# NaN on a task that they cannot judge: one label only, fewer than two values, or no grade above 0.
UNJUDGED = ("roc_auc", "average_precision", "delta_auprc", "r2", "ndcg")
# Which of two classes is the second says their global number, whatever a task calls them.
OF_THE_SECOND = ("delta_auprc",)
# Metrics of the predicted distribution, not of the outputs: the learner judges its queries itself (`BaseLearner.log_density`).
DISTRIBUTION_METRICS = ("log_likelihood",)
HIGHER_IS_BETTER = {name: metric.higher_is_better for name, metric in METRICS.items()} | {"log_likelihood": True}


_OF_VALUES = ("values", "order")  # kinds that judge values, not labels


def check(
    name: str,
    prediction_shape: Sequence[int],
    y_dtype: torch.dtype,
    y_shape: Sequence[int],
    *,
    labels: bool | None = None,
) -> None:
    """Raise where a metric cannot judge such targets. Shapes are of ONE task.

    Args:
        name: of `METRICS`; one of `DISTRIBUTION_METRICS` is known and not judged here.
        prediction_shape: of the model's output.
        y_dtype, y_shape: of the targets.
        labels: whether the targets are labels; None: integers and booleans are, floating ones are not. Floating labels 0/1,
            as a binary loss has them, cannot be told from values by their type.

    Raises:
        ConfigError: an unknown name; a metric of labels for values, or the other way round.
        ShapeError: shapes that the metric would not compare entry by entry.
    """
    if name in DISTRIBUTION_METRICS:
        return
    if name not in METRICS:
        raise ConfigError(f"unknown metric {name!r}: {nearest(name, HIGHER_IS_BETTER)}")
    floating = y_dtype.is_floating_point
    labels = not floating if labels is None else labels
    of_values = METRICS[name].kind in _OF_VALUES
    if of_values == labels:
        wanted, got = ("values", "labels") if of_values else ("labels", "values")
        known = ", ".join(n for n, metric in METRICS.items() if (metric.kind in _OF_VALUES) != of_values)
        kind = str(y_dtype).removeprefix("torch.")
        raise ConfigError(f"{name} expected targets that are {wanted}, got {got} ({kind}); use one of {known}")
    p, t = tuple(prediction_shape), tuple(y_shape)
    classes = not floating and not of_values and p[:-1] == t and p != (*t, 1)
    if p != t and not classes:
        fix = "make the model's output of the targets' shape"
        if not of_values:
            fix += ", or give integer labels (examples,) with logits (examples, ways)"
        raise ShapeError(f"{name} expected equal shapes, got prediction {p} and targets {t}; {fix}")


def _wide(dtype: torch.dtype) -> torch.dtype:
    """A type that counts examples exactly: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def _entries(y: Tensor, mask: Tensor | None) -> Tensor:
    """Which entries of the targets count, (examples, outputs): not missing, and of an example that is none of padding."""
    here = ~y.isnan() if y.is_floating_point() else torch.ones_like(y, dtype=torch.bool)
    here = here.reshape(y.shape[0], -1)
    return here if mask is None else here & mask[:, None]


def _differences(prediction: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
    """Prediction minus target, (examples, outputs); 0 where an entry does not count."""
    return torch.where(_entries(y, mask), (prediction - y).reshape(y.shape[0], -1), 0.0)


def _wide_differences(prediction: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
    """`_differences` in a type whose sums and squares lose nothing that matters: float32 at least."""
    return _differences(prediction.to(_wide(prediction.dtype)), y, mask)


def _mean_of_judged(values: Tensor, judged: Tensor) -> Tensor:
    """The mean of the outputs that can be judged; 0 / 0 = NaN where none can."""
    return torch.where(judged, values, 0.0).sum() / judged.sum()


def _mean_of_entries(each: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over examples of the mean over outputs; where entries are missing, of each output's entries and then over outputs.

    Without missing entries both are one number. The first is kept for them, since it is the one of results stored before.
    """
    each = each.reshape(y.shape[0], -1)
    whole = masked_mean(each.mean(-1), mask)
    if not y.is_floating_point():
        return whole
    entries = _entries(y, mask)
    counts = entries.sum(0)
    by_output = _mean_of_judged(torch.where(entries, each, 0.0).sum(0) / counts.clamp(min=1), counts > 0)
    expected = entries.shape[0] if mask is None else mask.sum()
    return torch.where((counts == expected).all(), whole, by_output.to(whole.dtype))


def _sides(prediction: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where the label (or each class) is 1, and where it counts; both (examples, labels or ways)."""
    entries = _entries(y, mask)
    if prediction.shape == y.shape:
        return (y > 0.5).reshape(entries.shape), entries
    ways = torch.arange(prediction.shape[-1], device=y.device)
    positive = y.reshape(-1, 1) == ways
    return positive, entries.reshape(-1, 1).expand_as(positive)


def _log_odds(logits: Tensor) -> Tensor:
    """Log-odds of each class against all others, (examples, ways): the order of softmax, where that would round to 0 or 1.

    For the largest logit the others are summed without it; for the rest, log p - log(1 - p) with p <= 1/2 loses nothing.
    """
    logits = logits - logits.amax(-1, keepdim=True)
    largest = logits.argmax(-1, keepdim=True) == torch.arange(logits.shape[-1], device=logits.device)
    others = torch.where(largest, -torch.inf, logits).logsumexp(-1, keepdim=True)
    log_p = torch.where(largest, -torch.inf, logits.log_softmax(-1))
    return torch.where(largest, logits - others, log_p - torch.log1p(-log_p.exp()))


class _Ranking(NamedTuple):
    """Scores of each label in ascending order; everything is (labels, examples), an entry that does not count weighs 0.

    positive, negative: 1 where the label is 1, or 0.
    starts, ends: where a group of equal scores begins and ends.
    broken: a scalar, NaN where a score that counts is NaN, else 0.
    """

    positive: Tensor
    negative: Tensor
    starts: Tensor
    ends: Tensor
    broken: Tensor

    def before_group(self, weights: Tensor) -> Tensor:
        """The weight of all scores below each score."""
        return torch.where(self.starts, weights.cumsum(-1) - weights, 0.0).cummax(-1).values

    def through_group(self, weights: Tensor) -> Tensor:
        """The weight of all scores up to each score, its equals among them."""
        sums = torch.where(self.ends, weights.cumsum(-1), torch.inf)
        return sums.flip(-1).cummin(-1).values.flip(-1)

    def from_group(self, weights: Tensor) -> Tensor:
        """The weight of all scores from each score on, its equals among them."""
        return weights.sum(-1, keepdim=True) - self.before_group(weights)


def _ranked(prediction: Tensor, y: Tensor, mask: Tensor | None) -> _Ranking:
    positive, counts = _sides(prediction, y, mask)
    dtype = _wide(prediction.dtype)
    one_logit = prediction.shape == y.shape
    scores = prediction.to(dtype).reshape(-1, positive.shape[-1])
    scores = scores if one_logit else _log_odds(scores)
    broken = torch.where((scores.isnan() & counts).any(), torch.nan, 0.0).to(dtype)
    scores, order = torch.where(counts, scores, 0.0).T.sort(-1)
    edge = torch.ones_like(scores[:, :1], dtype=torch.bool)
    changes = scores[:, 1:] != scores[:, :-1]
    return _Ranking(
        positive=(positive & counts).T.gather(-1, order).to(dtype),
        negative=(~positive & counts).T.gather(-1, order).to(dtype),
        starts=torch.cat([edge, changes], -1),
        ends=torch.cat([changes, edge], -1),
        broken=broken,
    )
