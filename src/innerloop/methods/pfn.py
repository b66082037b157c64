"""Prior-fitted networks: a transformer trained on tasks drawn from a prior does Bayesian inference in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.functional import Parts, PureModel
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import features_of
from innerloop.learners import PriorFittedLearner
from innerloop.learners.bar_distribution import checked_borders, normal_borders
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.cnp import checked_outputs
from innerloop.methods.pairing import LossArgument, method
from innerloop.models.cross_attention import AttentionBlock


class _Head(nn.Module):
    """A norm and a linear layer."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, h: Tensor) -> Tensor:
        return self.out(self.norm(h))


@method(
    model={"name": "mlp", "hidden": (), "outputs": None},
    brings_networks=True,
    declares={
        "inner_loop": False,
        "adds_parameters": True,
        "nuisance": 0.3,  # as for mann; with 2.0 one initial seed of four stayed at chance, with 0.3 none
        "training": {"steps": 250, "outer_lr": 0.005},
        "options": {"width": 32, "depth": 1},
        "memory": "one pass",
        "derivatives": "1",
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
        input_shape: of one example, where it cannot be read off the model.
        width, depth, heads: of the transformer; ``width`` is a multiple of ``heads``. The paper's has 512, 6 and 4.
        expansion: the two-layer nets inside are this many times as wide as ``width``.
        buckets: bars of the histogram, where ``borders`` are not given; the paper's has 1,000 and more.
        borders: buckets + 1 ascending numbers in units of y (`learners.bar_distribution.fitted_borders` finds them from targets
            of the prior, as the command line does); None: equal shares of a standard normal.
        loss: ``loss(prediction, y) -> scalar`` on means (or logits), or a name; None: minus the log density of floating targets
            (also where the problem says "mse"), cross-entropy for labels.
        batch_norm: policy of the model's BatchNorm layers; "running": in meta-training the statistics of the task's support
            and query examples together, in evaluation their running mean.
        inductive: with ``batch_norm="batch"``: predict queries one at a time beside the support set.

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
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ConfigError(f"{what} expected an integer of at least {low}, got {value!r}")
    places = checked_borders(normal_borders(buckets) if borders is None else borders)
    networks: dict[str, nn.Module] = {
        "inputs": nn.Linear(features, width),
        "targets": nn.Linear(outputs, width),
        "blocks": nn.ModuleList(AttentionBlock(width, heads, expansion * width) for _ in range(depth)),
        "bars": _Head(width, outputs * (len(places) - 1)),
        "classes": _Head(width, outputs),
    }

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = PriorFittedLearner(pure, outputs, loss, width=width, depth=depth, borders=places)
        return learner, Backprop(learner, engine)

    return MetaLearner(
        "pfn",
        {},
        Parts(model, **networks),
        pair,
        outer=Outer(num_tasks=16, lr=1e-3, schedule="cosine"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
