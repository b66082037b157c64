"""A method's recommended outer loop."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Outer:
    """A method's recommended outer loop, used by `fit` where the caller does not say.

    Attributes:
        optimizer: "adam" or "sgd".
        lr: outer learning rate.
        schedule: see `training.config.TrainConfig`.
        num_tasks: tasks in an outer step.
        min_lr: end of the cosine schedule, for the rate ``lr``.
        clip_norm: largest norm of the meta-gradient; None: no clipping.
        passes: steps of the optimizer on the tasks of each draw.
    """

    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-3
    schedule: Literal["constant", "linear", "cosine", "average", "halving"] = "constant"
    num_tasks: int = 16
    min_lr: float = 0.0
    clip_norm: float | None = None
    passes: int = 1
