"""Relation networks: a learned network says how well a query goes with a class (Sung et al. 2018, arXiv:1711.06025)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError, ShapeError, expect_whole
from innerloop.functional import Parts, features_of
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners.comparing import ComparingFast, ComparingLearner
from innerloop.learners.metric import class_sums, members_of, only_shown, ways_of
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, expect_choice, expect_label_loss, method
from innerloop.objectives import losses
from innerloop.records import record, static


class Relation(nn.Module):
    """How well each query goes with each class: features of both side by side, through a small net, to one logit.

    Features are maps (channels, height, width), for two blocks of 3x3 convolution, batch norm, ReLU and, where there is room,
    2x2 max-pooling; or vectors, for one linear layer with ReLU. Two linear layers with a leaky ReLU between them follow.

    The first layer takes the two side by side, so it is a sum of one layer on the class and one on the query: these are computed
    once for each class and each query, not for each pair.

    Args:
        features: shape of one example's features.
        filters: channels of both blocks, or width of the linear layer.
        hidden: width between the last two layers.

    Raises:
        ConfigError: features of another rank.
    """

    of_class: nn.Conv2d | nn.Linear
    of_query: nn.Conv2d | nn.Linear

    def __init__(self, features: tuple[int, ...], filters: int, hidden: int) -> None:
        super().__init__()
        if len(features) not in (1, 3):
            raise ConfigError(
                "the model expected to return a vector (features,) or a map (channels, height, width) for each example, "
                f"got {len(features)} axes {features}; flatten it (nn.Flatten) or give it three axes"
            )
        maps = len(features) == 3
        if maps:
            self.of_class = nn.Conv2d(features[0], filters, 3, padding=1)
            self.of_query = nn.Conv2d(features[0], filters, 3, padding=1, bias=False)
        else:
            self.of_class, self.of_query = nn.Linear(features[0], filters), nn.Linear(features[0], filters, bias=False)
        with torch.no_grad():  # PyTorch's range for as many inputs as both together have
            for p in (*self.of_class.parameters(), *self.of_query.parameters()):
                p.mul_(math.sqrt(0.5))
        layers: list[nn.Module] = [nn.BatchNorm2d(filters)] if maps else []
        layers.append(nn.ReLU())
        width = filters
        if maps:
            size = features[1:]
            first, size = _pooling(size)
            second, size = _pooling(size)
            layers += [*first, nn.Conv2d(filters, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU(), *second]
            layers.append(nn.Flatten())
            width = filters * size[0] * size[1]
        # The paper has ReLU here. Eight of them are often all off at once, and then classes tie (measured: one query in five).
        self.rest: nn.Sequential = nn.Sequential(
            *layers, nn.Linear(width, hidden), nn.LeakyReLU(0.01), nn.Linear(hidden, 1)
        )

    def forward(
        self, classes: Float[Tensor, "ways ..."], queries: Float[Tensor, "queries ..."]
    ) -> Float[Tensor, "pairs 1"]:
        """One logit a pair, pairs (query, class) in the order of queries, then of classes."""
        both = self.of_query(queries)[:, None] + self.of_class(classes)
        return self.rest(both.flatten(0, 1))


def _pooling(size: tuple[int, ...]) -> tuple[list[nn.Module], tuple[int, ...]]:
    """A 2x2 max-pooling where there is room for it, and the size after it."""
    return ([nn.MaxPool2d(2)], (size[0] // 2, size[1] // 2)) if min(size) > 1 else ([], size)


@record
class RelationFast:
    """What a relation learner knows of a task.

    Attributes:
        features: (ways, *features) of each class; zeros before the first step, and without support.
        counts: (ways,) how many support examples each class has.
        step: how many steps came before.
    """

    features: Tensor
    counts: Tensor
    step: int = static(0)


@dataclasses.dataclass(frozen=True, eq=False)
class RelationLearner(ComparingLearner):
    """Logits are what the part "comparison" makes of each query's features beside each class's.

    In meta-training their sigmoids, the scores, are to be 1 for the query's class and 0 for the others, by squared error; with a
    ``loss`` the logits are judged by that.

    Args:
        features: shape of the model's output for one example, which the relation was built for.
        combine: "sum" or "mean" of the support examples' features is the class's.
    """

    features: tuple[int, ...] = ()
    combine: Literal["sum", "mean"] = "sum"

    flattens = False

    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        if of_model[1:] != self.features:
            raise ShapeError(
                f"the model expected to return features of shape {self.features}, which the relation was built for, got "
                f"{of_model[1:]}; give the inputs' shape when the method is made: input_shape={tuple(tasks.support.x.shape[2:])}"
            )
        return super().prediction_shape(tasks, of_model)

    def blank(self, meta: Meta, task: Task, one: Tensor) -> RelationFast:
        return RelationFast(one.new_zeros(ways_of(task), *one.shape[1:]), one.new_zeros(ways_of(task)))

    def read(self, meta: Meta, z: Tensor, support: Examples, ways: int) -> RelationFast:
        features, counts = class_sums(z.flatten(1), support.y, ways, support.mask)
        if self.combine == "mean":
            features = features / counts.clamp(min=1.0)[:, None]
        return RelationFast(features.reshape(ways, *z.shape[1:]), counts, step=1)

    def compare(
        self, meta: Meta, fast: RelationFast, z: Tensor, mask: Tensor | None
    ) -> tuple[Float[Tensor, "queries ways"], dict[str, Tensor]]:
        queries, ways = z.shape[0], fast.counts.shape[0]
        shown = (fast.counts > 0).expand(queries, ways)
        pairs = shown if mask is None else mask[:, None] & shown  # those that count in batch norm's statistics
        logits, buffers = self.model.apply(
            meta.params,
            meta.buffers,
            fast.features,
            z,
            mask=pairs.reshape(-1),
            training=self.training,
            part="comparison",
        )
        return only_shown(logits.reshape(queries, ways), fast.counts), {**meta.buffers, **buffers}

    def query_loss(self, logits: Tensor, fast: ComparingFast, task: Task) -> Tensor:
        if self.loss is not None:
            return super().query_loss(logits, fast, task)
        y, mask = task.query.y, task.query.mask
        target = members_of(y, logits.shape[1]).to(logits.dtype)
        shown = (fast.counts > 0).to(logits.dtype)
        each = ((torch.sigmoid(logits) - target).square() * shown).sum(-1) / shown.sum().clamp(min=1.0)
        return losses.masked_mean(each, mask)


@method(
    model={"outputs": None, "downsample": "max_pool", "halvings": 2, "spatial": "map"},
    declares={
        "inner_loop": False,
        "regression": False,
        "any_ways": True,
        "equivariant": True,
        "adds_parameters": True,
    },
)
def relation(
    model: nn.Module,
    *,
    filters: int = 64,
    hidden: int = 8,
    combine: Literal["sum", "mean"] = "sum",
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
    input_shape: Sequence[int] | None = None,
) -> MetaLearner:
    """Relation networks: the score of query and class is ``sigmoid(g(sum of f over the class's support examples, f(x)))``.

    ``g`` is learned too: two convolution blocks and two linear layers where the model ``f`` returns a map, three linear layers
    where it returns a vector. The scores are trained to be 1 for the query's class and 0 for the others, by squared error. A new
    task takes no gradients. It may have any number of classes, in training, in evaluation and in ``adapt``.

    Args:
        model: any nn.Module that returns a map (channels, height, width) or a vector of features for each example;
            ``il.models.conv4((1, 28, 28), None, downsample="max_pool", halvings=2, spatial="map")`` is the paper's but for its
            padding. Copied, not changed. The comparison network's parameters come after its own.
        filters: channels of the comparison network's convolutions, or width of its first linear layer.
        hidden: width of its last hidden layer.
        combine: the "sum" of the support examples' features is the class's, as in the paper, or their "mean", for classes of
            unequal sizes and for other numbers of shots than in training.
        loss: None: squared error of the scores. ``loss(logits, y) -> scalar`` on logits (queries, ways), whose sigmoids are the
            scores, and integer labels, or a name.
        batch_norm: policy of BatchNorm layers, the comparison network's too; "running": in meta-training the statistics of
            the task's support and query examples together (there: of all its pairs), in evaluation their running mean, so it is
            not transductive.
        input_shape: of one example, where the model does not tell: the shape of its features has to be known.

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: features of another rank, a loss that is not for labels, an unknown option, or an input shape that is not
            known.

    Example:
        >>> import innerloop as il
        >>> il.relation(il.models.conv4((1, 28, 28), None, spatial="map")).eval_steps
        1

    Reference: Sung, Yang, Zhang, Xiang, Torr and Hospedales 2018, "Learning to compare: relation network for few-shot learning",
    arXiv:1711.06025.
    """
    expect_label_loss(loss)
    expect_whole("filters", filters)
    expect_whole("hidden", hidden)
    expect_choice("combine", combine, ("sum", "mean"))
    features = features_of(model, input_shape)

    return backprop_method(
        "relation",
        Parts(model, comparison=Relation(features, filters, hidden)),
        lambda pure: RelationLearner(pure, loss, features=features, combine=combine),
        outer=Outer(num_tasks=1),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
