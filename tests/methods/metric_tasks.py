"""Small classification tasks and nets for the tests of metric methods."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from innerloop.core import Examples, Task


def drawn(
    ways: int, shots: int, queries: int, num_tasks: int = 3, seed: int = 0, nuisance: float | None = None
) -> Task:
    """Noise around a random centre of each class, in 4 dimensions; with ``nuisance`` two of them are nothing but noise."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_tasks, ways, 4, generator=generator)
    sd = torch.full((4,), 0.3)
    if nuisance is not None:
        centres[..., 2:], sd[2:] = 0.0, nuisance

    def side(each: int) -> Examples:
        y = torch.arange(ways).repeat(each).expand(num_tasks, -1).contiguous()
        x = centres.gather(1, y[..., None].expand(-1, -1, 4))
        return Examples(x + sd * torch.randn(x.shape, generator=generator), y)

    return Task(side(shots), side(queries))


def net(batch_norm: bool = False, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), *([nn.BatchNorm1d(6)] if batch_norm else []), nn.Tanh(), nn.Linear(6, 3))


def padded(task: Task, extra: int = 3, label: int = 0, value: float = 50.0) -> Task:
    """The same tasks with examples at the end that do not count."""

    def side(s: Examples) -> Examples:
        tasks, count = s.y.shape
        x = torch.cat([s.x, torch.full((tasks, extra, *s.x.shape[2:]), value)], 1)
        y = torch.cat([s.y, torch.full((tasks, extra), label)], 1)
        return Examples(x, y, torch.arange(count + extra).expand(tasks, -1) < count)

    return dataclasses.replace(task, support=side(task.support), query=side(task.query))
