"""Molecules: FS-Mol's 157 test assays from 16, 32 and 64 measurements, Tox21 and SIDER, beside forests of the same run."""

from __future__ import annotations

import dataclasses

from innerloop.recipes.recipe import Evaluation, Recipe

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


def _fsmol(size: int) -> Recipe:
    return Recipe(
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


def _protonet(size: int, distance: str) -> Recipe:
    label = "protonet" if distance == "euclidean" else distance
    made = _fsmol(size)
    return dataclasses.replace(
        made,
        name=f"fsmol-{size}-{label}",
        summary=f"FS-Mol: is a molecule active, from {size} measurements? Class means of an embedding, {distance} distance.",
        source=_GRAPHS,
        algorithm="protonet",
        algorithm_options={"distance": distance},
        task_options={**made.task_options, "train_support_size": 32},
        model_options={"outputs": None, "hidden": (512, 64 if distance == "mahalanobis" else 256)},
        evaluations=(_evaluation(size, _PROTONET[size]),),
    )


def _table(name: str, disjoint: bool) -> Recipe:
    said = "no molecule on both sides" if disjoint else "as published, the molecules of training assays"
    return Recipe(
        name=f"{name}-10shot" + ("-disjoint" if disjoint else ""),
        summary=f"{name}, 10 molecules of each class, {said}: AUC of a deep kernel beside the other assays' labels.",
        source="Altae-Tran et al. 2017, ACS Cent. Sci. 3:283; the numbers as the PAR protocol's later papers have them",
        algorithm="dkt",
        tasks=name,
        algorithm_options={"kernel": "tanimoto+rbf", "noise": 0.5, "scale_steps": 5},
        task_options={"disjoint": disjoint},
        model="counts_mlp",
        model_options={"outputs": None, "hidden": (256, 128)},
        training={
            "steps": 150,
            "num_tasks": 8,
            "outer_lr": 1e-3,
            "schedule": "cosine",
            "clip_norm": 1.0,
            "valid_tasks": 8,
            "validate_every": 50,
            "strategy": "vmapped",
            "threads": 1,
        },
        evaluations=(Evaluation(num_tasks=24, metric="roc_auc", named="10 of each class"),),
        beside="innerloop.recipes.beside_assay_tables:beside",
    )


def recipes() -> list[Recipe]:
    return [
        *(_fsmol(size) for size in SIZES),
        *(_protonet(size, distance) for distance in ("euclidean", "mahalanobis") for size in SIZES),
        *(_table(name, disjoint) for name in ("tox21", "sider") for disjoint in (False, True)),
    ]
