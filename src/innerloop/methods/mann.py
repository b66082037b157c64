"""Memory-augmented neural networks: a controller that writes examples into a memory and reads them back."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.functional import Parts, PureModel, features_of
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners import MemoryLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, method
from innerloop.models.external_memory import ExternalMemory


@method(
    classification={"sharpen": True},
    regression={"sharpen": True},
    classification_tasks={"train_shots": 5, "train_queries": 5},
    model={"name": "mlp", "hidden": (), "outputs": None},
    brings_networks=True,
    declares={
        "short_of_names": "300 steps agree on less than half of the queries, 500 on about half",
        "adds_parameters": True,
        "inner_loop": False,
        "order_free": False,
        "nuisance": 0.3,  # it has to learn to bind a label to an input before the embedding gets any signal
        "training": {"steps": 300, "outer_lr": 0.01, "clip_norm": 2.0},
        "options": {"units": 32, "memory_rows": 12, "memory_columns": 12, "heads": 2, "whole_sequence": False},
        "memory": "grows with the sequence",
        "derivatives": "1",
    },
)
def mann(
    model: nn.Module,
    *,
    outputs: int | None = None,
    units: int = 200,
    memory_rows: int = 128,
    memory_columns: int = 40,
    heads: int = 4,
    usage_decay: float = 0.99,
    sharpen: bool = False,
    whole_sequence: bool = True,
    input_shape: Sequence[int] | None = None,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Memory-augmented neural networks: read a task example by example, each with the label of the one before it.

    A long short-term memory controls an external memory: it writes to the rows that were used least or read last, and reads
    by cosine similarity; a prediction is a linear function of its state and of what was read. The outer loss is taken along a
    whole random sequence of support and query examples. Nothing is adapted by gradients: reading the support set is one step.

    Args:
        model: any nn.Module whose output is what the controller sees of an input; ``il.models.mlp((1, 28, 28), None, hidden=())``
            hands over the flattened input as it is (the paper's). Outputs with more axes are flattened. Copied, not changed.
        outputs: classes, shown one-hot, or target values; None: as many as the model has outputs.
        units: of the controller.
        memory_rows: at least as many as a support set has examples.
        memory_columns: length of a row.
        heads: how many keys read and write at each example.
        usage_decay: what is left of a row's usage from one example to the next.
        sharpen: learn how sharply each head reads, instead of a softmax over plain cosines.
        whole_sequence: the outer loss is the mean along a random sequence of support and query examples; False: of the queries
            alone, each right after the support set, which is what evaluation asks for and is much shorter.
        input_shape: of one example; None: what the model was made for.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: cross-entropy for labels, mean squared error for values.
        batch_norm: policy of BatchNorm layers in the model; "running": in meta-training the statistics of the whole sequence,
            in evaluation their running mean.
        inductive: with ``batch_norm="batch"``: embed queries one at a time beside the support set.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: sizes below 1, fewer rows than heads, a decay outside 0 to 1, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.mann(il.models.mlp((1, 28, 28), None, hidden=()), outputs=5).eval_steps
        1

    Reference: Santoro, Bartunov, Botvinick, Wierstra and Lillicrap 2016, "One-shot learning with memory-augmented neural
    networks", arXiv:1605.06065.
    """
    features = math.prod(features_of(model, input_shape))
    columns = features if outputs is None else outputs
    sizes = {
        "outputs": columns, "units": units, "memory_rows": memory_rows, "memory_columns": memory_columns, "heads": heads,
    }  # fmt: skip
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} expected an integer of at least 1, got {value!r}")
    if memory_rows < heads:
        raise ConfigError(f"memory_rows expected at least {heads}, one for each head, got {memory_rows}")
    if not 0 <= usage_decay <= 1:
        raise ConfigError(f"usage_decay expected a number from 0 to 1, got {usage_decay!r}")
    network = ExternalMemory(
        features + columns, columns, units, memory_rows, memory_columns, heads, usage_decay, sharpen
    )

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        learner = MemoryLearner(pure, network, columns, loss, whole_sequence)
        return learner, Backprop(learner, engine)

    return MetaLearner(
        "mann",
        {},
        Parts(model, memory=network),
        pair,
        outer=Outer(num_tasks=16),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
