"""PFN, prior-fitted networks: a transformer trained on tasks drawn from a prior does Bayesian inference in one pass.

The histogram that it answers with, the learner, which reads the support set as its context, and the factory; its blocks are
`models.cross_attention`. Mueller et al. 2022, "Transformers can do Bayesian inference", arXiv:2112.10510.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core import Meta, Task
from innerloop.errors import ConfigError, InputError, expect_whole
from innerloop.functional import Parts
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import features_of
from innerloop.learners.embedding import coded
from innerloop.learners.predictive import PredictiveLearner, counts_of
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, checked_outputs, method
from innerloop.models.cross_attention import AttentionBlock
from innerloop.records import record, static

# A half-normal whose median is at distance 1 has this scale: half of a tail's mass lies within its bar.
_HALF_NORMAL_SCALE = 1 / 0.6744897501960817


class _Head(nn.Module):
    """A norm and a linear layer."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, h: Tensor) -> Tensor:
        return self.out(self.norm(h))


def normal_borders(buckets: int) -> list[float]:
    """Borders that give each bar the same mass under a standard normal, the outermost those of a half of such a mass."""
    inner = torch.arange(1, buckets, dtype=torch.float64) / buckets
    return _with_ends(torch.special.ndtri(inner), float(-torch.special.ndtri(torch.tensor(0.25 / buckets).double())))


def fitted_borders(y: Float[Tensor, " values"], buckets: int) -> list[float]:
    """Borders that give each bar the same share of values drawn from the prior.

    Raises:
        InputError: fewer different values than bars.
    """
    inner = torch.quantile(y.to(torch.float64), torch.arange(1, buckets, dtype=torch.float64) / buckets)
    if bool((inner.diff() <= 0).any()):
        raise InputError(f"borders of {buckets} bars expected so many different targets, got fewer; use fewer buckets")
    reach = float(y.abs().max())
    return _with_ends(inner, max(reach, float(inner.abs().max()) * 1.01 + 1e-6))


def _with_ends(inner: Tensor, end: float) -> list[float]:
    return [-end, *inner.tolist(), end]


def checked_borders(borders: Sequence[float]) -> tuple[float, ...]:
    """Borders as a tuple; ConfigError unless they are finite, ascending and at least four."""
    found = tuple(float(b) for b in borders)
    ascending = all(a < b for a, b in itertools.pairwise(found))
    if len(found) < 4 or not ascending or not all(math.isfinite(b) for b in found):
        raise ConfigError(
            f"borders expected at least 4 finite numbers that ascend, got {len(found)}; see fitted_borders"
        )
    return found


def bar_log_density(
    logits: Float[Tensor, "*any bars"], borders: Float[Tensor, " borders"], y: Float[Tensor, "*any"]
) -> Float[Tensor, "*any"]:
    """The log density of y: the bar's log probability minus the log of its width; half-normal in the two outermost bars."""
    widths = borders.diff()
    index = torch.searchsorted(borders[1:-1].contiguous(), y.detach().contiguous(), right=True)
    chances = torch.log_softmax(logits, -1)
    inside = -widths.log()
    at = (chances.gather(-1, index[..., None])).squeeze(-1)
    low = _half_normal_log_density(borders[1] - y, widths[0])
    high = _half_normal_log_density(y - borders[-2], widths[-1])
    density = torch.where(index == 0, low, torch.where(index == widths.shape[0] - 1, high, inside[index]))
    return at + density


def _half_normal_log_density(distance: Tensor, width: Tensor) -> Tensor:
    scale = width * _HALF_NORMAL_SCALE
    return 0.5 * math.log(2 / math.pi) - scale.log() - 0.5 * (distance / scale).square()


def bar_moments(
    logits: Float[Tensor, "*any bars"], borders: Float[Tensor, " borders"]
) -> tuple[Float[Tensor, "*any"], Float[Tensor, "*any"]]:
    """Mean and variance, exactly."""
    widths = borders.diff()
    scale = widths[[0, -1]] * _HALF_NORMAL_SCALE
    reach = scale * math.sqrt(2 / math.pi)
    means = torch.cat(
        [(borders[1] - reach[0])[None], (borders[1:-2] + borders[2:-1]) / 2, (borders[-2] + reach[1])[None]]
    )
    tails = scale.square() * (1 - 2 / math.pi)
    spreads = torch.cat([tails[:1], widths[1:-1].square() / 12, tails[1:]])
    chances = torch.softmax(logits, -1)
    mean = chances @ means
    apart = (means - mean[..., None]).square()
    return mean, (chances * (spreads + apart)).sum(-1)


class Answer(NamedTuple):
    """What the head says of the queries: logits of classes (queries, outputs), or of bars (queries, outputs, bars)."""

    logits: Tensor
    borders: Float[Tensor, " borders"]


@record
class ContextFast:
    """What a prior-fitted network knows of a task.

    Attributes:
        states: (layers, support, width) the support examples as each layer reads them; zeros before the first step.
        counts: (support,) 1 for an example that was seen, 0 for padding and before the first step.
        step: how many steps came before.
        labels: whether targets are labels.
    """

    states: Tensor
    counts: Tensor
    step: int = static(0)
    labels: bool = static(False)


@dataclasses.dataclass(frozen=True, eq=False)
class PriorFittedLearner(PredictiveLearner):
    """Support examples attend to each other, queries to the support examples alone, in every layer.

    Args:
        width: of the tokens.
        depth: layers.
        borders: of the histogram's bars, in units of y.
    """

    width: int = 64
    depth: int = 4
    borders: tuple[float, ...] = ()

    def init(self, meta: Meta, task: Task) -> ContextFast:
        like = next(p for p in meta.params.values() if p.is_floating_point())
        size = task.support.y.shape[0]
        blank = like.new_zeros(self.depth, size, self.width)
        return ContextFast(blank, like.new_zeros(size), 0, not task.support.y.is_floating_point())

    def look(self, meta: Meta, fast: ContextFast, z: Tensor, y: Tensor, counts: Tensor) -> ContextFast:
        h = self.net(meta, "inputs", z) + self.net(meta, "targets", y)
        states = [h]
        for i in range(self.depth - 1):
            h = self.net(meta, f"blocks.{i}", h, h, counts)
            states.append(h)
        return dataclasses.replace(fast, states=torch.stack(states), counts=counts, step=1)

    def distribution(self, meta: Meta, fast: ContextFast, z: Tensor) -> Answer:
        h = self.net(meta, "inputs", z)
        for i in range(self.depth):
            h = self.net(meta, f"blocks.{i}", h, fast.states[i], fast.counts)
        borders = h.new_tensor(self.borders)  # not a buffer: a compiler takes tensors from nowhere but its arguments
        if fast.labels:
            return Answer(self.net(meta, "classes", h), borders)
        return Answer(self.net(meta, "bars", h).reshape(h.shape[0], self.outputs, -1), borders)

    def outputs_of(self, found: Answer, labels: bool) -> Tensor:
        return found.logits if labels else bar_moments(*found)[0]

    def std_of(self, found: Answer) -> Tensor:
        return bar_moments(*found)[1].sqrt()

    def density_of(self, found: Answer, y: Tensor) -> Tensor:
        return bar_log_density(*found, y).sum(-1)

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        support, query = task.support, task.query
        z_support, z, buffers = self.embed_both(meta, support, query, task.noise)
        seen = coded(support.y, self.outputs, z), counts_of(support, z)
        fast = self.look(meta, self.init(meta, task), z_support, *seen)
        found = self.distribution(meta, fast, z)
        loss = self.score(found, task, query, counts_of(query, z))
        return loss, {"metrics": self.metrics(loss, found, task), "buffers": buffers}


@method(
    model={"name": "mlp", "hidden": (), "outputs": None},
    brings_networks=True,
    from_targets={"borders": lambda y, options: fitted_borders(y, options["buckets"])},
    declares={
        "inner_loop": False,
        "adds_parameters": True,
        "nuisance": 0.3,  # as for mann; with 2.0 one initial seed of four stayed at chance, with 0.3 none
        "training": {"steps": 250, "outer_lr": 0.005},
        "options": {"width": 32, "depth": 1},
    },
)
def pfn(
    model: nn.Module,
    *,
    outputs: int | None = None,
    input_shape: Sequence[int] | None = None,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    expansion: int = 2,
    buckets: int = 100,
    borders: Sequence[float] | None = None,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Prior-fitted networks: a transformer reads the support set and gives the posterior predictive distribution of a query.

    A support example is the token ``a(f(x)) + b(y)``, a query ``a(f(x))``; there are no positions, so the order of the
    examples does not matter. In each layer support examples attend to each other and queries to the support examples
    alone. Trained on tasks drawn from a prior by minus the log density of the queries, which is least for the prior's own
    posterior. Floating targets get a histogram with half-normal tails, labels get logits.

    Args:
        model: ``f``, any nn.Module; its output, flattened, is the embedding of x. ``il.models.mlp(1, None, hidden=())`` hands
            the inputs on as they are. Copied, not changed.
        outputs: numbers in a target, or classes; None: as many as the model's output has. Several numbers are independent.
        width, depth, heads: of the transformer; ``width`` is a multiple of ``heads``. The paper's has 512, 6 and 4.
        expansion: the two-layer nets inside are this many times as wide as ``width``.
        buckets: bars of the histogram, where ``borders`` are not given; the paper's has 1,000 and more.
        borders: buckets + 1 ascending numbers in units of y (`methods.pfn.fitted_borders` finds them from targets of the
            prior, as the command line does); None: equal shares of a standard normal.
        loss: ``loss(prediction, y) -> scalar`` on means (or logits), or a name; None: minus the log density of floating targets
            (also where the problem says "mse"), cross-entropy for labels.

    Returns:
        A MetaLearner; adapted, it has `Fitted.predict_std`.

    Raises:
        ConfigError: a size below 1, a width that the heads do not divide, borders that do not ascend, or an input shape that is
            not known.

    Example:
        >>> import innerloop as il
        >>> il.pfn(il.models.mlp(1, None, hidden=()), outputs=1).eval_steps
        1

    Reference: Mueller et al. 2022, "Transformers can do Bayesian inference", arXiv:2112.10510.
    """
    features = math.prod(features_of(model, input_shape))
    outputs = checked_outputs(outputs, features)
    for what, value, low in (("depth", depth, 1), ("expansion", expansion, 1), ("buckets", buckets, 3)):
        expect_whole(what, value, low)
    places = checked_borders(normal_borders(buckets) if borders is None else borders)
    networks: dict[str, nn.Module] = {
        "inputs": nn.Linear(features, width),
        "targets": nn.Linear(outputs, width),
        "blocks": nn.ModuleList(AttentionBlock(width, heads, expansion * width) for _ in range(depth)),
        "bars": _Head(width, outputs * (len(places) - 1)),
        "classes": _Head(width, outputs),
    }

    return backprop_method(
        "pfn",
        Parts(model, **networks),
        lambda pure: PriorFittedLearner(pure, outputs, loss, width=width, depth=depth, borders=places),
        outer=Outer(num_tasks=16, lr=1e-3, schedule="cosine"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
