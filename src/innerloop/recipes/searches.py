"""Hyperparameter search from past searches, on tables of what was tried."""

from __future__ import annotations

from innerloop.recipes.recipe import Recipe


def recipes() -> list[Recipe]:
    source = (
        "this project's setting; data of Salinas et al. 2020, arXiv:1909.13595. Random search, a cold GP and optuna's TPE and GP "
        "in the same run"
    )
    return [
        Recipe(
            name=f"hpo-{name}",
            summary=f"hyperparameters of {said} from past searches: regret after 5 to 50 trials, each data set left out in turn.",
            source=source,
            runner=f"innerloop.recipes.hpo_tables:run_{name}",
        )
        for name, said in (("xgboost", "XGBoost on 10 data sets"), ("deepar", "DeepAR on 11 data sets"))
    ]
