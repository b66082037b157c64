"""The nearest class mean of fixed features: a baseline for streams that has nothing to forget."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.lifelong.learner import OnlineLearner


class ClassMeans(OnlineLearner):
    """Sums and counts of features by class; see `class_means`."""

    has_memory = False
    regression = False

    def __init__(self, model: nn.Module) -> None:
        super().__init__("class_means", model, {}, needs_parameters=False)
        self.sums: Tensor | None = None
        self.counts: Tensor = torch.zeros(0)

    @property
    def ready(self) -> bool:
        return self.sums is not None

    def _sized(self, x: Tensor) -> int:
        return 0  # as many classes as come

    def _features(self, x: Tensor) -> Tensor:
        return self.pure.apply(self.params, self.buffers, x)[0].flatten(1)

    def _learn(self, x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            z = self._features(x)
        most = max(int(y.max()) + 1, len(self.counts))
        sums, counts = z.new_zeros(most, z.shape[1]), z.new_zeros(most)
        if self.sums is not None:
            sums[: len(self.sums)], counts[: len(self.counts)] = self.sums, self.counts
        self.sums, self.counts = sums.index_add(0, y, z), counts + y.bincount(minlength=most).to(counts)

    def _outputs(self, x: Tensor, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """Minus the squared distance to each mean; minus infinity for a class without examples."""
        if self.sums is None:
            raise InputError("class_means expected examples before it predicts, got none; learn some first")
        means = self.sums / self.counts.clamp(min=1)[:, None]
        far = torch.cdist(self._features(x), means) ** 2
        return torch.where(self.counts > 0, -far, -torch.inf)

    def _own_tensors(self) -> dict[str, Tensor]:
        return {} if self.sums is None else {"sums": self.sums, "counts": self.counts}

    def _restore_own(self, tensors: Mapping[str, Tensor]) -> None:
        self.sums, self.counts = tensors.get("sums"), tensors.get("counts", torch.zeros(0))


def class_means(model: nn.Module) -> OnlineLearner:
    """The nearest class mean of a model's features, in the Euclidean distance; the model stays as it is.

    Args:
        model: gives features, flattened; ``nn.Identity()`` for the examples themselves. Train it before, or take one that is
            trained.

    Raises:
        ConfigError: a model with batch norm.
        InputError: targets of a regression.
    """
    return ClassMeans(model)
