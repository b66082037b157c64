"""Meta Networks: fast weights, generated from loss gradients, beside slow ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.errors import ConfigError, InnerloopError
from innerloop.functional import Parts, PureModel, features_of
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import inputs_of
from innerloop.functional.pure import select
from innerloop.functional.two_streams import Meeting, augmentable, fast_weights, prepare
from innerloop.learners import MetaNetLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, method
from innerloop.models.weight_generators import AugmentedNet, Generator, SequenceGenerator


@method(
    classification_tasks={"train_queries": 5},
    model={"outputs": None, "downsample": "max_pool", "norm": "none"},
    brings_networks=True,
    declares={
        "adds_parameters": True,
        "inner_loop": False,
        "order_free": False,
        "training": {"steps": 150, "outer_lr": 0.003},
        "options": {"base_hidden": 16, "generator_hidden": 8, "groups": 2},
        "memory": "one pass",
        "derivatives": "1",
    },
)
def metanet(
    model: nn.Module,
    *,
    outputs: int | None = None,
    base_hidden: int = 64,
    generator_hidden: int = 20,
    groups: int = 5,
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Meta Networks: weights of a task, and of each query, are generated from the gradients of losses on the support set.

    The embedding network has slow weights and, for each task, fast ones, which an LSTM makes from gradients of a representation
    loss; a layer gives ``relu(W x) + relu(W* x)``. A small base learner predicts from the embedding, with slow weights and with a
    mixture of fast ones that were made from each support example's gradient: the more alike the embeddings, the more of it.

    Args:
        model: any nn.Module whose output is the embedding (``il.models.conv4((1, 28, 28), None, downsample="max_pool",
            norm="none")``); outputs with more axes are flattened. Copied, not changed.
        outputs: classes, or target values; None: as many as the model has outputs.
        base_hidden: width of the base learner's hidden layer.
        generator_hidden: width of the networks that make weights from gradients.
        groups: into how many parts the support set is cut; each gives one gradient of the representation loss.
        adapt, freeze: patterns of the weights of the model that have fast ones beside them; None: those of all linear and
            convolution layers.
        input_shape: of one example; None: what the model was made for.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: cross-entropy for labels, mean squared error for values.
        batch_norm: policy of BatchNorm layers in the model; "running": in meta-training the statistics of the task's support
            and query examples together, with slow and with fast weights; in evaluation their running mean.
        inductive: with ``batch_norm="batch"``: embed queries one at a time beside the support set.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: sizes below 1, a pattern that matches no such weight, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.metanet(il.models.conv4((1, 28, 28), None, norm="none"), outputs=5).eval_steps
        1

    Reference: Munkhdalai and Yu 2017, "Meta networks", arXiv:1703.00837.
    """
    features = math.prod(features_of(model, input_shape))
    columns = features if outputs is None else outputs
    sizes = {"outputs": columns, "base_hidden": base_hidden, "generator_hidden": generator_hidden, "groups": groups}
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} expected an integer of at least 1, got {value!r}")
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    weights = [name for name in augmentable(model) if name in trainable]
    chosen = select(weights, adapt, freeze) if weights or adapt or freeze else ()
    dims = {name: model.get_parameter(name).ndim for name in chosen}
    brought: dict[str, nn.Module] = {
        "label_head": nn.Linear(features, columns),
        "of_base": Generator(generator_hidden),
        "base": AugmentedNet(features, base_hidden, columns),
    }
    for part, wanted in (
        ("of_linear", [d == 2 for d in dims.values()]),
        ("of_convolution", [d > 2 for d in dims.values()]),
    ):
        if any(wanted):
            brought[part] = SequenceGenerator(generator_hidden)
    if not chosen:  # nothing asks for labels of the embedding itself
        del brought["label_head"]
    notes: list[str] = []

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        own = pure.module.get_submodule("model")
        prepare(own, chosen)
        meeting = _meeting(own, chosen, inputs_of(model, input_shape))
        if meeting == "sum":
            notes.append(
                "slow and fast weights are added before the nonlinearity: the model's layers do not follow one another"
            )
        learner = MetaNetLearner(
            pure, tuple(f"model.{name}" for name in chosen), (features, base_hidden, columns), groups, meeting, loss
        )
        return learner, Backprop(learner, engine)

    made = MetaLearner(
        "metanet",
        {},
        Parts(model, **brought),
        pair,
        outer=Outer(num_tasks=1),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
    for text in notes:
        made.note(text)
    return made


def _meeting(model: nn.Module, weights: Sequence[str], input_shape: Sequence[int]) -> Meeting:
    """Whether what slow and fast weights give can go through this model one behind the other, found out on three zeros."""
    if not weights:
        return "streams"
    like = next(model.parameters())
    x = torch.zeros(3, *input_shape, dtype=like.dtype, device=like.device)
    none = {name: torch.zeros_like(model.get_parameter(name)) for name in weights}
    with torch.no_grad(), fast_weights(none, 3, "streams") as joined:
        try:
            return "streams" if joined(model(x)).shape[0] == 3 else "sum"
        except (RuntimeError, ValueError, TypeError, IndexError, InnerloopError):
            return "sum"
