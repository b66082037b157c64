"""How wrong is a small network on pictures? Tasks of evaluated architectures, from NAS-Bench-201 (Dong and Yang 2020)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.data import architecture_tables
from innerloop.data.architecture_tables import OPERATIONS, ArchitectureTable, reachable
from innerloop.errors import ConfigError, InputError, expect_whole, nearest
from innerloop.tasks.precision import DtypeName, dtype_named
from innerloop.tasks.split_sizes import of_split

_SET, _ROWS, _NOISE = range(1, 4)
_VALID = 5  # each fifth architecture of the sources is kept for validation


class Nas201Tasks(TaskDistribution):
    """Tasks whose examples are architectures and their errors on one data set; see `nas201`."""

    objective: str = "mse"
    metrics: tuple[str, ...] = ("mse",)
    output_size = 1
    name = "nas201"
    split: str
    sets: tuple[str, ...]
    rows: Tensor
    shots: int
    queries: int
    scale: str
    dtype: torch.dtype | None

    def __init__(
        self,
        *,
        split: str,
        table: ArchitectureTable,
        sets: tuple[str, ...],
        rows: Int64[Tensor, " rows"],
        shots: int,
        queries: int,
        scale: str,
        inputs: str,
        dtype: torch.dtype | None,
    ) -> None:
        self.split, self.sets, self.rows = split, sets, rows
        self.shots, self.queries, self.scale, self.dtype = shots, queries, scale, dtype
        if shots + queries > len(rows):
            raise InputError(
                f"nas201 ({split}): shots + queries expected at most {len(rows)} architectures, got {shots + queries}; lower them"
            )
        self.errors: Tensor = torch.stack([torch.as_tensor(table.errors[name]) for name in sets])
        own = torch.as_tensor(reachable(table.operations) if inputs == "reachable" else table.operations)
        self.x: Tensor = torch.nn.functional.one_hot(own, len(OPERATIONS)).flatten(1)
        self.input_shape: tuple[int, ...] = (self.x.shape[1],)

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys; x (tasks, examples, 30) and y (tasks, examples, 1)."""
        which = random_keys.integers(keys, len(self.sets), salt=_SET)
        count = self.shots + self.queries
        index = torch.arange(count, device=keys.device).expand(len(keys), -1)
        drawn = random_keys.places(random_keys.fold(keys, _ROWS)[:, None].expand(-1, count), index, len(self.rows))
        rows = self.rows.to(keys.device)[drawn]
        x, y = self.x.to(keys.device)[rows], self.errors.to(keys.device)[which[:, None], rows]
        if self.scale == "support":
            known = y[:, : self.shots]
            spread = known.std(1, keepdim=True, correction=0)
            y = (y - known.mean(1, keepdim=True)) / torch.where(spread > 0, spread, 1.0)
        dtype = self.dtype or torch.get_default_dtype()
        sides = [
            Examples(x[:, own].to(dtype), y[:, own, None].to(dtype))
            for own in (slice(0, self.shots), slice(self.shots, None))
        ]
        return Task(sides[0], sides[1], self.objective, noise=random_keys.fold(keys, _NOISE))

    def default_model(self) -> nn.Module:
        """Two hidden layers of 64."""
        from innerloop import models

        return models.mlp(self.input_shape[0], 1, hidden=(64, 64))


def nas201(
    *,
    test: str = "ImageNet16-120",
    shots: int = 50,
    queries: int = 100,
    train_shots: int | None = None,
    train_queries: int | None = None,
    scale: Literal["support", "none"] = "support",
    inputs: Literal["operations", "reachable"] = "operations",
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Predict the error of a network from its architecture, given some that were evaluated: a surrogate for architecture search.

    NAS-Bench-201 (Dong and Yang 2020, arXiv:2001.00326): 15,625 cells of six edges and five operations, trained on CIFAR-10,
    CIFAR-100 and ImageNet16-120. A data set is a task, and which of its architectures are shown is drawn anew each time. Test
    tasks are of the data set ``test``, all others of the other two, whose every fifth architecture is kept for validation.

    Args:
        test: the data set that is left out: "ImageNet16-120", "cifar10" or "cifar100".
        shots, queries: architectures of the support and of the query set.
        train_shots, train_queries: those of training tasks, where they differ.
        scale: of y: "support": the error less the support set's mean, in units of its standard deviation. "none": percent.
        inputs: "operations": each edge's operation, one-hot, 30 numbers. "reachable": likewise, with "none" where no way from
            input to output leads along an edge, so that cells that compute the same look more alike.
        dtype: of x and y, "float32" or "float64"; None: torch's default.

    Raises:
        ConfigError: a name that is not known.
        InputError: the file hpo/nas_bench102.csv.xz is not in INNERLOOP_DATA, or more architectures asked for than there are.

    Example:
        il.fit(il.anp(il.models.mlp(30, 1)), il.tasks.nas201(test="cifar10"), steps=2000)
    """
    table = architecture_tables.load_nas201()
    for what, given, known in (
        ("test", test, tuple(table.errors)),
        ("scale", scale, ("support", "none")),
        ("inputs", inputs, ("operations", "reachable")),
    ):
        if given not in known:
            raise ConfigError(
                f"nas201: {what} expected one of {', '.join(known)}, got {given!r}: {nearest(str(given), known)}"
            )
    sizes = {"shots": shots, "queries": queries, "train_shots": train_shots, "train_queries": train_queries}
    for name, size in sizes.items():
        if size is not None:
            expect_whole(f"nas201: {name}", size)
    places = np.arange(len(table.names))
    rows = {"train": places[places % _VALID > 0], "valid": places[places % _VALID == 0], "test": places}
    sources = tuple(name for name in table.errors if name != test)

    def split(which: str) -> Nas201Tasks:
        return Nas201Tasks(
            split=which,
            table=table,
            sets=(test,) if which == "test" else sources,
            rows=torch.as_tensor(rows[which]),
            shots=of_split(which, shots, train_shots),
            queries=of_split(which, queries, train_queries),
            scale=scale,
            inputs=inputs,
            dtype=dtype_named(dtype),
        )

    return TaskFamily.by_split(
        "nas201", split, {"test": test, **sizes, "scale": scale, "inputs": inputs, "dtype": dtype}
    )
