"""Tables of few rows: patients with few visits, users with few ratings, and data sets with few rows a class."""

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
    found.append(
        Recipe(
            name="movielens-10-ratings",
            summary="stars of an unseen user from 10 ratings, by three methods, beside item bias + shrunk user mean and ALS.",
            source=_SOURCE.partition(".")[0],
            runner="innerloop.recipes.ratings:run_10_ratings",
        )
    )
    found += [
        Recipe(
            name=f"movielens-{name.replace('_', '-')}",
            summary=f"stars of an unseen user, {said}, beside item bias + shrunk user mean.",
            source=_SOURCE.partition(".")[0],
            runner=f"innerloop.recipes.rating_settings:run_{name}",
        )
        for name, said in (
            ("new_films", "of films that nobody has rated"),
            ("later", "who shows the first 10 ratings and is asked for all later ones"),
            ("streaming", "who rates one film after another: test, then learn"),
        )
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
