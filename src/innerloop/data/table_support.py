"""A table as the support set of one new task, encoded as the learner's training tables were.

`support_scales` gives the scales that a support set has of its own: in training for many tasks at once, on adapting for one.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from innerloop.data.table_preprocessing import LIMIT, Rows, SupportScales, TablePreprocessing, fit_columns, raw
from innerloop.data.tables import Table
from innerloop.errors import ConfigError, InputError


class Scales(NamedTuple):
    """Per task and encoded number: mean, deviation, and which numbers come first."""

    mean: Float[Tensor, "tasks width"]
    std: Float[Tensor, "tasks width"]
    order: Int64[Tensor, "tasks kept"] | None


def support_scales(
    x: Float[Tensor, "tasks support width"],
    mask: Bool[Tensor, "tasks support"],
    y: Tensor | None = None,
    keep: int | None = None,
) -> Scales:
    """The support sets' means and standard deviations, over what is there; 1 where a number does not vary.

    Args:
        x: encoded rows, NaN where a number is missing.
        mask: False for padding.
        y: labels (tasks, support) or targets (tasks, support, outputs), to rank the numbers by how much they tell about
            them; None: the order stays.
        keep: how many to keep of the ranked.
    """
    there = (~x.isnan() & mask[..., None]).to(x.dtype)
    count = there.sum(1).clamp(min=1)
    filled = x.nan_to_num(0.0) * there
    mean = filled.sum(1) / count
    spread = ((filled - mean[:, None]).square() * there).sum(1) / count
    size = mean.abs().clamp(min=1e-30)
    std = torch.where(spread.sqrt() > 1e-6 * size, spread.sqrt(), torch.ones_like(spread))
    if y is None:
        return Scales(mean, std, None)
    told = telling(scaled(x, Scales(mean, std, None)) * mask[..., None], y, mask)
    # Exact ties (one column twice, or none that varies) keep the table's own order.
    order = torch.argsort(told, dim=-1, descending=True, stable=True)
    return Scales(mean, std, order if keep is None else order[:, :keep])


def scaled(x: Float[Tensor, "tasks rows width"], scales: Scales) -> Float[Tensor, "tasks rows kept"]:
    """Rows in a task's own scales; missing numbers at the mean."""
    z = ((x - scales.mean[:, None]) / scales.std[:, None]).nan_to_num(0.0).clamp(-LIMIT, LIMIT)
    if scales.order is None:
        return z
    return z.gather(2, scales.order[:, None].expand(-1, z.shape[1], -1))


def telling(
    z: Float[Tensor, "tasks support width"], y: Tensor, mask: Bool[Tensor, "tasks support"]
) -> Float[Tensor, "tasks width"]:
    """How much of each number's variance in the support set the targets explain, from 0 to 1.

    For labels, the variance between the classes' means; for targets, the largest squared correlation with one of them.
    """
    weight = mask.to(z.dtype)[..., None]
    total = (z.square() * weight).sum(1).clamp(min=1e-12)
    if y.is_floating_point():
        middle = (y * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        t = (y - middle) * weight
        shared = torch.einsum("tsw,tso->two", z * weight, t).square()
        return (shared / t.square().sum(1).clamp(min=1e-12)[:, None]).amax(-1) / total
    labels = y.masked_fill(~mask, 0)
    member = (labels[..., None] == torch.arange(int(labels.max()) + 1, device=y.device)) & mask[..., None]
    member = member.to(z.dtype)
    counts = member.sum(1).clamp(min=1)[..., None]
    sums = torch.einsum("tsc,tsw->tcw", member, z)
    return (sums.square() / counts).sum(1) / total


def support_of(
    record: TablePreprocessing, table: Table, target: str | None = None
) -> tuple[Rows, list[str] | Float[np.ndarray, "rows targets"], TablePreprocessing]:
    """(inputs, class names or targets, the record of this task) of a support table.

    Args:
        record: of the learner (`TaskDistribution.preprocessing`).
        table: the support rows.
        target: its target column; None: the training tables'.

    Raises:
        ConfigError: no target, where the learner does not know it.
        InputError: other columns than in training, a row without a target, or fewer than two classes.
    """
    targets = (target,) if target is not None else record.targets
    if (record.classification and len(targets) > 1) or not targets:
        known = ", ".join(record.targets) or list(table.columns)[-1]
        raise ConfigError(f"expected --target, the column to learn, got none; it may be {known!r}")
    if not record.classification and len(targets) != len(record.target_mean):
        raise ConfigError(
            f"expected the targets {', '.join(record.targets)} of the training tables, got {target!r}; leave it out"
        )
    table.expect(*targets)
    seen = [name for name in targets if name in {column.name for column in record.columns or ()}]
    if seen:
        known = ", ".join(map(repr, record.targets))
        raise ConfigError(f"--target expected {known}, got {seen[0]!r}, an input of this learner; leave --target out")
    own = dataclasses.replace(record, targets=targets)
    if record.columns is None:
        columns, notes = fit_columns(table, targets)
        if not columns:
            raise InputError(
                f"{table.name}: expected columns that differ from row to row, got none ({'; '.join(notes[:3])})"
            )
        own = dataclasses.replace(own, columns=columns)
    labels: list[str] | None = None
    if own.classification:
        cells = table.labels(targets[0])
        gone = [i + 1 for i, cell in enumerate(cells) if cell is None]
        if gone:
            raise InputError(
                f"{table.name} row {gone[0]}: the target {targets[0]!r} expected a class, got a missing cell"
            )
        labels = [str(cell) for cell in cells]
        if len(set(labels)) < 2:
            raise InputError(
                f"{table.name}: expected at least two classes in {targets[0]!r}, got {labels[0]!r} alone; add rows"
            )
    elif own.columns is not None and record.own_targets:
        values = table.columns[targets[0]]
        if table.is_number(targets[0]) and not np.isnan(values).any():
            own = dataclasses.replace(
                own, target_mean=(float(values.mean()),), target_std=(float(values.std()) or 1.0,)
            )
    own = dataclasses.replace(own, support=_scales(own, record, table, labels))
    return own.encode(table), labels if labels is not None else own.values(table), own


def _scales(
    own: TablePreprocessing, record: TablePreprocessing, table: Table, labels: list[str] | None
) -> SupportScales | None:
    """What the support set says about its task, as training tasks were treated."""
    found = SupportScales()
    if own.scaling == "support":
        assert own.columns is not None
        x = torch.as_tensor(raw(table, own.columns))[None]
        y: Tensor | None = None
        if own.ranked:
            values = np.unique(labels, return_inverse=True)[1] if labels is not None else own.values(table)
            y = torch.as_tensor(values)[None]
        s = support_scales(x, torch.ones(x.shape[:2], dtype=torch.bool), y, own.width)
        order = () if s.order is None else tuple(s.order[0].tolist())
        found = SupportScales(tuple(s.mean[0].tolist()), tuple(s.std[0].tolist()), order)
    if own.center_target:
        targets = own.values(table)
        spread = targets.std(0) if record.own_targets else np.ones(targets.shape[1])
        std = tuple(float(s) if s > 1e-6 else 1.0 for s in spread)
        found = dataclasses.replace(found, target_mean=tuple(map(float, targets.mean(0))), target_std=std)
    return None if found == SupportScales() else found
