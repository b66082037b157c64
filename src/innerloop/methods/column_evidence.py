"""Column evidence: plain classifiers for tables of any columns and classes, and learned trust in columns and voices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.functional import Parts, PureModel
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners import ColumnEvidenceLearner
from innerloop.learners.column_evidence import VOICES
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, expect_label_loss, expect_whole, method
from innerloop.models.cross_attention import layers


def _even(inputs: int, hidden: int, outputs: int, bias: float, some: int) -> nn.Module:
    """A two-layer net that begins by saying the same of everything: ``bias`` for the first ``some`` outputs, 0 for the rest."""
    net = layers(inputs, hidden, outputs, 2)
    last = net[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        last.bias[:some] = bias
    return net


@method(
    model={"name": "mlp", "hidden": (), "outputs": None},
    brings_networks=True,
    declares={
        "inner_loop": False,
        "regression": False,
        "any_ways": True,
        "equivariant": True,
        "shift_free": True,
        "least_scale": 1e-2,  # 1.1e-15 was seen where a slope is zero
        "adds_parameters": True,
        "asks_shape": False,
        "training": {"steps": 40, "outer_lr": 0.01},
        "options": {"trees": 4, "depth": 2},
        "memory": "grows with pairs of rows",
        "derivatives": "1",
    },
)
def column_evidence(
    model: nn.Module,
    *,
    widths: Sequence[float] = (0.05, 0.3, 1.0),
    hidden: int = 16,
    trees: int = 128,
    depth: int = 5,
    candidates: int = 6,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Column evidence: four plain classifiers' voices for each class, with learned trust in the task's columns and in the voices.

    The voices are naive Bayes with kernel densities of every column, ridge regression of the classes on the columns, ridge
    regression with a kernel of whole rows, and extremely randomized trees, all made anew from the task's support set. They see
    each number as its soft rank among the support rows, with a learned softness. Small networks, the
    same for all columns, say from what leaving each support row out shows (how well a column alone tells the classes, its
    share of explained variance, how many values it has) how far to trust a column, and from how far each voice is off how
    far to trust that. Rows are scaled by the support set. Looking at it is one step. A task may have any number of classes and
    columns; padding columns of zeros have no influence.

    Args:
        model: any nn.Module; each of its outputs is a column. ``il.models.mlp(columns, None, hidden=())`` hands the table's own
            on. Copied, not changed.
        widths: of the kernels at the beginning, in deviations of a column; learned.
        hidden: width of the two networks.
        trees: how many.
        depth: cuts on the way to a tree's leaf, at most 12.
        candidates: random cuts that a node chooses the purest of.
        loss: ``loss(logits, y) -> scalar`` or a name; None: cross-entropy.
        batch_norm: policy of the model's BatchNorm layers; "running": in meta-training the statistics of the task's support
            and query examples together, in evaluation their running mean, so it is not transductive.
        inductive: with ``batch_norm="batch"``: predict queries one at a time beside the support set.

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: no widths or one that is not above 0, another number below 1, or a loss that is not for labels.

    Example:
        >>> import innerloop as il
        >>> il.column_evidence(il.models.mlp(16, None, hidden=())).eval_steps
        1

    This project's own. Its parts: naive Bayes with kernel densities (John and Langley 1995), ridge regression as in `r2d2`
    (Bertinetto et al. 2019), extremely randomized trees (Geurts, Ernst and Wehenkel 2006), and weights from left-out examples
    (Wolpert 1992, "Stacked generalization").
    """
    expect_label_loss(loss)
    for name, value in (("hidden", hidden), ("trees", trees), ("depth", depth), ("candidates", candidates)):
        expect_whole(name, value)
    if depth > 12:
        raise ConfigError(f"depth expected at most 12, since a tree is kept whole, got {depth}; lower it")
    found = tuple(float(width) for width in widths)
    if not found or not all(math.isfinite(width) and width > 0 for width in found):
        raise ConfigError(f"widths expected at least one number, all above 0, got {list(widths)}; leave it out")

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = ColumnEvidenceLearner(pure, loss, widths=found, trees=trees, depth=depth, candidates=candidates)
        return learner, Backprop(learner, engine)

    return MetaLearner(
        "column_evidence",
        {},
        Parts(
            model,
            columns=_even(len(found) + 4, hidden, len(found) + 2, -2.0, len(found)),
            gates=_even(VOICES + 3, hidden, VOICES, 0.0, 0),
        ),
        pair,
        outer=Outer(num_tasks=8, lr=1e-2, schedule="cosine"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
