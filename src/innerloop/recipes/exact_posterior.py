"""What is measured beside a learner of curves from Gaussian processes: the exact posterior on the same tasks.

Apart from the recipes, so that a change of one recipe's numbers makes no other recipe's rows stale.
"""

from __future__ import annotations

from typing import Any


def beside_the_exact_posterior(learner: Any, tasks: Any, num_tasks: int = 2_000) -> list[dict[str, Any]]:
    """The exact posterior's log-likelihood on the same test tasks, and how far below it the learner stays.

    The exact posterior knows each task's hyperparameters; where they differ from task to task, no learner can reach it.

    Args:
        learner: a MetaLearner with a predictive distribution.
        tasks: the test split of `gaussian_process`.
        num_tasks: how many test tasks.
    """
    from innerloop.evaluation.evaluate import evaluate, mean_ci95
    from innerloop.tasks.curves.gaussian_process import exact_on_split

    exact = exact_on_split(tasks, num_tasks).tolist()
    reached = evaluate(learner, tasks, num_tasks=num_tasks, metric="log_likelihood", baselines=False).per_task
    gaps = [e - r for e, r in zip(exact, reached, strict=True)]
    rows = []
    for label, values in (("log_likelihood of the exact posterior", exact), ("gap to the exact posterior, nats", gaps)):
        mean, ci95 = mean_ci95(values)
        rows.append(
            {
                "metric": label,
                "value": round(mean, 4),
                "ci95": round(ci95, 4),
                "published": "",
                "num_tasks": num_tasks,
                "transductive": False,
            }
        )
    return rows
