"""MAML++'s multi-step loss: the query set is judged after every inner step, with weights that move to the last."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from innerloop.core import Meta, Task
from innerloop.learners.gradient import GradientFast, GradientLearner


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
