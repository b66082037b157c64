"""Reptile: a first-order method that only looks at where the inner loop ends (Nichol et al. 2018, arXiv:1803.02999)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import nn

from innerloop.functional.norms import BatchNormPolicy
from innerloop.meta_gradients.solutions import FromSolutions
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import InnerOptimizer, LossArgument, gradient_method, inner_rule, method


@dataclasses.dataclass(eq=False)
class Displacement(FromSolutions):
    """``meta - mean over tasks of fast``: outer SGD with rate eps then moves meta by ``eps (fast - meta)``.

    Nichol, Achiam and Schulman 2018 (arXiv:1803.02999), batched version; with one task a step it is the serial one. No graph
    is kept, so memory does not grow with inner steps. The query set is used for the reported loss alone.
    """

    says = "first: where the inner loop went, seen from where it began; no gradient of the outer loss"
    definition = "meta - mean of fast"
    order: str = "first"


@method(
    classification={"inner_lr": 1e-3, "inner_batch": 10, "inner_steps": 5, "eval_steps": 50},
    classification_tasks={"train_shots": 10, "train_queries": 1},
    regression={
        "inner_lr": 0.02,
        "inner_optimizer": "sgd",
        "inner_steps": 32,
        "eval_steps": 32,
        "inner_batch": 10,
    },
    declares={
        "order_free": False,
        "training": {"steps": 100},
        "options": {"inner_lr": 0.02},
        "memory": "one step",
        "derivatives": "1",
    },
)
def reptile(
    model: nn.Module,
    *,
    inner_lr: float = 1e-3,
    inner_steps: int = 20,
    inner_batch: int | None = 5,
    eval_batch: int | None = None,
    eval_steps: int | None = 50,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "adam",
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = True,
) -> MetaLearner:
    """Run an ordinary optimizer on each task and move the initialisation towards where it ended.

    ``meta <- meta + eps * mean over tasks of (fast - meta)``: the batched version; with ``num_tasks=1`` the serial one. The
    meta-gradient is ``meta - mean fast``, so an outer SGD with rate eps does it; eps falls linearly to 0.

    Args:
        model: any nn.Module; copied, not changed.
        inner_lr: inner rate, at least 0 (the authors' default 1e-3).
        inner_steps: mini-batch steps on a training task (the authors' default 20).
        inner_batch: examples in a mini-batch, without replacement pass by pass (their 5); None: all.
        eval_batch: examples in a mini-batch on a new task; None: ``inner_batch``.
        eval_steps: steps on a new task (their 50); None: ``inner_steps``.
        loss: ``loss(prediction, y) -> scalar`` or a name of `il.losses.OBJECTIVES`; None: the task's own, else cross-entropy
            for integer and mean squared error for floating targets.
        inner_optimizer: "adam" with beta1 = 0 (the paper's on images), "sgd" (its sine) or "momentum"; or an `il.UpdateRule`,
            whose rates are its own.
        adapt, freeze: shell-style patterns of parameter names to adapt, or to leave out; None: all.
        batch_norm: policy of BatchNorm layers: "batch" (statistics of the examples at hand, as the authors' code),
            "per_step", "running", "frozen" or "none".
        inductive: in evaluation, predict queries one at a time beside the support set (True: the paper's
            non-transductive row).

    Returns:
        A MetaLearner. Give it more training shots than test shots (``train_shots``), as the paper does.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing.

    Reference: Nichol, Achiam and Schulman 2018, "On first-order meta-learning algorithms", arXiv:1803.02999; defaults from the
        authors' code.
    """
    return gradient_method(
        model,
        # The authors switch the first moment off: it would carry over from one task's data to another's.
        rule=inner_rule(inner_optimizer, inner_lr, beta1=0.0),
        inner_steps=inner_steps,
        eval_steps=eval_steps,
        loss=loss,
        adapt=adapt,
        freeze=freeze,
        batch_norm=batch_norm,
        inductive=inductive,
        estimate=Displacement,
        outer=Outer(optimizer="sgd", lr=1.0, schedule="linear", num_tasks=5),
        inner_batch=inner_batch,
        eval_batch=eval_batch,
    )
