"""Molecules: FS-Mol's 157 test assays from 16, 32 and 64 measurements, Tox21 and SIDER, beside forests of the same run."""

from __future__ import annotations

from typing import Any

from innerloop.recipes.recipe import Evaluation, Recipe, vary

SIZES = (16, 32, 64)
_SOURCE = "Stanley et al. 2021, FS-Mol (CC BY-SA 3.0, from ChEMBL); numbers made from the files of microsoft/FS-Mol"
_GRAPHS = f"{_SOURCE}: their ProtoNet, which has a graph net and descriptors beside the fingerprints"
_PROTONET = {16: ".211 ± .018", 32: ".247 ± .018", 64: ".276 ± .018"}


def _evaluation(size: int, published: str = "") -> Evaluation:
    return Evaluation(
        tasks={"support_size": size},
        num_tasks=None,
        metric="delta_auprc",
        named=f"{size} measurements",
        published=(published,) if published else (),
    )


def _fsmol(size: int, **changes: Any) -> Recipe:
    made = Recipe(
        name=f"fsmol-{size}",
        summary=f"FS-Mol: is a molecule active, from {size} measurements of an assay? A deep kernel on fingerprints.",
        source=_SOURCE,
        algorithm="dkt",
        tasks="fsmol",
        algorithm_options={"kernel": "tanimoto+rbf", "noise": 0.5, "scale_steps": 5},
        task_options={"support_size": 16, "train_queries": 64},
        model="counts_mlp",
        model_options={"outputs": None, "hidden": (512, 256)},
        training={
            "steps": 2_500,
            "num_tasks": 16,
            "outer_lr": 1e-3,
            "schedule": "cosine",
            "clip_norm": 1.0,
            "valid_tasks": 39,
            "validate_every": 500,
            "strategy": "vmapped",
            "threads": 1,
        },
        evaluations=(_evaluation(size),),
        beside=f"innerloop.recipes.beside_assays:beside_{size}",
    )
    return vary(made, **changes)


def recipes() -> list[Recipe]:
    return [_fsmol(size) for size in SIZES]
