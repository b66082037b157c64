"""Tasks drawn from the rows of tables: which task, which classes, which rows, all from the task's key."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution
from innerloop.data.table_preprocessing import LIMIT, TablePreprocessing
from innerloop.data.table_support import scaled, support_scales
from innerloop.errors import ConfigError, InputError
from innerloop.tasks.row_draws import DrawSizes, RowDraws, quiet

_NOISE = 4


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


class _Rows(NamedTuple):
    """The rows of all tasks, on one device.

    Attributes:
        values: encoded rows, one after another.
        starts, widths: of each row in ``values``.
        y: (rows, targets); empty for classes.
    """

    values: Tensor
    starts: Tensor
    widths: Tensor
    y: Tensor


class TableTasks(TaskDistribution):
    """Tasks whose support and query sets are different rows of one group of rows.

    A task is a group, all equally likely; see `RowDraws` for which of its rows are shown.

    Args:
        groups: the tasks of this split.
        record: how their rows were encoded, and what the support sets scale.
        name, split: what and which.
        sizes: how many rows of a task are shown and asked for.
        by_table: classes of the same name in two tasks are two classes.

    Raises:
        InputError: no tasks, or counts below 1 (2 for ways).
    """

    on_device = True
    name: str
    split: str
    record: TablePreprocessing
    preprocessing: Mapping[str, Any] | None
    draws: RowDraws
    objective: str
    metrics: tuple[str, ...]
    output_size: int
    target_offset: Sequence[float] | None
    input_shape: tuple[int, ...]
    scaled_by_support: bool
    size: int | None
    one_draw: bool
    target_scale: Sequence[float] | None

    def __init__(
        self,
        groups: Sequence[TableGroup],
        record: TablePreprocessing,
        *,
        sizes: DrawSizes,
        name: str = "tables",
        split: str = "train",
        by_table: bool = False,
    ) -> None:
        self.name, self.split = name, split
        sizes.check(f"{name} ({split})")
        self.record, self.preprocessing = record, record.to_dict()
        self.task_names: tuple[str, ...] = tuple(group.name for group in groups)
        if not groups:
            raise InputError(
                f"{name} ({split}): expected at least one task, got none; give more tasks or another split"
            )
        self._by_device, self.draws = self._rows(groups, by_table, sizes)
        if record.classification:
            ways = sizes.ways if sizes.support_size is None else max(sizes.ways, self.draws.most_classes)
            self.objective, self.metrics, self.output_size = "cross_entropy", ("accuracy",), ways
        else:
            self.objective, self.metrics, self.output_size = "mse", ("mse",), len(record.target_mean)
            # A deviation that is each task's own is not known here.
            if not (record.center_target and record.own_targets):
                ones = (1.0,) * self.output_size
                own = () if record.support is None else record.support.target_std
                self.target_scale = [a * b for a, b in zip(record.target_std or ones, own or ones, strict=True)]
            if record.scale and not record.center_target:
                self.metrics, self.target_offset = ("mae", "ndcg"), list(record.target_mean)
        self.input_shape, self.scaled_by_support = (record.width,), record.scaling == "support"
        self.item_columns: int = len(record.items)
        self.size, self.one_draw = len(groups), sizes.ordered

    @property
    def ways(self) -> int:
        """Classes of a task; 0 for values."""
        return self.output_size if self.record.classification else 0

    @property
    def shots(self) -> int:
        """Support rows of a task, for classification of each class, on average."""
        return self.draws.sizes.each

    @property
    def queries(self) -> int | None:
        """Query rows likewise, of the whole task beside a support size; None: all the rest."""
        return self.draws.sizes.queries

    def resized(self, ways: int, shots: int, queries: int) -> TableTasks:
        """See `TaskDistribution.resized`; a table with fewer classes or rows gives what it has."""
        new = copy.copy(self)
        new.draws = self.draws.resized(f"{self.name} ({self.split})", ways, shots, queries)
        new.one_draw = new.draws.sizes.ordered
        if self.record.classification:
            new.output_size = ways
        return new

    def _rows(
        self, groups: Sequence[TableGroup], by_table: bool, sizes: DrawSizes
    ) -> tuple[dict[torch.device, _Rows], RowDraws]:
        names: dict[Any, int] = {}
        pools, numbers = [], []
        first, begins = 0, dict[int, int]()
        different = list({id(group.x): group for group in groups}.values())
        for group in different:
            begins[id(group.x)] = first
            first += len(group.x)
        for group in groups:
            first = begins[id(group.x)]
            own = {"": np.arange(len(group.x))} if group.classes is None else group.classes
            pools.append([first + rows for rows in own.values()])
            numbers.append([names.setdefault((group.name, label) if by_table else label, len(names)) for label in own])
        self.num_classes: int | None = len(names) if self.record.classification else None
        widths = torch.cat([torch.full((len(g.x),), g.x.shape[1]) for g in different])
        targets = [torch.as_tensor(g.y) for g in groups if g.y is not None]
        rows = _Rows(
            values=torch.cat([torch.as_tensor(g.x, dtype=torch.float32).reshape(-1) for g in different]),
            starts=widths.cumsum(0) - widths,
            widths=widths,
            y=torch.cat(targets).to(torch.float32) if targets else torch.empty(0, 0),
        )
        draws = RowDraws(pools, numbers if self.record.classification else None, sizes)
        return {torch.device("cpu"): rows}, draws

    def _on(self, device: torch.device) -> _Rows:
        """The rows on this device; copied there once."""
        found = self._by_device.get(device)
        if found is None:
            found = _Rows(*(value.to(device) for value in self._by_device[torch.device("cpu")]))
            self._by_device[device] = found
        return found

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys, on the keys' device.

        x is (tasks, examples, width); y (tasks, examples) labels or (tasks, examples, targets) scaled targets.
        """
        return self.each(keys, self.which(keys))

    def which(self, keys: Int64[Tensor, " tasks"]) -> Int64[Tensor, " tasks"]:
        return self.draws.which(keys)

    def each(self, keys: Int64[Tensor, " tasks"], numbers: Int64[Tensor, " tasks"]) -> Task:
        rows, drawn = self._on(keys.device), self.draws.draw(keys, numbers)
        sx, qx = (self._inputs(rows, own) for own in (drawn.support, drawn.query))
        if self.record.classification:
            sy, qy = drawn.support_labels, drawn.query_labels
        else:
            sy, qy = rows.y[drawn.support], rows.y[drawn.query]
        sx, qx, sy, qy = self._own_scales(sx, drawn.support_mask, qx, sy, qy)
        whole = bool(drawn.support_mask.all()) and bool(drawn.query_mask.all())
        support, query = (
            Examples(quiet(x, m), quiet(y, m), None if whole else m)
            for x, y, m in ((sx, sy, drawn.support_mask), (qx, qy, drawn.query_mask))
        )
        return Task(
            support, query, self.objective, drawn.classes, self.num_classes, noise=random_keys.fold(keys, _NOISE)
        )

    def _inputs(self, pools: _Rows, rows: Tensor) -> Float[Tensor, "tasks examples raw"]:
        """Encoded rows, NaN beyond a table's own width."""
        width = int(pools.widths.max())
        at = torch.arange(width, device=rows.device)
        inside = at < pools.widths[rows][..., None]
        return pools.values[pools.starts[rows][..., None] + at * inside].masked_fill(~inside, torch.nan)

    def _own_scales(
        self, sx: Tensor, mask: Tensor, qx: Tensor, sy: Tensor, qy: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the support set's own statistics change, as the record says."""
        record, items = self.record, self.item_columns
        named = [x[..., :items] for x in (sx, qx)]
        sx, qx = sx[..., items:], qx[..., items:]
        width = record.width - items
        if record.scaling == "support":
            scales = support_scales(sx, mask, sy if record.ranked else None, width)
            sx, qx = scaled(sx, scales), scaled(qx, scales)
        if record.center_target:
            weight = mask.to(sy.dtype)[..., None]
            middle = (sy * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
            sy, qy = sy - middle, qy - middle
            if record.own_targets:
                spread = ((sy.square() * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)).sqrt()
                spread = torch.where(spread > 1e-6, spread, 1.0)
                sy, qy = sy / spread, (qy / spread).clamp(-LIMIT, LIMIT)
        more = width - sx.shape[2]
        sx, qx = (x.nan_to_num(0.0).clamp(-LIMIT, LIMIT)[..., :width] for x in (sx, qx))
        if more > 0:
            sx, qx = nn.functional.pad(sx, (0, more)), nn.functional.pad(qx, (0, more))
        if items:
            sx, qx = (torch.cat(parts, -1) for parts in zip(named, (sx, qx), strict=True))
        return sx, qx, sy, qy

    def default_model(self) -> nn.Module:
        """Two hidden layers of 64, which suit a few dozen columns; behind vectors of the items, where columns name such."""
        from innerloop import models

        if self.item_columns:
            return models.items_mlp(self.input_shape[0], self.output_size, **self.model_options, hidden=(64, 64))
        return models.mlp(self.input_shape[0], self.output_size, hidden=(64, 64))

    @property
    def model_options(self) -> dict[str, Any]:
        """What a model has to know of the inputs: of each column of items how many there are."""
        return {"items": self.record.items} if self.item_columns else {}

    def prepared(self, net: nn.Module) -> nn.Module:
        """The model, where it takes numbers of items for what they are.

        Raises:
            ConfigError: it would take them for quantities.
        """
        from innerloop import models

        if self.item_columns and getattr(net, "items", None) != self.record.items:
            known = (models.describe(net) or {"name": type(net).__name__})["name"]
            raise ConfigError(
                f"{self.name}: expected a model that knows items, as item_column names such, got {known}, which would take their "
                "numbers for quantities; leave --model out, or say --model items_mlp"
            )
        return net
