"""Tables of many molecules by a few assays, with fingerprints beside them: what Tox21 and SIDER share."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from innerloop.core import TaskFamily
from innerloop.data.counts import Counts
from innerloop.data.locations import data_folder
from innerloop.errors import InputError, expect_whole
from innerloop.tasks.own_arrays import from_arrays
from innerloop.tasks.precision import DtypeName

KINDS = 2048
METRICS = ("roc_auc", "delta_auprc", "accuracy")


class AssayTable(NamedTuple):
    """A table as its files have it.

    Attributes:
        molecules: fragments of each molecule; none where rdkit refused it.
        assays: their names, in the file's order.
        labels: (molecules, assays) 1, 0, or NaN where it was not measured.
    """

    molecules: Counts
    assays: tuple[str, ...]
    labels: np.ndarray


def load(name: str) -> AssayTable:
    """The table of this name under INNERLOOP_DATA/molecules.

    Raises:
        InputError: a file is not there.
    """
    folder = data_folder() / "molecules"
    table, prints = folder / f"{name}.csv.gz", folder / f"{name}_morgan2048.npz"
    for file in (table, prints):
        if not file.is_file():
            raise InputError(
                f"expected {name}'s labels and fingerprints at {folder}, got no {file.name}; put them there"
            )
    with gzip.open(table, "rt", newline="") as opened:
        header, *rows = list(csv.reader(opened))
    stored = np.load(prints)
    start = np.concatenate([[0], np.cumsum(stored["nnz"].astype(np.int64))])
    labels = np.array([[float(cell) if cell else np.nan for cell in row[1:]] for row in rows])
    return AssayTable(Counts(stored["idx"], stored["cnt"], start, kinds=KINDS), tuple(header[1:]), labels)


def assay_family(
    name: str,
    *,
    test_assays: int,
    valid_assays: int,
    shots: int,
    queries: int | None,
    train_queries: int,
    disjoint: bool,
    dtype: DtypeName | None,
) -> TaskFamily:
    """The assays of a table as tasks, the last for testing, those before for validation; arguments as those of `tox21`.

    With ``disjoint`` every second molecule is for training and validation alone, and all others for testing.
    """
    expect_whole("valid_assays", valid_assays, 1)
    expect_whole("shots", shots)
    found = load(name)
    first, last = len(found.assays) - test_assays - valid_assays, len(found.assays) - test_assays
    if first < 1:
        raise InputError(
            f"{name}: valid_assays expected to leave some of {last} for training, got {valid_assays}; lower it"
        )
    splits = {"train": found.assays[:first], "valid": found.assays[first:last], "test": found.assays[last:]}
    side = {assay: split for split, own in splits.items() for assay in own}
    readable = found.molecules.start.diff().numpy() > 0
    half = np.random.default_rng(0).permutation(len(readable)) % 2 == 0
    places, tasks, labels = [], [], []
    for column, assay in enumerate(found.assays):
        there = readable & ~np.isnan(found.labels[:, column])
        if disjoint:
            there &= half if side[assay] == "test" else ~half
        rows = np.flatnonzero(there)
        places.append(rows)
        tasks += [assay] * len(rows)
        labels.append(found.labels[rows, column].astype(np.int64))
    rows = np.concatenate(places)
    family = from_arrays(
        found.molecules.take(rows),
        np.concatenate(labels),
        task=tasks,
        splits={split: list(own) for split, own in splits.items()},
        shots=shots,
        queries=len(readable) if queries is None else queries,
        train_queries=train_queries,
        dtype=dtype,
        name=name,
    )
    options = {
        "shots": shots,
        "queries": queries,
        "train_queries": train_queries,
        "valid_assays": valid_assays,
        "disjoint": disjoint,
        "dtype": dtype,
    }
    known = found.labels[:, : len(found.assays) - test_assays]
    for split in (family.train, family.valid, family.test):
        split.name, split.metrics = name, METRICS
        own: Any = split
        own.molecule_of, own.other_labels = torch.as_tensor(rows), torch.as_tensor(known)
    return family._replace(name=name, options=options)


def mean_of_others(tasks: Any, rows: Sequence[int]) -> torch.Tensor:
    """Of these rows' molecules the share of the other assays that call them active; without any support set. NaN: none."""
    known = tasks.other_labels[tasks.molecule_of[torch.as_tensor(rows)]]
    return known.nanmean(1)
