"""A training run as a task: a stochastic loss of a network's weights, where the run begins, and how long it is.

What adapts to such a task is an optimizer. One task is one run: its side holds the first weights, the number of steps, and
either examples of its own or, by its key, row numbers into examples that all runs share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from innerloop import keys
from innerloop.core import Apply, Examples, Objective, Task
from innerloop.errors import ConfigError, InputError
from innerloop.objectives.losses import Loss, Supervised, predicts_values
from innerloop.objectives.metrics import accuracy
from innerloop.records import record

_ROWS = 31  # keeps the key of a step's rows apart from what else is drawn from a task's key

# (weights by name, buffers by name, inputs, key of the noise or None) -> outputs
Network = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Any, Tensor | None], Tensor]


@record
class Begin:
    """Where one training run begins; its support side.

    Attributes:
        weights: the network's first weights, by name.
        steps: how many steps the run has, ().
        examples: the run's own examples; None: rows of those that all runs share.
    """

    weights: dict[str, Tensor]
    steps: Tensor
    examples: Examples | None = None


@record
class Judged:
    """What the trained network is judged on; its query side.

    Attributes:
        rows: row numbers into the shared examples, (queries,), never trained on.
        examples: the run's own examples; None: those rows.
    """

    rows: Tensor | None = None
    examples: Examples | None = None


@dataclasses.dataclass(frozen=True)
class TrainingRun(Objective):
    """The loss of a network on the batch of a step.

    Metrics: ``end``, the loss at the end on examples that were not trained on; ``curve``, the mean over the run's steps of the
    loss that each saw; with class labels ``accuracy`` at the end.

    Args:
        network: the network as a function of its weights.
        given: the loss, as `Supervised` takes it.
        batch: examples in a step, drawn with replacement; None: all of the run's own.
        rows: the first so many of the shared examples are trained on.
        classes: the targets are class labels.
        steps: of the longest run.
        variant: which of the family's networks it is, where there are several.
    """

    network: Network
    given: str | Loss | None = None
    batch: int | None = None
    rows: int = 0
    classes: bool = False
    steps: int = 100
    variant: int = 0

    draws: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return "training_run"

    @property
    def metrics(self) -> Mapping[str, bool]:  # type: ignore[override]
        return {"end": False, "curve": False, **({"accuracy": True} if self.classes else {})}

    def check(self, task: Task) -> None:
        if not isinstance(task.support, Begin) or not isinstance(task.query, Judged) or task.noise is None:
            raise InputError(
                "a training run expected a task as il.tasks.training_jobs makes it (where it begins, what it is judged on, a "
                f"key), got {type(task.support).__name__}; take the family's tasks as they are"
            )

    def examples_at(self, task: Task, step: int | Tensor) -> Examples:
        """The batch of one step, (batch, ...), a function of the task's key and the step."""
        if self.batch is None:
            assert task.support.examples is not None
            return task.support.examples
        assert task.noise is not None
        key = keys.fold(keys.fold(task.noise, _ROWS), step)
        rows: Int64[Tensor, " batch"] = keys.integers(key, self.rows, (self.batch,))
        return Examples(task.shared.x[rows], task.shared.y[rows])

    def data(self, side: Any, shared: Any) -> Examples:
        """The examples of a side."""
        own: Examples | None = side.examples
        if own is not None:
            return own
        if not isinstance(side, Judged):
            raise ConfigError(
                "a training run has no support examples, so only a learned optimizer takes it: il.learned_optimizer() or "
                "il.learned_schedule()"
            )
        return Examples(shared.x[side.rows], shared.y[side.rows])

    def loss(self, apply: Apply, data: Examples, key: Tensor | None = None) -> Float[Tensor, ""]:
        return Supervised(self.given).loss(apply, data)

    def measure(self, apply: Apply, data: Examples, key: Tensor | None = None) -> dict[str, Tensor]:
        """Of a trained network, which also says the mean of its curve (``apply.curve``)."""
        prediction = apply(data.x)
        end = Supervised(self.given).judge(prediction, data)
        curve = getattr(apply, "curve", None)
        found = {"end": end, "curve": torch.full_like(end, torch.nan) if curve is None else curve}
        return found | ({"accuracy": accuracy(prediction, data.y, None)} if self.classes else {})

    def examples(self, data: Any) -> int:
        return self.batch or super().examples(data)


def labels_of(given: Any, y: Tensor) -> bool:
    """Whether targets are class labels, of which accuracy can be told."""
    return not y.is_floating_point() and y.ndim == 1 and not predicts_values(given)
