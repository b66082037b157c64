"""What is measured on Tox21's and SIDER's test assays beside the learner, on the same molecules: a random forest, a process
that was not trained, and how often the other assays call a molecule active, without any support set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from innerloop import keys, models
from innerloop.data.counts import dense
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.methods.dkt import dkt
from innerloop.objectives.metrics import roc_auc
from innerloop.recipes.baselines import sklearn_module
from innerloop.recipes.beside_assays import ALIKE, FOREST, Drawn, active, of_learner
from innerloop.tasks.molecules.assay_tables import KINDS, mean_of_others

_DRAWS = 5  # support sets of each assay, whose mean is one number
OTHERS = "the other assays' labels, no support set"


def beside(learner: MetaLearner, tasks: Any) -> list[dict[str, Any]]:
    """AUC in percent over the test assays of the learner and of what is beside it, and the learner's lead assay by assay."""
    plain = dkt(models.counts_mlp(KINDS, None, hidden=(1,)), kernel="tanimoto", noise=1.0)
    ways = {learner.name: of_learner(learner), ALIKE: of_learner(plain), FOREST: _forest}
    found: dict[str, list[float]] = {}
    for number in range(tasks.size):
        each: dict[str, list[float]] = {}
        for key in keys.task_keys(0, tasks.split, 0, number * _DRAWS, _DRAWS):
            drawn, rows = _drawn(tasks, key[None], torch.tensor([number]))
            said = {name: score(drawn) for name, score in ways.items()}
            known = mean_of_others(tasks, rows.tolist())
            said[OTHERS] = known.nan_to_num(float(known.nanmean()))  # of a molecule without any, what is usual
            for name, score in said.items():
                each.setdefault(name, []).append(100 * float(roc_auc(score.double(), drawn.active)))
        for name, values in each.items():
            found.setdefault(name, []).append(sum(values) / len(values))
    rows_made = [_row(f"AUC %, 10 of each class: {name}", values) for name, values in found.items()]
    for other in (OTHERS, FOREST):
        lead = [a - b for a, b in zip(found[learner.name], found[other], strict=True)]
        rows_made.append(_row(f"AUC %, 10 of each class: {learner.name} less {other}", lead))
    return rows_made


def _drawn(tasks: Any, key: Tensor, which: Tensor) -> tuple[Drawn, Tensor]:
    """One draw, and the rows of its queries."""
    task = tasks.each(key, which)
    rows = tasks.rows[tasks.draws.draw(key, which).query][0]
    kept = torch.ones(len(rows), dtype=torch.bool) if task.query.mask is None else task.query.mask[0]
    query = type(task.query)(task.query.x[:, kept], task.query.y[:, kept])
    task = type(task)(task.support, query, task.objective, task.class_ids, task.num_classes, noise=task.noise)
    return Drawn(task, kept[kept], (query.y == active(task)[:, None])[0].double()), rows[kept]


def _forest(drawn: Drawn) -> Tensor:
    task = drawn.task
    x, z = (dense(rows, KINDS).log1p().numpy() for rows in (task.support.x[0], task.query.x[0]))
    forest = sklearn_module("ensemble").RandomForestClassifier(n_estimators=100, random_state=0)
    return torch.as_tensor(forest.fit(x, task.support.y[0].numpy()).predict_proba(z)[:, int(active(task)[0])])


def _row(metric: str, values: list[float]) -> dict[str, Any]:
    mean, ci95 = mean_ci95(values)
    return {
        "metric": metric,
        "value": round(mean, 2),
        "ci95": round(ci95, 2),
        "num_tasks": len(values),
        "transductive": False,
    }
