"""Tasks drawn from the rows of tables: which task, which classes, which rows, all from the task's key."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution
from innerloop.data.table_preprocessing import LIMIT, TablePreprocessing
from innerloop.data.table_support import scaled, support_scales
from innerloop.errors import InputError

_TASK, _CLASSES, _ROWS, _NOISE = range(1, 5)
_LAST = torch.iinfo(torch.int64).max


class TableGroup(NamedTuple):
    """The rows of one task.

    Attributes:
        name: of the task.
        x: encoded rows, NaN where a number is missing; tasks of classes may share them.
        y: regression targets (rows, targets), or None.
        classes: class name -> positions of its rows, or None for regression; `few` classes of one row are left out before.
    """

    name: str
    x: Float[np.ndarray, "rows width"]
    y: Float[np.ndarray, "rows targets"] | None = None
    classes: dict[str, np.ndarray] | None = None


class _Pools(NamedTuple):
    """What drawing looks up, on one device. A pool is a set of rows to draw from: a task's, or those of a class of a task.

    Attributes:
        values: all encoded rows, one after another.
        starts, widths: of each row in ``values``.
        y: (rows, targets) or labels are by pool.
        members: rows of all pools, one pool after another.
        pool_starts, pool_sizes: of each pool in ``members``.
        pools_of: (tasks, most classes) numbers of the pools, -1 for padding.
        numbers: the global class of each pool.
    """

    values: Tensor
    starts: Tensor
    widths: Tensor
    y: Tensor
    members: Tensor
    pool_starts: Tensor
    pool_sizes: Tensor
    pools_of: Tensor
    numbers: Tensor


class TableTasks(TaskDistribution):
    """Tasks whose support and query sets are different rows of one group of rows.

    A task is a group, all equally likely; its rows are drawn without replacement. For classification ``ways`` classes are
    drawn (all, in random order, where a task has fewer) and of each ``shots`` support and ``queries`` query rows. Where a
    group or class has fewer rows, the support set gets at most all but one, the query set what is left, and masks say which
    rows are padding.

    Args:
        groups: the tasks of this split.
        record: how their rows were encoded, and what the support sets scale.
        name, split: what and which.
        ways: classes of a task; 0 for regression.
        shots, queries: support and query rows of a task, for classification of each of its classes.
        by_table: classes of the same name in two tasks are two classes.

    Raises:
        InputError: no tasks, or counts below 1 (2 for ways).
    """

    on_device = True

    def __init__(
        self,
        groups: Sequence[TableGroup],
        record: TablePreprocessing,
        *,
        name: str = "tables",
        split: str = "train",
        ways: int = 0,
        shots: int = 5,
        queries: int = 15,
        by_table: bool = False,
    ) -> None:
        self.name, self.split = name, split
        self._set_sizes(ways, shots, queries)
        self.record, self.preprocessing = record, record.to_dict()
        self.task_names = tuple(group.name for group in groups)
        if not groups:
            raise InputError(
                f"{name} ({split}): expected at least one task, got none; give more tasks or another split"
            )
        if record.classification:
            self.objective, self.metrics, self.output_size = "cross_entropy", ("accuracy",), ways
        else:
            self.objective, self.metrics, self.output_size = "mse", ("mse",), len(record.target_mean)
            # A deviation that is each task's own is not known here.
            if not (record.center_target and record.own_targets):
                ones = (1.0,) * self.output_size
                own = () if record.support is None else record.support.target_std
                self.target_scale = [a * b for a, b in zip(record.target_std or ones, own or ones, strict=True)]
        self.input_shape, self.scaled_by_support = (record.width,), record.scaling == "support"
        self.size = len(groups)
        self._by_device = {torch.device("cpu"): self._pools(groups, by_table)}

    def _set_sizes(self, ways: int, shots: int, queries: int) -> None:
        self.ways, self.shots, self.queries = ways, shots, queries
        for what, value, least in (("shots", shots, 1), ("queries", queries, 1), ("ways", ways or 2, 2)):
            if value < least:
                raise InputError(
                    f"{self.name} ({self.split}): {what} expected at least {least}, got {value}; raise {what}"
                )

    def resized(self, ways: int, shots: int, queries: int) -> TableTasks:
        """See `TaskDistribution.resized`; a table with fewer classes or rows gives what it has."""
        new = copy.copy(self)
        new._set_sizes(ways if self.record.classification else 0, shots, queries)
        if self.record.classification:
            most = self._by_device[torch.device("cpu")].pools_of.shape[1]
            if ways > most:
                raise InputError(
                    f"{self.name} ({self.split}): ways expected at most {most}, the classes of a table, got {ways}"
                )
            new.output_size = ways
        return new

    def _pools(self, groups: Sequence[TableGroup], by_table: bool) -> _Pools:
        names: dict[Any, int] = {}
        members, sizes, numbers, pools_of = [], [], [], []
        first, begins = 0, dict[int, int]()
        different = [group for i, group in enumerate(groups) if all(group.x is not g.x for g in groups[:i])]
        for group in different:
            begins[id(group.x)] = first
            first += len(group.x)
        for group in groups:
            first = begins[id(group.x)]
            own = {"": np.arange(len(group.x))} if group.classes is None else group.classes
            pools_of.append(range(len(sizes), len(sizes) + len(own)))
            for label, rows in own.items():
                members.append(torch.as_tensor(first + rows))
                sizes.append(len(rows))
                numbers.append(names.setdefault((group.name, label) if by_table else label, len(names)))
        self.num_classes = len(names) if self.record.classification else None
        most = max(map(len, pools_of))
        padded = torch.tensor([[*pools, *[-1] * (most - len(pools))] for pools in pools_of])
        widths = torch.cat([torch.full((len(g.x),), g.x.shape[1]) for g in different])
        targets = [torch.as_tensor(g.y) for g in groups if g.y is not None]
        return _Pools(
            values=torch.cat([torch.as_tensor(g.x, dtype=torch.float32).reshape(-1) for g in different]),
            starts=widths.cumsum(0) - widths,
            widths=widths,
            y=torch.cat(targets).to(torch.float32) if targets else torch.empty(0, 0),
            members=torch.cat(members),
            pool_starts=torch.tensor([0, *sizes[:-1]]).cumsum(0),
            pool_sizes=torch.tensor(sizes),
            pools_of=padded,
            numbers=torch.tensor(numbers),
        )

    def _on(self, device: torch.device) -> _Pools:
        """The pools on this device; copied there once."""
        found = self._by_device.get(device)
        if found is None:
            found = _Pools(*(value.to(device) for value in self._by_device[torch.device("cpu")]))
            self._by_device[device] = found
        return found

    def _chosen(self, keys: Tensor, group: Tensor, pools: _Pools) -> Int64[Tensor, "tasks ways"]:
        """The pools of each task: its classes in random order, -1 where it has fewer; for regression the one it has."""
        listed = pools.pools_of[group]
        if not self.record.classification:
            return listed
        most = listed.shape[1]
        order = random_keys.bits(keys, (most,), _CLASSES).masked_fill(listed < 0, _LAST)
        drawn = order.topk(min(self.ways, most), dim=-1, largest=False, sorted=True).indices
        chosen = listed.gather(1, drawn)
        return nn.functional.pad(chosen, (0, self.ways - chosen.shape[1]), value=-1)

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys, on the keys' device.

        x is (tasks, examples, width); y (tasks, examples) labels or (tasks, examples, targets) scaled targets.
        """
        return self.each(keys, self.which(keys))

    def which(self, keys: Int64[Tensor, " tasks"]) -> Int64[Tensor, " tasks"]:
        return random_keys.integers(keys, len(self.task_names), salt=_TASK)

    def each(self, keys: Int64[Tensor, " tasks"], numbers: Int64[Tensor, " tasks"]) -> Task:
        pools = self._on(keys.device)
        chosen = self._chosen(keys, numbers, pools)
        size = pools.pool_sizes[chosen.clamp(min=0)] * (chosen >= 0)
        shown = torch.minimum(size - 1, torch.tensor(self.shots)).clamp(min=0)
        asked = torch.minimum(size - shown, torch.tensor(self.queries))
        each = random_keys.fold(keys[:, None], torch.arange(chosen.shape[1], device=keys.device))
        largest = int(pools.pool_sizes.max())
        order = random_keys.bits(each, (largest,), _ROWS)
        order = order.masked_fill(torch.arange(largest, device=keys.device) >= size[..., None], _LAST)
        count = min(self.shots + self.queries, largest)
        drawn = order.topk(count, dim=-1, largest=False, sorted=True).indices
        zero = torch.zeros_like(shown)
        support_rows, support_mask = self._side(pools, chosen, drawn, zero, shown, self.shots)
        query_rows, query_mask = self._side(pools, chosen, drawn, shown, asked, self.queries)
        sx, qx = (self._inputs(pools, rows) for rows in (support_rows, query_rows))
        sy, qy = (
            self._targets(pools, rows, chosen, n)
            for rows, n in ((support_rows, self.shots), (query_rows, self.queries))
        )
        sx, qx, sy, qy = self._own_scales(sx, support_mask, qx, sy, qy)
        whole = bool(support_mask.all()) and bool(query_mask.all())
        support, query = (
            Examples(_quiet(x, m), _quiet(y, m), None if whole else m)
            for x, y, m in ((sx, sy, support_mask), (qx, qy, query_mask))
        )
        ids = pools.numbers[chosen.clamp(min=0)] if self.record.classification else None
        return Task(support, query, self.objective, ids, self.num_classes, noise=random_keys.fold(keys, _NOISE))

    def _side(
        self, pools: _Pools, chosen: Tensor, drawn: Tensor, first: Tensor, number: Tensor, most: int
    ) -> tuple[Int64[Tensor, "tasks examples"], Tensor]:
        """Rows of one side, ``number`` of each pool from the draw number ``first`` on; False marks padding."""
        at = torch.arange(most, device=drawn.device)
        mask = at < number[..., None]
        position = drawn.gather(2, (first[..., None] + at).clamp(max=drawn.shape[2] - 1))
        rows = pools.members[pools.pool_starts[chosen.clamp(min=0)][..., None] + position * mask]
        return rows.flatten(1), mask.flatten(1)

    def _inputs(self, pools: _Pools, rows: Tensor) -> Float[Tensor, "tasks examples raw"]:
        """Encoded rows, NaN beyond a table's own width."""
        width = int(pools.widths.max())
        at = torch.arange(width, device=rows.device)
        inside = at < pools.widths[rows][..., None]
        return pools.values[pools.starts[rows][..., None] + at * inside].masked_fill(~inside, torch.nan)

    def _targets(self, pools: _Pools, rows: Tensor, chosen: Tensor, each: int) -> Tensor:
        if not self.record.classification:
            return pools.y[rows]
        return torch.arange(chosen.shape[1], device=rows.device).repeat_interleave(each).expand(len(rows), -1)

    def _own_scales(
        self, sx: Tensor, mask: Tensor, qx: Tensor, sy: Tensor, qy: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the support set's own statistics change, as the record says."""
        record = self.record
        if record.scaling == "support":
            scales = support_scales(sx, mask, sy if record.ranked else None, record.width)
            sx, qx = scaled(sx, scales), scaled(qx, scales)
        if record.center_target:
            weight = mask.to(sy.dtype)[..., None]
            middle = (sy * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
            sy, qy = sy - middle, qy - middle
            if record.own_targets:
                spread = ((sy.square() * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)).sqrt()
                spread = torch.where(spread > 1e-6, spread, 1.0)
                sy, qy = sy / spread, (qy / spread).clamp(-LIMIT, LIMIT)
        more = record.width - sx.shape[2]
        sx, qx = (x.nan_to_num(0.0).clamp(-LIMIT, LIMIT)[..., : record.width] for x in (sx, qx))
        if more > 0:
            sx, qx = nn.functional.pad(sx, (0, more)), nn.functional.pad(qx, (0, more))
        return sx, qx, sy, qy

    def default_model(self) -> nn.Module:
        """Two hidden layers of 64, which suit a few dozen columns."""
        from innerloop import models

        return models.mlp(self.input_shape[0], self.output_size, hidden=(64, 64))


def _quiet(values: Tensor, mask: Tensor) -> Tensor:
    """Padding as zeros: whatever row stands there must not be seen."""
    return values.masked_fill(~mask.reshape(mask.shape + (1,) * (values.ndim - 2)), 0)
