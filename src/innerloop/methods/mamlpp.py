"""MAML++: MAML with six changes that make it stable, each of which can be switched off (Antoniou et al. 2019)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from innerloop.core import Meta, Task
from innerloop.errors import ConfigError, expect_above_zero
from innerloop.learners.gradient import GradientFast, GradientLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, gradient_method, method
from innerloop.rules import SGD, PerLayerPerStepRates


@dataclasses.dataclass(frozen=True, eq=False)
class MultiStepLearner(GradientLearner):
    """A GradientLearner with the multi-step loss of Antoniou et al. 2019 (arXiv:1810.09502, section 3).

    The outer loss is ``sum_i w_i L_query(after step i)``, i = 1..inner_steps. Weights start equal; each of the first
    ``inner_steps - 1`` falls by ``1 / inner_steps / annealing_phases`` a phase to a floor of ``0.03 / inner_steps``, and
    the last takes what they lose (the authors' code). After ``annealing_phases`` phases only the last step counts.

    Args:
        annealing_phases: how many phases (the paper: 10 epochs).
        phase_steps: outer steps in a phase (the paper's epoch: 500).
    """

    annealing_phases: int = 10
    phase_steps: int = 500

    def phase(self, outer_step: int) -> int:
        """Which phase an outer step is in; the last one never ends."""
        return min(outer_step // self.phase_steps, self.annealing_phases)

    def weights(self, outer_step: int) -> list[float]:
        """The weights of inner steps 1..inner_steps."""
        n, phase = self.inner_steps, self.phase(outer_step)
        if phase >= self.annealing_phases:
            return [0.0] * (n - 1) + [1.0]
        each = max(1 / n - phase / n / self.annealing_phases, 0.03 / n)
        return [each] * (n - 1) + [1 - each * (n - 1)]

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        weights = self.weights(outer_step)
        terms: list[Tensor] = []
        last: dict[str, Any] = {}

        def observe(fast: GradientFast, i: int) -> None:
            if i == 0 or weights[i - 1] == 0:
                return
            loss, metrics, buffers = self.query_loss(meta, fast, task)
            terms.append(weights[i - 1] * loss)
            if i == self.inner_steps:
                last.update(metrics=metrics, buffers=buffers)

        self.adapt(meta, task, self.inner_steps, observe)
        return sum(terms[1:], terms[0]), last


@method(
    classification={"inner_lr": 0.1, "inner_steps": 5},
    regression={"inner_lr": 0.01, "inner_steps": 5},
    newer=("positive_rates", "inner_clip_norm"),
    declares={"adds_parameters": True, "learned_rate": True},
)
def mamlpp(
    model: nn.Module,
    *,
    inner_lr: float = 0.1,
    inner_steps: int = 5,
    eval_steps: int | None = None,
    loss: LossArgument = None,
    learned_rates: bool = True,
    positive_rates: bool = False,
    inner_clip_norm: float | None = None,
    multi_step_loss: bool = True,
    per_step_statistics: bool = False,
    per_step_affine: bool = True,
    cosine_schedule: bool = True,
    order_annealing: bool = False,
    annealing_phases: int = 10,
    phase_steps: int = 500,
    first_order_steps: int = 25_000,
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    inductive: bool = False,
) -> MetaLearner:
    """MAML with learned rates, multi-step loss, per-step batch norm, cosine schedule and order annealing.

    Args:
        inner_lr: where the inner rates start (the authors' Omniglot: 0.1).
        inner_steps: inner steps in meta-training (the paper's 5).
        loss: ``loss(prediction, y) -> scalar`` or a name of `il.losses.OBJECTIVES`; None: by the targets.
        learned_rates: one learned rate for each parameter tensor and inner step.
        positive_rates: learn their logarithms: an outer step changes a rate by a share of its size, and none falls below 0.
        inner_clip_norm: largest norm of the gradient of an inner step, above 0; None: no bound. Both need ``learned_rates``.
        multi_step_loss: judge the query set after every inner step; weights move to the last over ``annealing_phases`` phases
            of ``phase_steps`` outer steps.
        annealing_phases: how many phases (the paper: 10 epochs).
        phase_steps: outer steps in a phase (the paper's epoch: 500).
        per_step_statistics: running batch-norm statistics for each inner step, used in evaluation, which is inductive then (the
            paper's text). Off, as the authors' code in effect: the statistics of the examples at hand.
        per_step_affine: batch-norm scales and shifts of their own after each inner step, learned in the outer loop only.
        cosine_schedule: recommend a cosine schedule of the outer rate from 1e-3 to 1e-5.
        order_annealing: first-order meta-gradients for the first ``first_order_steps`` outer steps (the paper's miniImageNet; its
            Omniglot runs are second order from the start, the default here).
        first_order_steps: how many (the paper: 50 epochs).
        inductive: with ``per_step_statistics=False``: predict queries one at a time beside the support set.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing.

    Reference: Antoniou, Edwards and Storkey 2019, "How to train your MAML", arXiv:1810.09502.

    Differs from the paper in: ``per_step_statistics`` is off. The authors' code records the statistics but normalises with the
        batch's own in evaluation too, so their numbers are without it, and it costs much where a task has few examples (see
        docs/methods/mamlpp.md). The scales of inner step 0 are the model's own parameters; those of later steps are
        parameters of the learner.
    """
    if (positive_rates or inner_clip_norm is not None) and not learned_rates:
        raise ConfigError("positive_rates and inner_clip_norm expected learned_rates=True, got False; leave them out")
    if positive_rates and not inner_lr > 0:
        raise ConfigError(f"inner_lr expected a number above 0 with positive_rates, got {inner_lr!r}")
    if inner_clip_norm is not None:
        expect_above_zero("inner_clip_norm", inner_clip_norm)
    rates = PerLayerPerStepRates(inner_lr, max(inner_steps, 1), positive=positive_rates, clip_norm=inner_clip_norm)
    more = {"annealing_phases": annealing_phases, "phase_steps": phase_steps} if multi_step_loss else {}
    return gradient_method(
        model,
        rule=rates if learned_rates else SGD(inner_lr),
        inner_steps=inner_steps,
        eval_steps=eval_steps,
        loss=loss,
        adapt=adapt,
        freeze=freeze,
        batch_norm="per_step" if per_step_statistics else "batch",
        inductive=inductive,
        estimate=functools.partial(Backprop, first_order_until=first_order_steps if order_annealing else 0),
        outer=Outer(num_tasks=8, schedule="cosine" if cosine_schedule else "constant", min_lr=1e-5),
        learner=MultiStepLearner if multi_step_loss else GradientLearner,
        per_step_norms=per_step_affine,
        **more,
    )
