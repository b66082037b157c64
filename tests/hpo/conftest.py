"""Past studies of one small problem, in an SQLite file as optuna makes it."""

from __future__ import annotations

import pytest
from small_search import objective

optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install 'innerloop[hpo]'")
optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session")
def past_db(tmp_path_factory):
    path = tmp_path_factory.mktemp("past") / "past.db"
    for i, shift in enumerate((-0.3, 0.0, 0.3)):
        sampler = optuna.samplers.RandomSampler(seed=i)
        study = optuna.create_study(study_name=f"past {i}", storage=f"sqlite:///{path}", sampler=sampler)
        study.optimize(objective(shift), n_trials=20)
    return path


@pytest.fixture(scope="session")
def kept(past_db, tmp_path_factory):
    """The folder of a fit, and the fit."""
    from innerloop import hpo

    folder = tmp_path_factory.mktemp("runs") / "hpo"
    return folder, hpo.fit(past_db, kind="tasks", out=folder)
