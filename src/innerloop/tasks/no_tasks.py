"""A split that has no tasks, for training on everything there is."""

from __future__ import annotations

from jaxtyping import Int64
from torch import Tensor, nn

from innerloop.core import Task, TaskDistribution
from innerloop.errors import InputError


class NoTasks(TaskDistribution):
    """The validation split of a problem that holds nothing out: shaped as its training tasks, and empty.

    Args:
        train: the problem's training split.
    """

    def __init__(self, train: TaskDistribution) -> None:
        self.train = train
        self.name, self.split = train.name, "valid"
        self.objective, self.metrics = train.objective, train.metrics
        self.input_shape, self.output_size = train.input_shape, train.output_size

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{self.name}: validation expected classes that were held out, got none; train with validate_every=0 "
            "or hold some out"
        )

    def default_model(self) -> nn.Module:
        """That of the training split."""
        return self.train.default_model()
