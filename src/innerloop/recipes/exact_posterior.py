"""What is measured beside a learner of curves from Gaussian processes: the exact posterior on the same tasks.

Apart from the recipes, so that a change of one recipe's numbers makes no other recipe's rows stale.
"""

from __future__ import annotations

import copy
from typing import Any

_CURVES = {"rbf": "", "matern52": ", Matern 5/2 curves"}


def beside_the_exact_posterior(
    learner: Any, tasks: Any, num_tasks: int = 2_000, seed: int = 0, named: str = ""
) -> list[dict[str, Any]]:
    """The exact posterior's log-likelihood on the same test tasks, and how far below it the learner stays.

    The exact posterior knows each task's hyperparameters; where they differ from task to task, no learner can reach it.

    Args:
        learner: a MetaLearner with a predictive distribution.
        tasks: the test split of `gaussian_process`.
        num_tasks: how many test tasks.
        seed: of the test tasks.
        named: what the numbers' names say besides.
    """
    from innerloop.evaluation.evaluate import evaluate, mean_ci95
    from innerloop.tasks.curves.gaussian_process import exact_on_split

    exact = exact_on_split(tasks, num_tasks, seed).tolist()
    reached = evaluate(
        learner, tasks, num_tasks=num_tasks, seed=seed, metric="log_likelihood", baselines=False
    ).per_task
    gaps = [e - r for e, r in zip(exact, reached, strict=True)]
    named += f", test tasks of seed {seed}" if seed else ""
    rows = []
    for label, values in (("log_likelihood of the exact posterior", exact), ("gap to the exact posterior, nats", gaps)):
        mean, ci95 = mean_ci95(values)
        rows.append(
            {
                "metric": f"{label}{named}",
                "value": round(mean, 4),
                "ci95": round(ci95, 4),
                "published": "",
                "num_tasks": num_tasks,
                "transductive": False,
            }
        )
    return rows


def beside_both_on_fresh_tasks(learner: Any, tasks: Any) -> list[dict[str, Any]]:
    """`beside_the_exact_posterior` on RBF and on Matern curves, all else as ``tasks``, on the test tasks of seed 1."""
    rows = []
    for kernel, named in _CURVES.items():
        own = copy.copy(tasks)
        own.kernel = kernel
        rows += beside_the_exact_posterior(learner, own, seed=1, named=named)
    return rows
