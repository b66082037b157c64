"""What is measured on FS-Mol's test assays beside the learner: a random forest and others on the same molecules, and how much
of it holds for molecules that no training assay has.

Every number is the mean over assays of delta-AUPRC: the average precision of the active molecules less their share among those
asked, which chance would reach. Other molecules of the assay are all asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from innerloop import keys, models
from innerloop.core import Task, TaskFamily
from innerloop.data.counts import dense
from innerloop.evaluation.evaluate import in_global_order, mean_ci95
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.methods.dkt import dkt
from innerloop.objectives.metrics import delta_auprc, roc_auc
from innerloop.recipes.baselines import sklearn_module
from innerloop.tasks.molecules.fsmol import KINDS, fsmol, seen_in_training

_PUBLISHED = {16: ".098 ± .014", 32: ".130 ± .016", 64: ".168 ± .018"}  # of Stanley et al.'s forest
FOREST, ALIKE = "random forest", "Tanimoto process without training"
_USUAL = {
    FOREST: ("ensemble", "RandomForestClassifier", {"n_estimators": 100, "random_state": 0}),
    "logistic regression": ("linear_model", "LogisticRegression", {"max_iter": 1000}),
}
Score = Callable[["Drawn"], Tensor]  # higher: more likely active, (queries,)


class Drawn(NamedTuple):
    """One assay, its support set drawn once.

    Attributes:
        task: a batch of one.
        seen: whether a query's molecule is in a training assay too.
        active: whether it is active.
    """

    task: Task
    seen: Bool[Tensor, " queries"]
    active: Float[Tensor, " queries"]


def beside_16(learner: MetaLearner, tasks: Any) -> list[dict[str, Any]]:
    """Rows of the recipe."""
    return beside(learner, 16)


def beside_32(learner: MetaLearner, tasks: Any) -> list[dict[str, Any]]:
    """Rows of the recipe."""
    return beside(learner, 32)


def beside_64(learner: MetaLearner, tasks: Any) -> list[dict[str, Any]]:
    """Rows of the recipe."""
    return beside(learner, 64)


def beside(learner: MetaLearner, size: int) -> list[dict[str, Any]]:
    """The learner and usual classifiers on the same molecules, the learner's lead assay by assay, and seen molecules apart."""
    family = fsmol(support_size=size)
    ways: dict[str, Score] = {
        learner.name: of_learner(learner),
        ALIKE: of_learner(dkt(models.counts_mlp(KINDS, None, hidden=(1,)), kernel="tanimoto", noise=1.0)),
        **{name: of_usual(*how) for name, how in _USUAL.items()},
    }
    found: dict[str, list[float]] = {}
    areas: dict[str, list[float]] = {}
    apart: dict[tuple[str, str], list[float]] = {}
    for drawn in drawn_once(family):
        for name, score in ways.items():
            said = score(drawn)
            found.setdefault(name, []).append(float(delta_auprc(said, drawn.active)))
            areas.setdefault(name, []).append(float(roc_auc(said, drawn.active)))
            for which, mask in (("seen in training", drawn.seen), ("unseen", ~drawn.seen)):
                judged = drawn.active[mask]
                if 0 < judged.sum() < len(judged):
                    apart.setdefault((name, which), []).append(float(delta_auprc(said[mask], judged)))
    what = f"{size} measurements"
    rows = [row(f"delta-AUPRC, {what}: {name}", own) for name, own in found.items()]
    for other in (FOREST, ALIKE):
        lead = [a - b for a, b in zip(found[learner.name], found[other], strict=True)]
        rows.append(row(f"delta-AUPRC, {what}: {learner.name} less {other}", lead))
    rows += [row(f"AUROC, {what}: {name}", own) for name, own in areas.items() if name in (learner.name, FOREST)]
    rows += [
        row(f"delta-AUPRC, {what}, molecules {which}: {name}", own)
        for (name, which), own in apart.items()
        if name in (learner.name, FOREST)
    ]
    for one in rows:
        if one["metric"] == f"delta-AUPRC, {what}: {FOREST}":
            one["published"] = _PUBLISHED[size]
    return rows


def drawn_once(family: TaskFamily) -> Any:
    """Each test assay, one after another."""
    tasks: Any = family.test
    seen = seen_in_training(family)
    of_each = keys.task_keys(0, tasks.split, 0, 0, tasks.size)
    for number in range(tasks.size):
        key, which = of_each[number : number + 1], torch.tensor([number])
        task = tasks.each(key, which)
        rows = tasks.rows[tasks.draws.draw(key, which).query][0]
        kept = slice(None) if task.query.mask is None else task.query.mask[0]
        query = type(task.query)(task.query.x[:, kept], task.query.y[:, kept])
        task = type(task)(task.support, query, task.objective, task.class_ids, task.num_classes, noise=task.noise)
        yield Drawn(task, seen[rows[kept]], (query.y == active(task)[:, None])[0].double())


def active(task: Task) -> Tensor:
    """The label that stands for active molecules in each task."""
    assert task.class_ids is not None
    return (task.class_ids == 1).long().argmax(1)


def of_learner(learner: MetaLearner) -> Score:
    """By a learner's logits."""

    def score(drawn: Drawn) -> Tensor:
        logits = learner.predict_queries(drawn.task)
        ordered, _ = in_global_order(logits, drawn.task.query.y, drawn.task.class_ids)
        return (ordered[0, :, 1] - ordered[0, :, 0]).double()

    return score


def of_usual(module: str, kind: str, options: Mapping[str, Any]) -> Score:
    """By a classifier of scikit-learn, fitted to the support set alone: logarithms of counts."""

    def score(drawn: Drawn) -> Tensor:
        task = drawn.task
        kept = slice(None) if task.support.mask is None else task.support.mask[0]
        x, z = (dense(rows, KINDS).log1p().numpy() for rows in (task.support.x[0][kept], task.query.x[0]))
        fitted = getattr(sklearn_module(module), kind)(**options).fit(x, task.support.y[0][kept].numpy())
        return torch.as_tensor(fitted.predict_proba(z)[:, int(active(task)[0])]).double()

    return score


def row(metric: str, values: list[float]) -> dict[str, Any]:
    mean, ci95 = mean_ci95(values)
    return {
        "metric": metric,
        "value": round(mean, 4),
        "ci95": round(ci95, 4),
        "num_tasks": len(values),
        "transductive": False,
    }
