"""Tox21: whether a molecule disturbs a pathway of a cell, an assay a task (Huang et al. 2016, Front. Environ. Sci. 3:85)."""

from __future__ import annotations

from innerloop.core import TaskFamily
from innerloop.tasks.molecules.assay_tables import assay_family
from innerloop.tasks.precision import DtypeName


def tox21(
    *,
    shots: int = 10,
    queries: int | None = None,
    train_queries: int = 64,
    valid_assays: int = 1,
    disjoint: bool = False,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Whether a molecule is toxic by one assay, from ten that are and ten that are not.

    12 assays of 7,831 molecules, of which rdkit refuses 8; nine to train on, the last three (SR-HSE, SR-MMP, SR-p53) to test, as
    Altae-Tran et al. 2017 and later papers have it. One of the nine is for validation. As published, the test assays' molecules
    are those of training assays: how often those call a molecule toxic, without any support set, says a lot about the test
    assays already. With ``disjoint`` no molecule is on both sides.

    The data are of the Tox21 Data Challenge (NIH NCATS, EPA, FDA), in the public domain, as MoleculeNet has them.

    Args:
        shots: molecules of each class in the support set.
        queries: molecules of each class that are asked, at most; None: all others.
        train_queries: likewise in training.
        valid_assays: of the nine, for validation.
        disjoint: half of the molecules are for training and validation alone, the others for testing alone.
        dtype: of the inputs, "float32" or "float64"; None: torch's default.

    Raises:
        InputError: no files under INNERLOOP_DATA/molecules, or too many assays for validation.
    """
    return assay_family(
        "tox21", test_assays=3, valid_assays=valid_assays, shots=shots, queries=queries, train_queries=train_queries,
        disjoint=disjoint, dtype=dtype,
    )  # fmt: skip
