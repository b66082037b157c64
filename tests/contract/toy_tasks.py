"""Small problems for the contract: clusters of points to tell apart, and tasks with spoiled labels."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

import innerloop as il
from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily

_CENTRES, _CLASSES, _SUPPORT, _QUERY, _NOISE = range(1, 6)
FEATURES = 4


class Clusters(TaskDistribution):
    """Each class is a point in 2 dimensions; a task shows ``ways`` classes of ``num_classes``, with noise.

    Two more dimensions are the same for all classes, with noise of sd ``nuisance``: knowing that they say nothing is what
    can be learned across tasks.
    """

    name = "clusters"
    input_shape = (FEATURES,)

    def __init__(
        self, split: str, ways: int, shots: int, queries: int, nuisance: float = 0.3, num_classes: int = 12
    ) -> None:
        self.split, self.ways, self.shots, self.queries = split, ways, shots, queries
        self.num_classes, self.output_size = num_classes, ways
        self.centres = random_keys.normal(torch.tensor(7), (num_classes, FEATURES), _CENTRES)
        self.centres[:, 2:] = 0
        self.sd = torch.tensor([0.2, 0.2, nuisance, nuisance])

    def from_keys(self, keys: Tensor) -> Task:
        classes = random_keys.permutation(keys, len(self.centres), _CLASSES)[:, : self.ways]
        support, query = (
            self._side(keys, classes, each, salt) for each, salt in ((self.shots, _SUPPORT), (self.queries, _QUERY))
        )
        return Task(support, query, "cross_entropy", classes, self.num_classes, random_keys.fold(keys, _NOISE))

    def _side(self, keys: Tensor, classes: Tensor, each: int, salt: int) -> Examples:
        y = torch.arange(self.ways).repeat(each).expand(len(keys), -1).contiguous()
        x = self.centres[classes.gather(1, y)]
        noise = random_keys.normal(keys, tuple(x.shape[1:]), salt)
        return Examples(x + self.sd * noise, y)

    def default_model(self) -> nn.Module:
        return il.models.mlp(FEATURES, self.ways, hidden=(16,), activation="tanh")


def clusters(ways: int = 3, shots: int = 2, queries: int = 2, nuisance: float = 0.3) -> TaskFamily:
    train, valid, test = (Clusters(split, ways, shots, queries, nuisance) for split in ("train", "valid", "test"))
    return TaskFamily("clusters", train, valid, test, {"ways": ways, "shots": shots, "queries": queries})


class ShuffledQueryLabels(Clusters):
    """Clusters whose query labels say nothing: nobody can be right more often than by chance."""

    def from_keys(self, keys: Tensor) -> Task:
        task = super().from_keys(keys)
        drawn = random_keys.integers(keys, self.ways, (task.query.y.shape[1],), salt=99)
        return dataclasses.replace(task, query=Examples(task.query.x, drawn))


class RotatedNames(Clusters):
    """Clusters with the local label names moved on by one, in support and query alike."""

    def from_keys(self, keys: Tensor) -> Task:
        task = super().from_keys(keys)
        sides = (Examples(side.x, (side.y + 1) % self.ways) for side in (task.support, task.query))
        support, query = sides
        assert task.class_ids is not None
        return dataclasses.replace(task, support=support, query=query, class_ids=task.class_ids.roll(1, -1))
