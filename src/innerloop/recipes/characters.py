"""`builtin:characters`: the learner of drawn and printed characters that ships with the package, and what it reaches."""

from __future__ import annotations

from typing import Any

from innerloop.recipes.recipe import Evaluation, Recipe

_TASKS = {"ways": 10, "shots": 5, "queries": 5, "train_ways": 30, "train_shots": 3, "train_queries": 2}
_DIGITS_SHOTS = (1, 5, 20)
_NUM_TASKS = 200


def recipes() -> list[Recipe]:
    return [
        Recipe(
            name="builtin-characters",
            summary="characters 10-way 5-shot, protonet, a quarter of an hour on one core: what builtin:characters is.",
            source="this project; no published number",
            algorithm="protonet",
            tasks="characters",
            task_options=_TASKS,
            model="conv4",
            model_options={"outputs": None, "downsample": "max_pool"},
            training={
                "steps": 1_000,
                "num_tasks": 1,
                "outer_lr": 3e-3,
                "schedule": "cosine",
                "valid_tasks": 50,
                "validate_every": 125,
                "strategy": "looped",
                "threads": 1,
                "device": "cpu",
            },
            evaluations=(Evaluation(num_tasks=_NUM_TASKS),),
            beside="innerloop.recipes.characters:beside",
        )
    ]


def beside(learner: Any, test: Any) -> list[dict[str, Any]]:
    """Accuracy on Omniglot's evaluation set, on printed characters and on ten handwritten digits, baselines on the same tasks.

    No digit and no alphabet of the evaluation set is in training; the digits are MNIST's test pictures, drawn by other people
    with other pens. Of the printed scripts (those of the `glyphs` problem's test) training has most in handwriting.
    """
    from innerloop import tasks
    from innerloop.data.mnist_files import load_mnist
    from innerloop.tasks.pictures.few_shot import FewShotImages

    del test
    digits = load_mnist()
    rows = []
    for shots in _DIGITS_SHOTS:
        told = FewShotImages(digits, range(10), name="mnist", split="test", ways=10, shots=shots, queries=20)
        rows += _rows(learner, told, f"ten MNIST digits, {shots}-shot", 100, logistic=True)
    for shots in (1, 5):
        rows += _rows(
            learner,
            tasks.omniglot(ways=20, shots=shots, queries=5).test,
            f"Omniglot evaluation set, 20-way {shots}-shot",
            _NUM_TASKS,
        )
        rows += _rows(
            learner,
            tasks.glyphs(ways=20, shots=shots, queries=5).test,
            f"printed characters of scripts trained on in handwriting alone, 20-way {shots}-shot",
            _NUM_TASKS,
        )
    return rows


def _rows(learner: Any, tasks: Any, where: str, num_tasks: int, logistic: bool = False) -> list[dict[str, Any]]:
    """The learner's accuracy and the baselines', in percent."""
    from innerloop.evaluation.evaluate import evaluate

    report = evaluate(learner, tasks, num_tasks=num_tasks)
    values = {"": (report.mean, report.ci95)}
    values |= {f": {name} on the pixels": (one.mean, one.ci95) for name, one in report.baselines.items()}
    if logistic:
        values[": logistic regression on the pixels"] = _logistic_regression(tasks, num_tasks)
    return [
        {
            "metric": f"accuracy % {where}{name}",
            "value": round(100 * mean, 2),
            "ci95": round(100 * ci95, 2),
            "num_tasks": num_tasks,
            "transductive": False,
        }
        for name, (mean, ci95) in values.items()
    ]


def _logistic_regression(tasks: Any, num_tasks: int) -> tuple[float, float]:
    """scikit-learn's, as it comes, on each task's support set alone: (mean, interval) of the accuracy."""
    from innerloop.evaluation.evaluate import in_batches, mean_ci95
    from innerloop.recipes.baselines import sklearn_module

    make = sklearn_module("linear_model").LogisticRegression
    found = []
    for batch in in_batches(tasks, num_tasks):
        for x, y, z, answers in zip(
            batch.support.x.flatten(2), batch.support.y, batch.query.x.flatten(2), batch.query.y, strict=True
        ):
            fitted = make(max_iter=1_000).fit(x.numpy(), y.numpy())
            found.append(float((fitted.predict(z.numpy()) == answers.numpy()).mean()))
    return mean_ci95(found)
