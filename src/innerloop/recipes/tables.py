"""Tables of few rows: patients with few visits, and data sets with few rows a class."""

from __future__ import annotations

from innerloop.recipes.recipe import Recipe

_SOURCE = "this project; no published number. Baselines on the same rows, from scikit-learn"


def recipes() -> list[Recipe]:
    found = [
        Recipe(
            name=f"parkinson-{visits}-visits",
            summary=f"motor UPDRS of an unseen patient from {visits} visits, beside ridge per patient and pooled models.",
            source=_SOURCE,
            runner=f"innerloop.recipes.patients:run_{visits}_visits",
        )
        for visits in (5, 10)
    ]
    return found + [
        Recipe(
            name=f"pmlb-{rows}-rows",
            summary=f"pmlb tables never seen, {rows} rows a class: AUC beside logistic regression and a random forest.",
            source=_SOURCE,
            runner=f"innerloop.recipes.few_rows:run_{rows}_rows",
        )
        for rows in (5, 20)
    ]
