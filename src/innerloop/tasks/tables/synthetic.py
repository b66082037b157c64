"""Tables that nobody measured: rows from random networks of causes, for learners that are to read any small table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.data.table_preprocessing import LIMIT, TablePreprocessing
from innerloop.data.table_support import scaled, support_scales
from innerloop.errors import InputError
from innerloop.tasks.precision import DtypeName, dtype_named
from innerloop.tasks.split_sizes import Sizes

_CAUSES, _HIDDEN = 6, 10
(_ROWS, _FIRST, _SECOND, _KIND, _NODES, _COARSE, _BLUR, _STRAY, _USED, _MIX, _LABEL_NOISE, _FOLD, _NAMES, _ORDER,
 _SALT_NOISE, _WAYS, _SHOTS, _EVEN) = range(1, 19)  # fmt: skip


class SyntheticTableTasks(TaskDistribution):
    """Tasks of rows of a table that each task makes up; see `synthetic_tables`."""

    objective = "cross_entropy"
    metrics: tuple[str, ...] = ("accuracy",)
    name = "synthetic_tables"
    scaled_by_support = True
    split: str
    ways: int
    shots: int
    queries: int
    columns: int
    coarse: float
    dtype: torch.dtype | None
    input_shape: tuple[int, ...]
    output_size: int

    def __init__(
        self,
        *,
        split: str,
        ways: int,
        shots: int,
        queries: int,
        columns: int,
        coarse: float,
        fewest_ways: int | None = None,
        fewest_shots: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.fewest_ways: int = ways if fewest_ways is None else fewest_ways
        self.fewest_shots: int = shots if fewest_shots is None else fewest_shots
        sizes = (("ways", ways, 2), ("shots", shots, 1), ("queries", queries, 1), ("columns", columns, 2))
        for what, value, least in sizes:
            if value < least:
                raise InputError(f"synthetic_tables ({split}): {what} expected at least {least}, got {value}; raise it")
        if not 0 <= coarse <= 1:
            raise InputError(
                f"synthetic_tables ({split}): coarse expected a share from 0 to 1, got {coarse}; change it"
            )
        for what, fewest, most in (("fewest_ways", fewest_ways, ways), ("fewest_shots", fewest_shots, shots)):
            if fewest is not None and not (2 if what == "fewest_ways" else 1) <= fewest <= most:
                raise InputError(
                    f"synthetic_tables ({split}): {what} expected {2 if what == 'fewest_ways' else 1} to {most}, got {fewest}; "
                    "change it"
                )
        self.split, self.ways, self.shots, self.queries, self.columns = split, ways, shots, queries, columns
        self.coarse, self.dtype, self.input_shape, self.output_size = coarse, dtype, (columns,), ways
        record = TablePreprocessing(
            columns=None,
            targets=(),
            classification=True,
            width=columns,
            target_mean=(),
            target_std=(),
            scaling="support",
            center_target=False,
            ranked=True,
        )
        # So that a table of anybody's may be the support of a new task.
        self.preprocessing: Mapping[str, Any] | None = record.to_dict()

    def resized(self, ways: int, shots: int, queries: int) -> SyntheticTableTasks:
        """See `TaskDistribution.resized`."""
        return SyntheticTableTasks(
            split=self.split,
            ways=ways,
            shots=shots,
            queries=queries,
            columns=self.columns,
            coarse=self.coarse,
            dtype=self.dtype,
        )

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys; x (tasks, examples, columns), y (tasks, examples)."""
        each = self.shots + self.queries
        nodes = self._nodes(keys, self.ways * each)
        x = self._cells(keys, nodes)
        # Equal shares of the rows are a class, so that each has as many as are drawn.
        rank = torch.argsort(torch.argsort(self._score(keys, nodes), dim=-1), dim=-1)
        names = random_keys.permutation(keys, self.ways, _NAMES)
        ways, mask, asked_mask = self._sizes(keys, names)
        label = names.gather(1, rank * ways[:, None] // (self.ways * each))
        shuffled = random_keys.permutation(keys, self.ways * each, _ORDER)
        rows = shuffled.gather(1, torch.argsort(label.gather(1, shuffled), dim=-1, stable=True))
        if mask is not None:  # classes of fewer, larger shares begin elsewhere
            counts = (label[:, :, None] == torch.arange(self.ways, device=keys.device)).sum(1)
            first = counts.cumsum(1) - counts
            rows = rows.gather(
                1,
                (first[..., None] + torch.arange(each, device=keys.device)).flatten(1).clamp(max=self.ways * each - 1),
            )
        rows = rows.reshape(len(keys), self.ways, each)
        dtype = self.dtype or torch.get_default_dtype()
        support, query = (
            x.gather(1, own.flatten(1)[..., None].expand(-1, -1, self.columns))
            for own in (rows[..., : self.shots], rows[..., self.shots :])
        )
        sy, qy = (
            torch.arange(self.ways, device=keys.device).repeat_interleave(n).expand(len(keys), -1).contiguous()
            for n in (self.shots, self.queries)
        )
        scales = support_scales(support, torch.ones_like(sy, dtype=torch.bool) if mask is None else mask, sy)
        shown, asked = (
            Examples(scaled(v, scales).clamp(-LIMIT, LIMIT).to(dtype) * (1 if own is None else own[..., None]), y, own)
            for v, y, own in ((support, sy, mask), (query, qy, asked_mask))
        )
        return Task(shown, asked, self.objective, noise=random_keys.fold(keys, _SALT_NOISE))

    def _sizes(self, keys: Tensor, names: Tensor) -> tuple[Int64[Tensor, " tasks"], Tensor | None, Tensor | None]:
        """How many classes each task has, and which rows of either side count, (tasks, rows); None: all."""
        ways = self.fewest_ways + random_keys.integers(keys, self.ways - self.fewest_ways + 1, salt=_WAYS)
        if (self.fewest_ways, self.fewest_shots) == (self.ways, self.shots):
            return ways, None, None
        there = torch.zeros_like(names, dtype=torch.bool)
        there.scatter_(1, names, torch.arange(self.ways, device=keys.device) < ways[:, None])
        share = random_keys.uniform(keys, (self.ways,), _SHOTS, torch.float64)
        even = random_keys.uniform(keys, (1,), _EVEN) < 0.5  # in half of the tasks all classes have equally many
        ratio = ((self.shots + 1) / self.fewest_shots) ** torch.where(even, share[:, :1], share)
        shots = (self.fewest_shots * ratio).to(torch.int64).clamp(max=self.shots)
        mask = there[..., None] & (torch.arange(self.shots, device=keys.device) < shots[..., None])
        return ways, mask.flatten(1), there.repeat_interleave(self.queries, 1)

    def _nodes(self, keys: Tensor, rows: int) -> Float[Tensor, "tasks rows nodes"]:
        """Causes, and two layers of what they lead to, each node with a shape of its own."""
        causes = random_keys.normal(keys, (rows, _CAUSES), _ROWS, torch.float64)
        first = self._led_to(keys, causes, _FIRST)
        return torch.cat([causes, first, self._led_to(keys, first, _SECOND)], -1)

    def _led_to(self, keys: Tensor, x: Tensor, salt: int) -> Tensor:
        own = random_keys.fold(keys, salt)
        weights = random_keys.normal(own, (x.shape[-1], _HIDDEN), 1, torch.float64)
        weights = weights * (random_keys.uniform(own, (x.shape[-1], _HIDDEN), 2, torch.float64) < 0.4)
        bias = random_keys.normal(own, (1, _HIDDEN), 3, torch.float64)
        # Sums and not a matrix product: the same to the last bit whatever the number of tasks.
        sums = (x[..., None] * weights[:, None]).sum(-2) + bias
        kind = random_keys.integers(own, 4, (1, _HIDDEN), _KIND)
        shapes = (sums, torch.tanh(2 * sums), sums.abs(), torch.sign(sums) + 0.1 * sums)  # the last as a tree's split
        return sum(torch.where(kind == i, shape, 0.0) for i, shape in enumerate(shapes))  # type: ignore[return-value]

    def _cells(self, keys: Tensor, nodes: Tensor) -> Float[Tensor, "tasks rows columns"]:
        """Columns: blurred nodes, some rounded to a few values, some nothing but noise, zeros beyond the table's width."""
        shape = (self.columns,)
        node = random_keys.integers(keys, nodes.shape[-1], shape, _NODES)
        x = nodes.gather(2, node[:, None].expand(-1, nodes.shape[1], -1))
        blur = random_keys.uniform(keys, shape, _BLUR, torch.float64)[:, None]
        noise = random_keys.normal(keys, tuple(x.shape[1:]), _BLUR, torch.float64)
        stray = (random_keys.uniform(keys, shape, _STRAY) < 0.2)[:, None]
        x = torch.where(stray, noise, x + blur * noise)
        coarse = random_keys.uniform(keys, shape, _COARSE)[:, None]
        few = torch.where(coarse < self.coarse / 2, torch.round(x), (x > 0).to(x.dtype))
        x = torch.where(coarse < self.coarse, few, x)
        used = 2 + random_keys.integers(keys, self.columns - 1, salt=_USED)
        return torch.where(torch.arange(self.columns, device=x.device) < used[:, None, None], x, 0.0)

    def _score(self, keys: Tensor, nodes: Tensor) -> Float[Tensor, "tasks rows"]:
        """What the classes are cut from: a few nodes, folded in some tasks so that a class lies on both sides of another."""
        weights = random_keys.normal(keys, nodes.shape[-1:], _MIX, torch.float64)
        weights = weights * (random_keys.uniform(keys, nodes.shape[-1:], _MIX, torch.float64) < 0.15)
        score = (nodes * weights[:, None]).sum(-1)
        middle = score.mean(-1, keepdim=True)
        spread = (score - middle).square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
        score = (score - middle) / spread
        folded = random_keys.uniform(keys, (1,), _FOLD) < 0.25
        score = torch.where(folded, torch.cos(math.pi * score), score)
        amount = random_keys.uniform(keys, (1,), _LABEL_NOISE, torch.float64)
        return score + 0.5 * amount * random_keys.normal(keys, score.shape[1:], _LABEL_NOISE, torch.float64)

    def default_model(self) -> nn.Module:
        """Two hidden layers of 64, as for a user's tables."""
        from innerloop import models

        return models.mlp(self.columns, self.ways, hidden=(64, 64))


def synthetic_tables(
    *,
    ways: int = 3,
    shots: int = 5,
    queries: int = 15,
    train_ways: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    columns: int = 16,
    coarse: float = 0.5,
    fewest_ways: int | None = None,
    fewest_shots: int | None = None,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Classification of rows of random tables, a new one for each task, so that there is no end of them.

    Each task draws a small network of causes (6 normal causes, two layers of 10 nodes that are linear, saturated, folded or
    split), columns that show some of its nodes, blurred, in part rounded to a few values or nothing but noise, and classes
    that are cut from a mixture of a few nodes, with noise, into equal shares. Between 2 and ``columns`` columns are used;
    the most telling come first and zeros fill up. Rows are scaled by the support set, as tables of different columns are. A
    learner that was trained on it takes anybody's table as the support of a new task, with at most ``columns`` used and, of
    methods with one output a class, at most ``ways`` classes.

    A prior in the spirit of Hollmann et al. 2023, "TabPFN", arXiv:2207.01848, much smaller. The splits differ in their keys.

    Args:
        ways: classes of a task.
        shots, queries: rows of a task's support and query set, of each class.
        train_ways, train_shots, train_queries: those of training tasks, where they differ.
        columns: width of a row, at least 2.
        fewest_ways: classes of a task are between these and ``ways``; None: all have ``ways``.
        fewest_shots: support rows of a class are between these and ``shots``, few as often as many, alike for all classes of
            half of the tasks; None: all have ``shots``.
        coarse: share of the columns that have a few values only: half of them two, half of them rounded.
        dtype: of x, "float32" or "float64"; None: torch's default.

    Raises:
        InputError: ways or columns below 2, shots or queries below 1, fewest above their most, a share that is none.
    """
    sizes = Sizes(ways, shots, queries, train_ways, train_shots, train_queries)
    options = {
        **sizes._asdict(),
        "columns": columns,
        "coarse": coarse,
        **({} if fewest_ways is None else {"fewest_ways": fewest_ways}),
        **({} if fewest_shots is None else {"fewest_shots": fewest_shots}),
        "dtype": dtype,
    }

    def distribution(split: str) -> SyntheticTableTasks:
        return SyntheticTableTasks(
            split=split,
            **sizes.of(split),
            columns=columns,
            coarse=coarse,
            fewest_ways=fewest_ways,
            fewest_shots=fewest_shots,
            dtype=dtype_named(dtype),
        )

    return TaskFamily.by_split("synthetic_tables", distribution, options)
