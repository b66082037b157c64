"""The multi-task average: solve each training task by itself and average the solutions (Finn et al. 2017, appendix C)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import Tensor, nn

from innerloop.core import Meta
from innerloop.functional.norms import BatchNormPolicy
from innerloop.meta_gradients.solutions import FromSolutions
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import InnerOptimizer, LossArgument, gradient_method, inner_rule, method


@dataclasses.dataclass(eq=False)
class AverageOfSolutions(FromSolutions):
    """``meta - mean of solutions``, each solution started from the SAME first initialisation, not from meta.

    With outer SGD at rate 1 / (step + 1), meta is the exact mean of all solutions so far (schedule "average"). The carry
    holds the first initialisation. Finn et al. 2017, appendix C: the baseline that knows many tasks but not how to adapt.
    """

    says = "none: the outer step goes to the mean of the tasks' solutions; no gradient of the outer loss"
    definition = "meta - mean of the solutions from the first weights"
    order: str = "none"

    def init(self, meta: Meta) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in meta.params.items()}

    def start(self, carry: dict[str, Tensor], meta: Meta) -> Meta:
        return Meta(carry, meta.rule, meta.buffers)


@method(
    classification_tasks={"train_shots": 10, "train_queries": 1},
    regression={"eval_steps": 10},
    declares={
        "learns": False,
        "training": {"steps": 10},
        "options": {"inner_steps": 10},
        "memory": "one step",
        "derivatives": "1",
    },
)
def multitask_average(
    model: nn.Module,
    *,
    inner_lr: float = 0.01,
    inner_steps: int = 100,
    eval_steps: int | None = None,
    loss: LossArgument = None,
    inner_optimizer: InnerOptimizer = "adam",
    adapt: Sequence[str] | None = None,
    freeze: Sequence[str] | None = None,
    batch_norm: BatchNormPolicy = "batch",
    inductive: bool = False,
) -> MetaLearner:
    """Train one model a task, all from the same first initialisation, and start new tasks from the mean of the results.

    ``meta`` is the exact running mean of all solutions so far (outer SGD with rate 1 / (step + 1)). It is the baseline that has
    seen many tasks without learning how to adapt.

    Args:
        inner_lr: rate of the single-task training, at least 0.
        inner_steps: steps on each training task, enough to solve it.

    Returns:
        A MetaLearner.

    Raises:
        ConfigError: a value out of range, a pattern that matches nothing.

    Reference: Finn, Abbeel and Levine 2017, arXiv:1703.03400, appendix C, "multi-task baseline" (theirs without regularisation).
    """
    return gradient_method(
        model,
        rule=inner_rule(inner_optimizer, inner_lr),
        inner_steps=inner_steps,
        eval_steps=eval_steps,
        loss=loss,
        adapt=adapt,
        freeze=freeze,
        batch_norm=batch_norm,
        inductive=inductive,
        estimate=AverageOfSolutions,
        outer=Outer(optimizer="sgd", lr=1.0, schedule="average", num_tasks=25),
    )
