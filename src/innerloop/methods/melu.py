"""MeLU: MAML on the layers that decide, while what stands for an item is the same for all users (Lee et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from innerloop.errors import ConfigError
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.pure import registered_names
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import InnerOptimizer, LossArgument, gradient_method, inner_rule, method


@method(
    classification={"inner_lr": 0.4, "inner_steps": 1, "eval_steps": 3},
    regression={"inner_lr": 0.03, "inner_steps": 5},
)
def melu(
    model: nn.Module,
    *,
    inner_lr: float = 5e-6,
    inner_steps: int = 1,
    eval_steps: int | None = None,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "sgd",
    embedding: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = False,
) -> MetaLearner:
    """MAML whose inner loop changes the decision layers and not the embedding: a user's taste, from a few ratings.

    ``theta_d' = theta_d - inner_lr grad L_support``, repeated, for all layers behind the embedding; vectors of items and what
    else the embedding holds learn across tasks alone, through the loss on the queries. So two users who rate the same film
    begin from one vector of it, and differ in what they make of it.

    Args:
        model: any nn.Module of at least two layers; for ratings `il.models.items_mlp`, whose vectors of items are the embedding.
            Copied, not changed.
        inner_lr: inner rate, at least 0; the authors' 5e-6. ``innerloop train`` takes 0.03 for values, which are scaled there.
        inner_steps: inner steps in meta-training (the paper's main setting: 1; 5 in its other one).
        loss: ``loss(prediction, y) -> scalar`` or a name of `il.losses.OBJECTIVES`; None: the task's own, else cross-entropy
            for integer and mean squared error for floating targets (the paper's).
        embedding: shell-style patterns of the parameter names that the inner loop leaves as they are; None: the model's first
            layer, which in a net that knows items is their vectors.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing, a model of one layer.

    Where we differ: users have no columns of their own here, so nothing of a user is embedded; ids of items have vectors, which
    the paper's items have not (theirs are what is known of them, which here stands beside the vector).

    Example:
        >>> import innerloop as il
        >>> net = il.models.items_mlp(3, 1, items=(100,), width=8, hidden=(16,))
        >>> il.melu(net).learner.adapted
        ('body.0.weight', 'body.0.bias', 'head.weight', 'head.bias')

    Reference: Lee, Im, Jang, Cho and Chung 2019, "MeLU: Meta-learned user preference estimator for cold-start recommendation",
        arXiv:1908.00413.
    """
    return gradient_method(
        model,
        rule=inner_rule(inner_optimizer, inner_lr),
        inner_steps=inner_steps,
        eval_steps=eval_steps,
        loss=loss,
        adapt=None,
        freeze=list(embedding) if embedding is not None else _first_layer(model),
        batch_norm=batch_norm,
        inductive=inductive,
        estimate=Backprop,
        outer=Outer(num_tasks=32),
    )


def _first_layer(model: nn.Module) -> list[str]:
    """Patterns for the parameters of the first module, in registration order, that owns any."""
    names = registered_names(model)
    every = [name for name, _ in model.named_parameters()]
    layer = every[0].rpartition(".")[0]
    own = list(dict.fromkeys(names[n] for n in names if n.rpartition(".")[0] == layer and names[n] in every))
    if len(own) == len(every):
        raise ConfigError("the model is one layer: it has no layers behind its embedding; use maml or a deeper model")
    return own
