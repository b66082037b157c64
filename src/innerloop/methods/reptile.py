"""Reptile: a first-order method that only looks at where the inner loop ends (Nichol et al. 2018, arXiv:1803.02999)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from innerloop.core import Meta, OuterGradient, Task, batch_size
from innerloop.engine import take
from innerloop.engine.engine import weighted_mean
from innerloop.functional.norms import BatchNormPolicy
from innerloop.meta_gradients.solutions import FromSolutions
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import (
    InnerOptimizer,
    LossArgument,
    expect_choice,
    gradient_method,
    inner_rule,
    method,
)
from innerloop.rules import Adam

SecondMoments = Literal["kept", "serial", "fresh"]


@dataclasses.dataclass(eq=False)
class Displacement(FromSolutions):
    """``meta - mean over tasks of fast``: outer SGD with rate eps then moves meta by ``eps (fast - meta)``.

    Nichol, Achiam and Schulman 2018 (arXiv:1803.02999), batched version; with one task a step it is the serial one. No graph
    is kept, so memory does not grow with inner steps. The query set is used for the reported loss alone.

    As in the authors' code, an inner Adam's second moments go on from task to task. The carry has them and the number of
    updates that they are of; a run whose carry is empty (of an older version) begins with fresh ones at each task, as it did.

    Args:
        second_moments: "kept": all tasks of a step begin with the carry's, which then becomes the mean of theirs; "serial": each
            begins with those of the task before it; "fresh": with zeros.
    """

    says = "first: where the inner loop went, seen from where it began; no gradient of the outer loss"
    definition = "meta - mean of fast"
    order: str = "first"
    second_moments: SecondMoments = dataclasses.field(default="fresh", kw_only=True)

    def __post_init__(self) -> None:
        self.shardable: bool = self.second_moments != "serial"
        self.compilable: bool = self.shardable

    def init(self, meta: Meta) -> dict[str, Tensor]:
        rule = self.learner.rule
        if self.second_moments == "fresh" or not isinstance(rule, Adam):
            return {}
        return rule.kept_at_first({name: meta.params[name].detach() for name in self.learner.adapted})

    def start(self, carry: dict[str, Tensor], meta: Meta) -> Meta:
        return Meta(meta.params, {**meta.rule, **carry}, meta.buffers)

    def kept(self, state: Any) -> dict[str, Tensor]:
        assert isinstance(self.learner.rule, Adam)  # others keep nothing
        return self.learner.rule.kept(state)

    def next_carry(self, carry: dict[str, Tensor], state: Any) -> dict[str, Tensor]:
        return self.kept(state) if carry and self.second_moments == "serial" else carry

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        if not carry or self.second_moments != "serial":
            return super().__call__(carry, meta, tasks, outer_step, generator)
        parts: list[tuple[float, OuterGradient]] = []
        for i in range(batch_size(tasks)):
            found = super().__call__(carry, meta, take(tasks, slice(i, i + 1)), outer_step, generator)
            carry = found.carry
            parts.append((1 / batch_size(tasks), found._replace(carry={})))
        return weighted_mean(parts)._replace(carry=carry)


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
    newer=("second_moments",),
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
    second_moments: SecondMoments = "kept",
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = True,
) -> MetaLearner:
    """Run an ordinary optimizer on each task and move the initialisation towards where it ended.

    ``meta <- meta + eps * mean over tasks of (fast - meta)``: the batched version; with ``num_tasks=1`` the serial one. The
    meta-gradient is ``meta - mean fast``, so an outer SGD with rate eps does it; eps falls linearly to 0.

    Args:
        inner_lr: inner rate, at least 0 (the authors' default 1e-3).
        inner_steps: mini-batch steps on a training task (the authors' default 20).
        inner_batch: examples in a mini-batch, without replacement pass by pass (their 5); None: all.
        eval_batch: examples in a mini-batch on a new task; None: ``inner_batch``.
        eval_steps: steps on a new task (their 50); None: ``inner_steps``.
        inner_optimizer: "adam" with beta1 = 0 (the paper's on images), "sgd" (its sine) or "momentum"; or an `il.UpdateRule`,
            whose rates are its own.
        second_moments: of Adam, in training: "kept" from step to step, all tasks of a step beginning with the same and leaving
            their mean; "serial": handed on from task to task, one after the other, as the authors' code does; "fresh": zeros at
            each task. A new task in tests begins with zeros, as its first moment does everywhere. Other inner optimizers keep
            nothing.
        inductive: in evaluation, predict queries one at a time beside the support set (True: the paper's
            non-transductive row).

    Returns:
        A MetaLearner. Give it more training shots than test shots (``train_shots``), as the paper does.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing.

    Reference: Nichol, Achiam and Schulman 2018, "On first-order meta-learning algorithms", arXiv:1803.02999; defaults from the
        authors' code.
    """
    expect_choice("second_moments", second_moments, ("kept", "serial", "fresh"))
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
        estimate=functools.partial(Displacement, second_moments=second_moments),
        outer=Outer(optimizer="sgd", lr=1.0, schedule="linear", num_tasks=5),
        inner_batch=inner_batch,
        eval_batch=eval_batch,
    )
