"""Accuracy against the number of examples a class, on new classes: few examples help most, with many the others catch up.

Letters as rows of 16 measurements (`letter` of pmlb; Frey and Slate 1991, Machine Learning 6) and printed characters as
pictures (`glyphs`, 20 pixels wide). A prototypical network is trained on other classes, 5 examples of each at a time, and
adapts to tasks of five new ones. Beside it, on the same tasks and without any other classes: the same network with a linear
layer, trained on the task's examples alone, and logistic regression. Their settings are chosen on validation tasks.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from innerloop.recipes.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from innerloop.core import Task, TaskDistribution, TaskFamily

SHOTS = (1, 2, 5, 10, 20, 50, 100, 200)
META, SCRATCH, LOGISTIC = "protonet, meta-learned", "the same network from scratch", "logistic regression"
_WAYS, _TRAIN_SHOTS, _QUERIES = 5, 5, 15
_TASKS = {"tables": 60, "glyphs": 20}
_STEPS = {"tables": 1_500, "glyphs": 300}
_SIZE, _CHARACTERS = 20, 40  # pixels; test characters, each drawn as often as the largest task asks
_BATCH, _SCRATCH_STEPS = 50, 100
_CHOSEN_AT, _CHOSEN_ON = 20, 10  # examples a class, and validation tasks, on which the others' settings are chosen
_RATES, _STRENGTHS = (3e-3, 1e-2), (0.1, 1.0, 10.0, 100.0)


def recipes() -> list[Recipe]:
    of = {"tables": "letters as table rows", "glyphs": "printed characters"}
    return [
        Recipe(
            name=f"shots-{problem}",
            summary=f"Accuracy against examples a class, 1 to 200, {what}: meta-learned, from scratch, logistic regression.",
            source="this project; no published number. Baselines on the same tasks",
            runner=f"innerloop.recipes.shots:run_{problem}",
        )
        for problem, what in of.items()
    ]


class Problem(NamedTuple):
    """What is trained on, and the splits that are asked.

    Attributes:
        family: training's.
        asked: the validation or test split ("valid", "test") with so many examples a class.
        model: the network with so many outputs; None: without its last layer.
        batch: training tasks of an outer step.
    """

    family: TaskFamily
    asked: Callable[[str, int], TaskDistribution]
    model: Callable[[int | None], nn.Module]
    batch: int


def run_tables() -> list[dict[str, Any]]:
    """Rows of the recipe on letters as rows of a table."""
    return run("tables")


def run_glyphs() -> list[dict[str, Any]]:
    """Rows of the recipe on printed characters."""
    return run("glyphs")


def run(
    problem: str, shots: Sequence[int] = SHOTS, steps: int | None = None, tasks: int | None = None
) -> list[dict[str, Any]]:
    """Mean accuracies over the same test tasks for each number of examples a class, and how far the first is ahead."""
    import torch

    from innerloop.evaluation.evaluate import evaluate, mean_ci95
    from innerloop.methods.protonet import protonet
    from innerloop.training.fit import fit

    steps, tasks = steps or _STEPS[problem], tasks or _TASKS[problem]
    given = {"tables": _tables, "glyphs": _glyphs}[problem]()
    torch.manual_seed(0)
    learner = protonet(given.model(None))
    fit(
        learner,
        given.family,
        steps=steps,
        num_tasks=given.batch,
        outer_lr=3e-3,
        schedule="cosine",
        validate_every=max(1, steps // 3),
        valid_tasks=100,
        threads=1,
        quiet=True,
    )
    valid = given.asked("valid", min(_CHOSEN_AT, max(shots)))
    rate = max(_RATES, key=lambda r: evaluate(_scratch(given, r), valid, num_tasks=_CHOSEN_ON, baselines=False).mean)
    tuned = valid.at(0, 0, _CHOSEN_ON)
    strength = max(_STRENGTHS, key=lambda c: sum(_logistic(tuned, c)))
    scratch = _scratch(given, rate)
    result: list[dict[str, Any]] = []
    for number in shots:
        test = given.asked("test", number)
        found: dict[str, Sequence[float]] = {
            META: evaluate(learner, test, num_tasks=tasks, baselines=False).per_task,
            SCRATCH: evaluate(scratch, test, num_tasks=tasks, baselines=False).per_task,
            LOGISTIC: _logistic(test.at(0, 0, tasks), strength),
        }
        for other in (SCRATCH, LOGISTIC):
            ahead = [a - b for a, b in zip(found[META], found[other], strict=True)]
            found[f"{META}, less {other}, task by task"] = ahead
        for name, values in found.items():
            mean, ci95 = mean_ci95([100 * v for v in values])
            result.append(
                {
                    "metric": f"accuracy %, {number} a class: {name}",
                    "value": round(mean, 2),
                    "ci95": round(ci95, 2),
                    "num_tasks": tasks,
                    "transductive": False,
                    "steps": steps if name.startswith(META) else 0,
                }
            )
    return result


def _scratch(given: Problem, rate: float) -> Any:
    """Adam on mini-batches from the network's own initial weights: of Reptile, which nobody has trained, the inner loop."""
    import torch

    from innerloop.methods.reptile import reptile

    torch.manual_seed(0)
    return reptile(
        given.model(_WAYS), inner_lr=rate, inner_optimizer="adam", eval_batch=_BATCH, eval_steps=_SCRATCH_STEPS
    )


def _logistic(tasks: Task, strength: float) -> list[float]:
    """Each task's accuracy of scikit-learn's logistic regression, fitted to its support set alone."""
    from innerloop.recipes.baselines import sklearn_module

    make = sklearn_module("linear_model").LogisticRegression
    support, query = tasks.support, tasks.query
    x, z = (side.x.flatten(2).numpy() for side in (support, query))
    y, t = support.y.numpy(), query.y.numpy()
    return [float(make(C=strength, max_iter=500).fit(x[i], y[i]).score(z[i], t[i])) for i in range(len(x))]


# ---- the two problems --------------------------------------------------------------------------------------------
def _tables() -> Problem:
    """Five letters a task; 13 letters train, 5 validate and 8 are for the test."""
    from innerloop import models
    from innerloop.data.locations import data_folder
    from innerloop.errors import InputError
    from innerloop.recipes.scratch_folder import scratch_folder
    from innerloop.tasks.tables.own import table_family

    archive = data_folder() / "pmlb" / "pmlb_small.zip"
    if not archive.is_file():
        raise InputError(f"expected pmlb's tables at {archive}, got none; put pmlb's data sets there")
    with scratch_folder() as folder:
        table = folder / "letter.tsv"
        with zipfile.ZipFile(archive) as packed:
            table.write_bytes(gzip.decompress(packed.read("datasets/letter/letter.tsv.gz")))
        family = table_family(
            table,
            target="target",
            tasks_by="class_pairs",
            kind="classification",
            ways=_WAYS,
            shots=_TRAIN_SHOTS,
            queries=_QUERIES,
            train_queries=5,
            valid_share=0.2,
            test_share=0.3,
        )

    def asked(split: str, shots: int) -> TaskDistribution:
        return getattr(family, split).resized(_WAYS, shots, _QUERIES)

    return Problem(family, asked, lambda outputs: models.mlp(16, outputs, hidden=(64, 64)), batch=8)


def _glyphs() -> Problem:
    """Forty characters of each split's scripts that `glyphs` has, each drawn anew as often as it is asked."""
    from innerloop import models
    from innerloop.data.class_images import ClassImages, seeded_order
    from innerloop.data.glyph_fonts import SPLITS, character_name, characters
    from innerloop.data.glyph_images import draw, glyph_images
    from innerloop.tasks.pictures.few_shot import FewShotImages
    from innerloop.tasks.pictures.glyphs import glyphs

    family = glyphs(
        ways=_WAYS, shots=_TRAIN_SHOTS, queries=5, train_ways=20, train_shots=_TRAIN_SHOTS, train_queries=5, size=_SIZE
    )
    images = glyph_images(_SIZE)
    known = {character_name(character.code): character for character in characters()}
    drawn: dict[tuple[str, int], ClassImages] = {}

    def asked(split: str, shots: int) -> TaskDistribution:
        names = [images.names[c] for c in images.in_groups([s for s, of in SPLITS.items() if of == split])]
        chosen = seeded_order(names, 0)[:_CHARACTERS]
        number = shots + _QUERIES
        if (split, number) not in drawn:
            pictures = draw([known[name] for name in chosen], _SIZE, number)
            drawn[split, number] = ClassImages(pictures, tuple(chosen), (split,) * len(chosen))
        return FewShotImages(
            drawn[split, number],
            range(len(chosen)),
            name="glyphs",
            split=split,
            ways=_WAYS,
            shots=shots,
            queries=_QUERIES,
        )

    def model(outputs: int | None) -> nn.Module:
        # Without batch statistics, which would let a query's answer depend on the others.
        options: dict[str, Any] = {"filters": 32, "norm": "none", "spatial": "flatten", "halvings": 3}
        return models.conv4((1, _SIZE, _SIZE), outputs, **options)

    return Problem(family, asked, model, batch=1)
