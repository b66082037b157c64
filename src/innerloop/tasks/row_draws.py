"""Which rows a task shows and which it asks for: a pure function of the task's key and number, whatever the rows hold.

Two ways to fill a support set: *shots* rows of each class, drawn at random, or *support_size* rows of the whole task, in which
the classes are as frequent as in the task itself (stratified). With ordered rows the first are shown, later ones asked for.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.errors import ConfigError, InputError

_TASK, _CLASSES, _ROWS = range(1, 4)
_LAST = torch.iinfo(torch.int64).max
MOST_TRAINED = 256  # query rows of a training task, where all the rest would be asked for


@dataclasses.dataclass(frozen=True)
class DrawSizes:
    """How many rows a task shows and asks for.

    Attributes:
        ways: classes of a task; 0 for values.
        shots: support rows of each class, or of the task where it has values; of no meaning beside ``support_size``.
        queries: query rows likewise; beside ``support_size`` of the whole task, None: all the rest.
        support_size: support rows of the whole task, its classes as frequent as in the task; None: by ``shots``.
        ordered: rows come in order: the first are shown, those right after them asked for.
    """

    ways: int
    shots: int
    queries: int | None
    support_size: int | None = None
    ordered: bool = False

    @property
    def each(self) -> int:
        """Support rows of each class, on average; of the task where it has values."""
        return self.shots if self.support_size is None else max(1, self.support_size // max(1, self.ways))

    def shows_all(self, classes: Iterable[np.ndarray]) -> bool:
        """Whether the first rows of a task, which are shown where rows come in order, have one of each of its classes."""
        if not self.ordered or self.support_size is None:
            return True
        own = list(classes)
        return all(int(places.min()) < min(self.support_size, sum(map(len, own)) - 1) for places in own)

    def check(self, what: str) -> None:
        """Raise InputError for counts that are too small, ConfigError for some that do not go together."""
        least = {"shots": 1, "queries": 1, "ways": 2, "support_size": 1}
        values = {name: getattr(self, name) for name in least if name != "ways" or self.ways}
        for name, value in values.items():
            if value is not None and not isinstance(value, Integral):
                raise ConfigError(f"{what}: {name} expected a whole number, got {value!r}; round it")
            if value is not None and value < least[name]:
                raise InputError(f"{what}: {name} expected at least {least[name]}, got {value}; raise {name}")
        if self.ordered and self.ways and self.support_size is None:
            raise ConfigError(
                f"{what}: rows in order expected support_size, the number of first rows to show, got shots of each class; give "
                "support_size"
            )
        if self.queries is None and self.support_size is None:
            raise ConfigError(f"{what}: queries expected a number beside shots, got none; give it, or support_size")


def sizes_of(split: str, ways: int, options: Mapping[str, Any], *, ordered: bool = False) -> DrawSizes:
    """The sizes that a problem's options ask for: ways, shots, queries, support_size, and train_ways, train_shots, train_queries.

    Raises:
        ConfigError: shots beside support_size.
    """
    size = options.get("support_size")
    if size is not None and options.get("shots") is not None:
        raise ConfigError(
            f"expected shots (of each class) or support_size (of the whole task), got both ({options['shots']} and {size}); "
            "leave one out"
        )
    if size is not None and options.get("ways") is not None:
        raise ConfigError(
            f"ways expected shots beside it, got support_size={size}, which shows all classes; leave ways out"
        )
    own = {name: options.get(f"train_{name}") if split == "train" else None for name in ("ways", "shots", "queries")}
    ways = own["ways"] or ways
    queries = options.get("queries") if own["queries"] is None else own["queries"]
    if size is None:
        shots = options.get("shots") if own["shots"] is None else own["shots"]
        return DrawSizes(ways, 5 if shots is None else shots, 15 if queries is None else queries, ordered=ordered)
    if own["shots"] is not None:
        size = own["shots"] * max(ways, 1)
    if queries is None and split == "train":
        queries = MOST_TRAINED
    return DrawSizes(ways, 1, queries, size, ordered)


class Drawn(NamedTuple):
    """The rows of a batch of tasks; False in a mask marks padding.

    Attributes:
        support, query: row numbers, (tasks, rows).
        support_mask, query_mask: which count.
        support_labels, query_labels: the class of each row among the task's own; zeros for values.
        classes: (tasks, ways) global class numbers of the task's own classes; None for values.
    """

    support: Int64[Tensor, "tasks support"]
    support_mask: Bool[Tensor, "tasks support"]
    support_labels: Int64[Tensor, "tasks support"]
    query: Int64[Tensor, "tasks query"]
    query_mask: Bool[Tensor, "tasks query"]
    query_labels: Int64[Tensor, "tasks query"]
    classes: Int64[Tensor, "tasks ways"] | None


class _Pools(NamedTuple):
    """What drawing looks up, on one device. A pool is a set of rows to draw from: a task's, or those of a class of a task.

    Attributes:
        members: rows of all pools, one pool after another.
        pool_starts, pool_sizes: of each pool in ``members``.
        pools_of: (tasks, most classes) numbers of the pools, -1 for padding.
        numbers: the global class of each pool.
        whole: rows of all tasks, one task after another, in ascending order.
        whole_class: which of its task's pools each is in.
        whole_starts, whole_sizes: of each task in ``whole``.
        quota: (tasks, most classes) support rows of each class, where they follow the task's own frequencies.
    """

    members: Tensor
    pool_starts: Tensor
    pool_sizes: Tensor
    pools_of: Tensor
    numbers: Tensor
    whole: Tensor
    whole_class: Tensor
    whole_starts: Tensor
    whole_sizes: Tensor
    quota: Tensor


class RowDraws:
    """Support and query rows of finitely many tasks, drawn without replacement.

    With ``shots``, ``ways`` classes are drawn (all, in random order, where a task has fewer), and of each the rows. With
    ``support_size`` a task has all of its classes. Where a class or task has too few rows, the support set gets at most all but
    one, the query set what is left.

    Args:
        pools: of each task the rows of each of its classes, or all of its rows for values.
        numbers: the global number of each of these classes; None for values.
        sizes: how many rows.
    """

    def __init__(
        self, pools: Sequence[Sequence[np.ndarray]], numbers: Sequence[Sequence[int]] | None, sizes: DrawSizes
    ) -> None:
        self.sizes = sizes
        self._pools = pools
        self.most_classes: int = max(map(len, pools))
        flat = [rows for own in pools for rows in own]
        lengths = [len(rows) for rows in flat]
        listed: list[list[int]] = []
        for own in pools:
            first = listed[-1][-1] + 1 if listed else 0
            listed.append(list(range(first, first + len(own))))
        known = [n for own in numbers for n in own] if numbers is not None else [0] * len(flat)
        self.classification: bool = numbers is not None
        self.num_classes: int | None = max(known) + 1 if self.classification else None
        orders = [np.argsort(np.concatenate(own), kind="stable") for own in pools]
        self._largest = max(lengths)
        self._largest_task = max(map(len, orders))
        self.cpu: torch.device = torch.device("cpu")
        self._by_device = {
            self.cpu: _Pools(
                members=torch.as_tensor(np.concatenate(flat)),
                pool_starts=torch.tensor([0, *lengths[:-1]]).cumsum(0),
                pool_sizes=torch.tensor(lengths),
                pools_of=torch.tensor([[*own, *[-1] * (self.most_classes - len(own))] for own in listed]),
                numbers=torch.tensor(known),
                whole=torch.as_tensor(
                    np.concatenate([np.concatenate(own)[o] for own, o in zip(pools, orders, strict=True)])
                ),
                whole_class=torch.as_tensor(
                    np.concatenate(
                        [
                            np.repeat(np.arange(len(own)), [len(r) for r in own])[o]
                            for own, o in zip(pools, orders, strict=True)
                        ]
                    )
                ),
                whole_starts=torch.tensor([0, *(len(o) for o in orders[:-1])]).cumsum(0),
                whole_sizes=torch.tensor([len(o) for o in orders]),
                quota=self._quota(),
            )
        }

    def __len__(self) -> int:
        return len(self._pools)

    def resized(self, what: str, ways: int, shots: int, queries: int) -> RowDraws:
        """The same rows, so many of each class; values stay in their order.

        Raises:
            InputError: counts that are too small, or more ways than a task has classes.
        """
        classes = self.classification
        sizes = DrawSizes(ways if classes else 0, shots, queries, ordered=self.sizes.ordered and not classes)
        sizes.check(what)
        if classes and ways > self.most_classes:
            raise InputError(
                f"{what}: ways expected at most {self.most_classes}, the classes of a task, got {ways}; lower ways"
            )
        new = copy.copy(self)
        new.sizes = sizes
        new._by_device = {self.cpu: self._by_device[self.cpu]._replace(quota=new._quota())}
        return new

    def _quota(self) -> Tensor:
        """Support rows of each class of each task, (tasks, most classes), where the task's own frequencies say it."""
        size = self.sizes.support_size
        found = torch.zeros(len(self._pools), self.most_classes, dtype=torch.int64)
        if size is None:
            return found
        for i, own in enumerate(self._pools):
            shares = stratified([len(rows) for rows in own], size)
            if 0 in shares and self.classification and not self.sizes.ordered:
                raise InputError(
                    f"support_size expected at least {len(own)}, a row of each class of a task, got {size}; raise it"
                )
            found[i, : len(own)] = torch.as_tensor(shares)
        return found

    def on(self, device: torch.device) -> _Pools:
        """The pools on this device; copied there once."""
        found = self._by_device.get(device)
        if found is None:
            found = _Pools(*(value.to(device) for value in self._by_device[self.cpu]))
            self._by_device[device] = found
        return found

    def which(self, keys: Int64[Tensor, " tasks"]) -> Int64[Tensor, " tasks"]:
        """The number of each key's task; all are equally likely."""
        return random_keys.integers(keys, len(self), salt=_TASK)

    def draw(self, keys: Int64[Tensor, " tasks"], tasks: Int64[Tensor, " tasks"]) -> Drawn:
        """Rows of the tasks of these numbers."""
        return self._by_class(keys, tasks) if self.sizes.support_size is None else self._in_total(keys, tasks)

    def _chosen(self, keys: Tensor, tasks: Tensor, pools: _Pools, ways: int) -> Int64[Tensor, "tasks ways"]:
        """The pools of each task: its classes in random order, -1 where it has fewer; for values the one it has."""
        listed = pools.pools_of[tasks]
        if not self.classification:
            return listed
        most = listed.shape[1]
        # A random order is random numbers, sorted; padding gets the largest number, so it comes last and is never drawn before a
        # class. The smallest few are enough.
        order = random_keys.bits(keys, (most,), _CLASSES).masked_fill(listed < 0, _LAST)
        drawn = order.topk(min(ways, most), dim=-1, largest=False, sorted=True).indices
        chosen = listed.gather(1, drawn)
        return nn.functional.pad(chosen, (0, ways - chosen.shape[1]), value=-1)

    # ---- so many of each class ---------------------------------------------------------------------------------------
    def _by_class(self, keys: Tensor, tasks: Tensor) -> Drawn:
        pools, shots, queries = self.on(keys.device), self.sizes.shots, self.sizes.queries
        assert queries is not None  # `DrawSizes.check`
        chosen = self._chosen(keys, tasks, pools, self.sizes.ways)
        size = pools.pool_sizes[chosen.clamp(min=0)] * (chosen >= 0)
        # Of two rows or more one is asked for at least; a single one is shown.
        shown = torch.minimum((size - 1).clamp(min=1), torch.tensor(shots)) * (size > 0)
        asked = torch.minimum(size - shown, torch.tensor(queries))
        largest = self._largest
        if self.sizes.ordered:
            order = torch.arange(largest, device=keys.device).expand(*chosen.shape, largest)
        else:
            each = random_keys.fold(keys[:, None], torch.arange(chosen.shape[1], device=keys.device))
            order = random_keys.bits(each, (largest,), _ROWS)
        order = order.masked_fill(torch.arange(largest, device=keys.device) >= size[..., None], _LAST)
        count = min(shots + queries, largest)
        drawn = order.topk(count, dim=-1, largest=False, sorted=True).indices
        sides = []
        # Both sides are cut from one order, one behind the other: no row is in both.
        # No pool has more rows than the largest: beyond them there would be nothing but padding.
        widths = min(shots, largest), min(queries, largest)
        for first, number, most in ((torch.zeros_like(shown), shown, widths[0]), (shown, asked, widths[1])):
            at = torch.arange(most, device=keys.device)
            mask = at < number[..., None]
            position = drawn.gather(2, (first[..., None] + at).clamp(max=drawn.shape[2] - 1))
            rows = pools.members[pools.pool_starts[chosen.clamp(min=0)][..., None] + position * mask]
            labels = torch.arange(chosen.shape[1], device=keys.device).repeat_interleave(most)
            sides += [rows.flatten(1), mask.flatten(1), labels.expand(len(rows), -1)]
        return Drawn(*sides, classes=pools.numbers[chosen.clamp(min=0)] if self.classification else None)

    # ---- so many of the whole task -----------------------------------------------------------------------------------
    def _in_total(self, keys: Tensor, tasks: Tensor) -> Drawn:
        pools, device = self.on(keys.device), keys.device
        size, starts = pools.whole_sizes[tasks], pools.whole_starts[tasks]
        largest, asked_for = self._largest_task, self.sizes.support_size
        assert asked_for is not None
        at = torch.arange(largest, device=device)
        there = at < size[:, None]
        if self.sizes.ordered:
            order = at.expand(len(keys), largest)
        else:
            order = random_keys.bits(keys, (largest,), _ROWS).masked_fill(~there, _LAST).argsort(dim=-1, stable=True)
        place = starts[:, None] + order * there
        own = pools.whole_class[place]
        if self.sizes.ordered:
            wanted = torch.minimum(size - 1, torch.tensor(asked_for)).clamp(min=1)
            shown = at < wanted[:, None]
        else:  # the first of each class, in random order
            is_class = (own[..., None] == torch.arange(self.most_classes, device=device)) & there[..., None]
            rank = (is_class.cumsum(1) * is_class).sum(-1)
            shown = there & (rank <= pools.quota[tasks].gather(1, own))
        turn = torch.where(shown, 0, torch.where(there, 1, 2)).argsort(dim=-1, stable=True)
        chosen = self._chosen(keys, tasks, pools, self.most_classes)
        labels = self._labels(chosen, pools.pools_of[tasks][:, :1]).gather(1, own.gather(1, turn))
        rows, number = pools.whole[place.gather(1, turn)], shown.sum(1)
        most_shown = min(asked_for, largest - 1)
        rest = largest - most_shown
        asked = rest if self.sizes.queries is None else min(self.sizes.queries, rest)
        sides = []
        for first, count, most in (
            (torch.zeros_like(number), number, most_shown),
            (number, (size - number).clamp(max=asked), asked),
        ):
            at = torch.arange(most, device=device)
            mask = at < count[:, None]
            position = (first[:, None] + at * mask).clamp(max=largest - 1)
            sides += [rows.gather(1, position), mask, labels.gather(1, position)]
        return Drawn(*sides, classes=pools.numbers[chosen.clamp(min=0)] if self.classification else None)

    @staticmethod
    def _labels(chosen: Tensor, first: Tensor) -> Int64[Tensor, "tasks classes"]:
        """The label of each of a task's pools, which begin at ``first``: its place among those ``chosen``."""
        most = chosen.shape[1]
        place = torch.where(chosen < 0, most, chosen - first)  # padding goes into a column of its own
        found = chosen.new_zeros(len(chosen), most + 1)
        return found.scatter(1, place, torch.arange(most, device=chosen.device).expand_as(chosen))


def stratified(counts: Sequence[int], size: int) -> list[int]:
    """How many of ``size`` examples each class gets, in proportion to its count: the largest remainders are rounded up.

    Each class has at least one where there is room, none more than it has; one example of the task is left over at least.

    Example:
        >>> stratified([90, 10], 16)
        [14, 2]
        >>> stratified([99, 1], 16)
        [15, 1]
    """
    total = sum(counts)
    # One row at least is left to be asked for.
    size = min(size, total - 1)
    exact = [size * count / total for count in counts]
    least = 1 if size >= len(counts) else 0
    found = [min(count, max(least, int(share))) for count, share in zip(counts, exact, strict=True)]
    # Rounded down (or up to one of each), then given to whoever is furthest below the exact share, or taken from above it.
    while sum(found) != size:
        step = 1 if sum(found) < size else -1
        able = [i for i, n in enumerate(found) if (n < counts[i] if step > 0 else n > least)]
        i = max(able, key=lambda i: step * (exact[i] - found[i]))
        found[i] += step
    return found


def quiet(values: Tensor, mask: Tensor) -> Tensor:
    """Padding as zeros: whatever row stands there must not be seen."""
    return values.masked_fill(~mask.reshape(mask.shape + (1,) * (values.ndim - 2)), 0)
