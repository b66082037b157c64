"""FS-Mol: each assay a task; whether a molecule is active, from sixteen measured ones (Stanley et al. 2021, NeurIPS data sets).

4,935 assays to train on, 39 to validate, 157 to test (CC BY-SA 3.0, from ChEMBL); inputs are counts of 2,048 hashed Morgan
fragments of radius 2. The support set has the assay's own share of active molecules, all other molecules are asked. What
counts is delta-AUPRC: the average precision of the active ones less their share among those asked, which chance would reach.
"""

from __future__ import annotations

import csv
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop import models
from innerloop.core import Task, TaskDistribution, TaskFamily
from innerloop.data.counts import Counts, dense
from innerloop.data.locations import data_folder
from innerloop.errors import InputError
from innerloop.evaluation.evaluate import in_batches, mean_ci95
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.methods.protonet import protonet
from innerloop.methods.r2d2 import r2d2
from innerloop.objectives.metrics import average_precision
from innerloop.recipes.baselines import sklearn_module
from innerloop.tasks.own_arrays import from_arrays
from innerloop.training.fit import fit

_FOLDER, _KINDS = "fsmol", 2048
_SUPPORT, _DRAWS = 16, 3
_STEPS, _TASKS, _QUERIES = 1_000, 16, 128
_LEARNERS = {"protonet": protonet, "r2d2 (ridge)": r2d2}
_USUAL = {
    "random forest": ("ensemble", "RandomForestClassifier", {"n_estimators": 100, "random_state": 0}),
    "logistic regression": ("linear_model", "LogisticRegression", {"max_iter": 1000}),
}


def run(steps: int = _STEPS, draws: int = _DRAWS) -> list[dict[str, Any]]:
    """Rows of the recipe: delta-AUPRC on the test assays of both learners and of usual classifiers, and the learners' leads."""
    assays = family(train_queries=_QUERIES)
    found: dict[str, list[float]] = {}
    for name, method in _LEARNERS.items():
        torch.manual_seed(0)
        learner = method(models.counts_mlp(_KINDS, None))
        fit(
            learner,
            assays,
            steps=steps,
            num_tasks=_TASKS,
            outer_optimizer="adam",
            outer_lr=5e-4,
            schedule="cosine",
            clip_norm=1.0,
            validate_every=max(1, steps // 5),
            valid_tasks=78,
            valid_metric="average_precision",
            quiet=True,
        )
        found[name] = of_learner(learner, assays.test, draws)
    found |= of_usual(assays.test, draws)
    leads = {
        f"{name} less {other}": [a - b for a, b in zip(found[name], found[other], strict=True)]
        for name in _LEARNERS
        for other in _USUAL
    }
    rows = []
    for name, values in {**found, **leads}.items():
        mean, ci95 = mean_ci95(values)
        rows.append(
            {
                "metric": f"delta-AUPRC, {_SUPPORT} measurements: {name}",
                "value": round(mean, 4),
                "ci95": round(ci95, 4),
                "num_tasks": len(values),
                "transductive": False,
                "steps": steps if name in _LEARNERS else 0,
            }
        )
    return rows


def family(support_size: int = _SUPPORT, **sizes: Any) -> TaskFamily:
    """The assays of FS-Mol as tasks; ``sizes`` as those of `from_arrays`.

    Raises:
        InputError: the files are not there.
    """
    folder = data_folder() / _FOLDER
    files = {split: folder / f"fsmol_{split}.csv.xz" for split in ("train", "valid", "test")}
    prints = folder / "fsmol_fingerprints.npz"
    for file in (*files.values(), prints):
        if not file.is_file():
            raise InputError(
                f"expected FS-Mol's measurements and fingerprints at {folder}, got no {file.name}; put them there"
            )
    read = {split: _measured(file) for split, file in files.items()}
    tasks, smiles, labels = ([v for own in read.values() for v in own[column]] for column in range(3))
    place = {molecule: i for i, molecule in enumerate(sorted(set(smiles)))}
    stored = np.load(prints)
    start = np.concatenate([[0], np.cumsum(stored["nnz"].astype(np.int64))])
    molecules = Counts(stored["idx"], stored["cnt"], start, kinds=_KINDS)
    rows = np.fromiter((place[molecule] for molecule in smiles), dtype=np.int64, count=len(smiles))
    splits = {split: list(dict.fromkeys(own[0])) for split, own in read.items()}
    return from_arrays(
        molecules.take(rows),
        np.array(labels, dtype=np.int64),
        task=tasks,
        splits=splits,
        support_size=support_size,
        name=_FOLDER,
        **sizes,
    )


def _measured(file: Path) -> tuple[list[str], list[str], list[int]]:
    """(assay, molecule, 1 where it is active) of each measurement."""
    with lzma.open(file, "rt", newline="") as opened:
        rows = [(row["task"], row["smiles"], int(float(row["label"]))) for row in csv.DictReader(opened)]
    return tuple(map(list, zip(*rows, strict=True)))  # type: ignore[return-value]


def delta_auprc(score: Tensor, task: Task) -> Tensor:
    """Of each task: the average precision of the active ones by a score (tasks, queries), less their share."""
    y, mask = (task.query.y == active(task)[:, None]).long(), task.query.mask
    mask = torch.ones_like(y, dtype=torch.bool) if mask is None else mask
    found = [
        average_precision(s[m], t[m].to(s.dtype)) - t[m].double().mean()
        for s, t, m in zip(score.double(), y, mask, strict=True)
    ]
    return torch.stack(found)


def active(task: Task) -> Tensor:
    """The label that stands for active molecules in each task."""
    assert task.class_ids is not None
    return (task.class_ids == 1).long().argmax(1)


def of_learner(learner: MetaLearner, tasks: TaskDistribution, draws: int = _DRAWS) -> list[float]:
    """delta-AUPRC of each assay, the mean over draws of its support set."""
    assert tasks.size is not None

    def scored(batch: Task) -> Tensor:
        logits = learner.predict_queries(batch)
        score = logits[..., 1] - logits[..., 0]
        return delta_auprc(score * (2 * active(batch) - 1)[:, None], batch)

    every = torch.cat([scored(batch) for batch in in_batches(tasks, tasks.size * draws, draws=draws)])
    return every.unflatten(0, (-1, draws)).mean(1).tolist()


def of_usual(tasks: TaskDistribution, draws: int = _DRAWS) -> dict[str, list[float]]:
    """The same of usual classifiers, fitted to each support set alone: scaled counts for the linear one."""
    assert tasks.size is not None
    found: dict[str, list[Tensor]] = {name: [] for name in _USUAL}
    for batch in in_batches(tasks, tasks.size * draws, draws=draws):
        for i in range(len(batch.support.y)):
            one = [side.x[i] if side.mask is None else side.x[i][side.mask[i]] for side in (batch.support, batch.query)]
            x, z = (dense(rows, _KINDS).log1p().numpy() for rows in one)
            y = batch.support.y[i] if batch.support.mask is None else batch.support.y[i][batch.support.mask[i]]
            truth = batch.query.y[i] if batch.query.mask is None else batch.query.y[i][batch.query.mask[i]]
            label = int(active(batch)[i])
            for name, (module, kind, options) in _USUAL.items():
                fitted = getattr(sklearn_module(module), kind)(**options).fit(x, y.numpy())
                score, right = torch.as_tensor(fitted.predict_proba(z)[:, label]), (truth == label).double()
                found[name].append(average_precision(score, right) - right.mean())
    return {name: torch.stack(own).unflatten(0, (-1, draws)).mean(1).tolist() for name, own in found.items()}
