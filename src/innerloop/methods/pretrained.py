"""Transfer learning, honestly trained: one model on all tasks pooled, fine-tuned on a new one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from innerloop.core import BaseLearner, MetaGradient
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.functional import PureModel
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.pure import head_module, select
from innerloop.learners import GradientLearner, PooledLearner
from innerloop.meta_gradients import Pooled
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import InnerOptimizer, LossArgument, head_patterns, inner_rule, method


@method(
    classification={"inner_lr": 1.0, "inner_steps": 10, "adapt": "head"},
    regression={"inner_lr": 0.01, "inner_steps": 1, "adapt": "all"},
    declares={"adds_parameters": True, "equivariant": True, "memory": "one pass", "derivatives": "1"},
)
def pretrained(
    model: nn.Module,
    *,
    inner_lr: float = 0.01,
    inner_steps: int = 10,
    eval_steps: int | None = None,
    num_classes: int | None = None,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "sgd",
    adapt: Sequence[str] | str = "all",
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """One model fitted to the examples of all tasks together, then fine-tuned.

    In classification the pooled model has one output for each global class of the training split (`Task.class_ids`), and a
    new task gets a new head that starts at zero. In regression the model itself is fitted to all tasks, so it learns their
    average. Bare tasks without class ids are pooled by the labels that they carry.

    Args:
        model: any nn.Module; in classification its last layer must be an nn.Linear.
        inner_lr: fine-tuning rate, at least 0.
        inner_steps: fine-tuning steps (also the default on a new task).
        eval_steps: fine-tuning steps on a new task; None: ``inner_steps``.
        num_classes: global classes; None: the training tasks say it.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: by the targets.
        inner_optimizer: "sgd", "momentum" (0.9) or "adam"; or an `il.UpdateRule`,
            whose rates are its own.
        adapt: "all", "head", or patterns of parameter names to fine-tune.
        batch_norm: policy of BatchNorm layers; "running": as usual in supervised learning, so fine-tuning and evaluation use
            the statistics of pretraining.
        inductive: with ``batch_norm="batch"``: predict queries one at a time beside the support set.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing.

    Reference: the "pretrained" baseline of Finn et al. 2017, arXiv:1703.03400, and for classification the "Baseline" of Chen et
        al. 2019, "A closer look at few-shot classification", arXiv:1904.04232.
    """
    if num_classes is not None and num_classes < 1:
        raise ConfigError(f"num_classes expected at least 1, got {num_classes}")
    head = head_module(model)
    layer = model.get_submodule(head)
    linear = isinstance(layer, nn.Linear)
    patterns = (
        None
        if adapt == "all"
        else head_patterns(model)
        if adapt == "head"
        else [adapt]
        if isinstance(adapt, str)
        else adapt
    )

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        tuner = GradientLearner(
            model=pure,
            rule=inner_rule(inner_optimizer, inner_lr),
            adapted=select([n for n, p in pure.module.named_parameters() if p.requires_grad], patterns, None),
            inner_steps=inner_steps,
            eval_steps=inner_steps if eval_steps is None else eval_steps,
            loss=loss,
        )
        features = layer.in_features if isinstance(layer, nn.Linear) else 0
        learner = PooledLearner(tuner, head if linear else None, features, num_classes or 0)
        return learner, Pooled(learner, engine)

    return MetaLearner(
        "pretrained",
        {},
        model,
        pair,
        outer=Outer(num_tasks=16),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
