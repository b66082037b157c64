"""SIDER: whether a drug has side effects of a kind, an organ class a task (Kuhn et al. 2016, Nucleic Acids Res. 44:D1075)."""

from __future__ import annotations

from innerloop.core import TaskFamily
from innerloop.tasks.molecules.assay_tables import assay_family
from innerloop.tasks.precision import DtypeName


def sider(
    *,
    shots: int = 10,
    queries: int | None = None,
    train_queries: int = 64,
    valid_assays: int = 3,
    disjoint: bool = False,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Whether a drug has side effects in one system of organs, from ten that have and ten that have not.

    27 systems of 1,427 drugs; 21 to train on, the last six to test, as Altae-Tran et al. 2017 and later papers have it. Three of
    the 21 are for validation. As published, the same drugs are on both sides; with ``disjoint`` none is.

    The data are SIDER 4.1 (Kuhn et al.), CC BY-NC-SA 4.0, as MoleculeNet has them: not for commercial use.

    Args:
        shots: drugs of each class in the support set.
        queries: drugs of each class that are asked, at most; None: all others.
        train_queries: likewise in training.
        valid_assays: of the 21, for validation.
        disjoint: half of the drugs are for training and validation alone, the others for testing alone.
        dtype: of the inputs, "float32" or "float64"; None: torch's default.

    Raises:
        InputError: no files under INNERLOOP_DATA/molecules, or too many systems for validation.
    """
    return assay_family(
        "sider", test_assays=6, valid_assays=valid_assays, shots=shots, queries=queries, train_queries=train_queries,
        disjoint=disjoint, dtype=dtype,
    )  # fmt: skip
