"""Backpropagation through the last inner steps only."""

from __future__ import annotations

import dataclasses

from innerloop.core import BaseLearner
from innerloop.engine import Engine
from innerloop.errors import ConfigError, expect_whole
from innerloop.learners.gradient import by_gradients
from innerloop.meta_gradients.backprop import Backprop


@dataclasses.dataclass(eq=False)
class Truncated(Backprop):
    """Backpropagation through the last ``steps`` inner steps; where the earlier ones went is held constant.

    The derivative of the earlier steps' end by the initial parameters becomes the identity: cut altogether, an initialisation
    would get no gradient at all. Learned inner rates get theirs from the last steps alone. Memory grows with ``steps``, not
    with inner steps. As many steps as there are inner steps, or more, are full backpropagation, to the last bit; none would
    be the first-order estimate. What is judged before the last ``steps`` would teach learned rates nothing, without a word, so
    a learner with an outer loss of its own (MAML++'s multi-step loss) is refused. Shaban et al. 2019, "Truncated
    back-propagation for bilevel optimization", arXiv:1810.10667, for hyperparameters; the identity is ours.

    Args:
        learner: a `GradientLearner`.
        engine: runs the one-task loss over many tasks.
        steps: how many of the last inner steps, at least 1.
    """

    # Declared again, so that the types of all fields can be found from here.
    learner: BaseLearner
    engine: Engine
    steps: int = dataclasses.field(default=1, kw_only=True)

    of_mean_gradient = False  # the steps that are held constant are others than the last ones

    def __post_init__(self) -> None:
        expect_whole("steps", self.steps)
        self.check(self.learner)
        assert by_gradients(self.learner)
        whole = self.steps >= self.learner.inner_steps
        if not whole and not self.learner.judged_at_end:
            raise ConfigError(
                "truncated backpropagation expected a learner that is judged at the end of its inner steps, got "
                f"{type(self.learner).__name__}, which may be judged before the last {self.steps}; use backprop, or "
                f"steps={self.learner.inner_steps}"
            )
        self.learner = dataclasses.replace(self.learner, backprop_steps=None if whole else self.steps)
        super().__post_init__()
        self.order = "second" if whole else "truncated"

    def check(self, learner: BaseLearner) -> None:
        if not (by_gradients(learner) and learner.truncates):
            raise ConfigError(
                f"truncated backpropagation expected a learner that adapts by gradient steps, got {type(learner).__name__}; "
                "use backprop"
            )
