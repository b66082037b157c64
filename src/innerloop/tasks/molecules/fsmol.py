"""FS-Mol: each assay a task; whether a molecule is active, from a few measured ones (Stanley et al. 2021, NeurIPS data sets)."""

from __future__ import annotations

import csv
import itertools
import lzma
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from innerloop.core import TaskFamily
from innerloop.data.counts import Counts
from innerloop.data.locations import data_folder
from innerloop.errors import InputError, expect_whole
from innerloop.tasks.own_arrays import from_arrays
from innerloop.tasks.own_rows import RowTasks
from innerloop.tasks.precision import DtypeName

NAME, KINDS = "fsmol", 2048
METRICS = ("delta_auprc", "roc_auc", "accuracy")
SPLITS = ("train", "valid", "test")


def fsmol(
    *,
    support_size: int = 16,
    queries: int | None = None,
    train_support_size: int | None = None,
    train_queries: int = 128,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Whether a molecule is active in an assay, from a few molecules that were measured in it.

    4,935 assays to train on, 39 to validate, 157 to test, 482,933 measurements of 227,830 molecules; inputs are counts of 2,048
    hashed Morgan fragments of radius 2 (`il.Counts.packed`). The support set has the assay's own share of active molecules. A
    test assay's molecules may be those of training assays, as published: 11,405 of 27,518 are (`seen_in_training`).

    The data are FS-Mol 0.1 (Stanley et al. 2021, "FS-Mol: a few-shot learning dataset of molecules"), CC BY-SA 3.0, made from
    ChEMBL: who passes them on, or what is made of them, names it and keeps that licence.

    Args:
        support_size: measured molecules of a task.
        queries: molecules that are asked, in validation and test; None: all others of the assay.
        train_support_size: of training tasks; None: ``support_size``.
        train_queries: of training tasks, at most.
        dtype: of the inputs, "float32" or "float64"; None: torch's default.

    Raises:
        InputError: no files under INNERLOOP_DATA/fsmol, or a support set without room for both classes.
    """
    expect_whole("support_size", support_size, 2)
    wanted = support_size if train_support_size is None else train_support_size
    expect_whole("train_support_size", wanted, 2)
    molecules, tasks, labels, splits = _read(data_folder() / NAME)

    def made(size: int) -> TaskFamily:
        return from_arrays(
            molecules,
            labels,
            task=tasks,
            splits=splits,
            support_size=size,
            queries=queries,
            train_queries=train_queries,
            dtype=dtype,
            name=NAME,
        )

    found = made(support_size)
    options = {
        "support_size": support_size,
        "queries": queries,
        "train_support_size": train_support_size,
        "train_queries": train_queries,
        "dtype": dtype,
    }
    found = found._replace(
        name=NAME, options=options, train=found.train if wanted == support_size else made(wanted).train
    )
    for split in (found.train, found.valid, found.test):
        split.name, split.metrics = NAME, METRICS
    return found


def seen_in_training(family: TaskFamily) -> Bool[Tensor, " rows"]:
    """Of each row of the family's inputs, whether its molecule is in a training assay too, by its fingerprint."""
    train = family.train
    assert isinstance(train, RowTasks) and isinstance(train.x, Counts)
    return known_rows(train.x, train.rows)


def known_rows(molecules: Counts, rows: Tensor) -> Bool[Tensor, " all_rows"]:
    """Of each row, whether one of these rows has the very same counts."""
    start = molecules.start.numpy()
    index, count = molecules.index.numpy(), molecules.count.numpy()
    keys = [index[a:b].tobytes() + count[a:b].tobytes() for a, b in itertools.pairwise(start)]
    known = {keys[row] for row in rows.tolist()}
    return torch.tensor([key in known for key in keys])


def _read(folder: Path) -> tuple[Counts, list[str], np.ndarray, dict[str, list[str]]]:
    """(fingerprints, assays, labels) of all measurements, and the assays of each split."""
    files = {split: folder / f"fsmol_{split}.csv.xz" for split in SPLITS}
    prints = folder / "fsmol_fingerprints.npz"
    for file in (*files.values(), prints):
        if not file.is_file():
            raise InputError(
                f"expected FS-Mol's measurements and fingerprints at {folder}, got no {file.name}; put them there"
            )
    read = {split: _measured(file) for split, file in files.items()}
    tasks, smiles, labels = ([v for own in read.values() for v in own[column]] for column in (0, 1, 2))
    place = {molecule: i for i, molecule in enumerate(sorted(set(smiles)))}
    stored = np.load(prints)
    start = np.concatenate([[0], np.cumsum(stored["nnz"].astype(np.int64))])
    molecules = Counts(stored["idx"], stored["cnt"], start, kinds=KINDS)
    rows = np.fromiter((place[molecule] for molecule in smiles), dtype=np.int64, count=len(smiles))
    splits = {split: list(dict.fromkeys(own[0])) for split, own in read.items()}
    return molecules.take(rows), [str(task) for task in tasks], np.array(labels, dtype=np.int64), splits


def _measured(file: Path) -> tuple[list[str], list[str], list[int]]:
    """(assay, molecule, 1 where it is active) of each measurement."""
    with lzma.open(file, "rt", newline="") as opened:
        rows = [(row["task"], row["smiles"], int(float(row["label"]))) for row in csv.DictReader(opened)]
    return tuple(map(list, zip(*rows, strict=True)))  # type: ignore[return-value]
