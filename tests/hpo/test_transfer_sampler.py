"""The sampler in real studies in a real SQLite file: warm from the first trial, the same after a kill, any kind of trial."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap

import numpy as np
import optuna
import pytest
from small_search import error, objective

from innerloop import ConfigError, InputError, hpo
from innerloop.hpo.sampler import TransferSampler
from innerloop.hpo.study_so_far import so_far

FLOAT, INT = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
CATEGORY = optuna.distributions.CategoricalDistribution
SPACE = {"lr": FLOAT(1e-5, 1e-1, log=True), "layers": INT(1, 8), "kind": CATEGORY(["a", "b", "c"])}


def study_with(sampler, **settings):
    return optuna.create_study(sampler=sampler, **settings)


def test_warm_from_the_first_trial(kept):
    folder, made = kept
    study = study_with(hpo.TransferSampler(folder, seed=0))
    study.optimize(objective(0.1), n_trials=12)
    random = np.random.default_rng(0)
    usual = [
        error(10 ** random.uniform(-5, -1), random.integers(1, 9), random.choice(["a", "b", "c"]), 0.1)
        for _ in range(500)
    ]
    assert study.trials[0].value < np.quantile(usual, 0.05)
    assert study.best_value < np.quantile(usual, 0.01)
    again = study_with(TransferSampler(made, seed=0))
    again.optimize(objective(0.1), n_trials=4)
    assert [t.params for t in again.trials] == [t.params for t in study.trials[:4]], (
        "the object and its folder are alike"
    )
    other = study_with(TransferSampler(made, seed=1))
    other.optimize(objective(0.1), n_trials=4)
    assert [t.params for t in other.trials] != [t.params for t in again.trials]


def test_a_study_that_was_killed_goes_on_with_the_same_suggestions(kept, tmp_path):
    """Killed in the middle, between trials, by the system: a new process gives what the old one would have given."""
    folder, made = kept
    whole = study_with(TransferSampler(made, seed=3), storage=f"sqlite:///{tmp_path}/whole.db", study_name="s")
    whole.optimize(objective(0.1), n_trials=6)
    program = f"""
        import os, signal, sys
        sys.path.insert(0, {str(folder.parent.parent)!r})
        import optuna
        from innerloop import hpo
        from small_search import objective
        study = optuna.create_study(sampler=hpo.TransferSampler({str(folder)!r}, seed=3), storage="sqlite:///{tmp_path}/part.db",
                                    study_name="s", load_if_exists=True)
        study.optimize(objective(0.1), n_trials=3, callbacks=[
            lambda s, t: os.kill(os.getpid(), signal.SIGKILL) if t.number == 2 else None])
    """
    place = str(__import__("small_search").__file__).rpartition("/")[0]
    killed = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {place!r})\n{textwrap.dedent(program)}"], check=False
    )
    assert killed.returncode == -9
    part = optuna.load_study(
        study_name="s", storage=f"sqlite:///{tmp_path}/part.db", sampler=TransferSampler(folder, seed=3)
    )
    assert len(part.trials) == 3
    part.optimize(objective(0.1), n_trials=3)
    assert [t.params for t in part.trials] == [t.params for t in whole.trials]


def test_a_trial_that_never_ended_is_under_way(kept):
    made = kept[1]
    study = study_with(TransferSampler(made, seed=0))
    study.optimize(objective(), n_trials=3)
    asked = [study.ask(SPACE).params for _ in range(4)]
    assert len({tuple(a.items()) for a in asked}) == 4, "four workers try four configurations"
    found = so_far(study)
    assert len(found.tried) == 7 and len(found.values) == 3
    study.enqueue_trial({"lr": 1e-3, "layers": 2, "kind": "b"})
    assert so_far(study).tried[-1] == {"lr": 1e-3, "layers": 2, "kind": "b"}


def test_two_workers_at_once(kept, tmp_path):
    study = study_with(TransferSampler(kept[1], seed=0), storage=f"sqlite:///{tmp_path}/two.db")
    study.optimize(objective(), n_trials=8, n_jobs=2)
    assert len(study.trials) == 8 and all(t.state.name == "COMPLETE" for t in study.trials)
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == 8


def test_failed_trials_count_as_the_worst(kept):
    made = kept[1]

    def fails(trial):
        value = objective()(trial)
        if trial.params["kind"] == "a":
            raise ValueError("out of memory")
        return value

    study = study_with(TransferSampler(made, seed=0))
    study.optimize(fails, n_trials=15, catch=(ValueError,))
    failed = [t for t in study.trials if t.state.name == "FAIL"]
    found = so_far(study)
    assert 0 < len(failed) < 6 and np.isinf(found.values).sum() == len(failed)
    assert all(t.number < 8 for t in failed), "what the past thinks best is given up"


def test_pruned_trials_are_no_better_than_the_median(kept):
    study = study_with(TransferSampler(kept[1], seed=0))
    for value, pruned in ((1.0, False), (3.0, False), (0.0, True), (9.0, True), (None, True)):
        trial = study.ask(SPACE)
        if value is not None:
            trial.report(value, 1)
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, value)
    assert so_far(study).values.tolist() == [1.0, 3.0, 2.0, 9.0, 2.0]


def test_maximising_is_minimising_the_negative(kept):
    made = kept[1]
    down, up = study_with(TransferSampler(made)), study_with(TransferSampler(made), direction="maximize")
    down.optimize(objective(0.2), n_trials=6)
    up.optimize(lambda t: -objective(0.2)(t), n_trials=6)
    assert [t.params for t in down.trials] == [t.params for t in up.trials]


def test_no_configuration_is_tried_twice(kept):
    study = study_with(TransferSampler(kept[1]))
    space = {"layers": INT(1, 3), "kind": CATEGORY(["a", "b"])}
    for i in range(7):
        trial = study.ask(space)
        study.tell(trial, float(i % 2))
    params = [tuple(sorted(t.params.items())) for t in study.trials]
    assert len(set(params[:6])) == 6 == len(set(params)), "six there are; the seventh is one of them"


def test_what_was_tried_is_masked_however_good_it_looks(kept, monkeypatch):
    from innerloop.hpo import sampler

    study = study_with(TransferSampler(kept[1]))
    study.tell(study.ask({"layers": INT(1, 3)}), 1.0)
    monkeypatch.setattr(
        sampler, "acquisition", lambda kind, prior, seen, rows, learned: -(rows - seen.rows[0]).abs().sum(1)
    )
    first = study.trials[0].params["layers"]
    assert study.ask({"layers": INT(1, 3)}).params["layers"] != first


def test_the_studys_own_types_decide(kept):
    """The past knows lr from 1e-5 to 1e-1 by its logarithm, layers as whole numbers, kind as a, b, c."""
    study = study_with(TransferSampler(kept[1]))
    space = {
        "lr": FLOAT(0.01, 1.0),
        "layers": CATEGORY(["1", "4", "9"]),
        "kind": CATEGORY(["c", "new"]),
        "more": FLOAT(0, 1),
    }
    for _ in range(10):
        trial = study.ask(space)
        p = trial.params
        assert 0.01 <= p["lr"] <= 1 and p["layers"] in ("1", "4", "9") and p["kind"] in ("c", "new")
        study.tell(trial, abs(p["more"] - 0.3) + (p["layers"] != "4"))
    assert study.trials[0].params["lr"] == pytest.approx(0.01, abs=0.05), (
        "its best rates are below: the nearest that there is"
    )
    assert study.trials[0].params["layers"] == "4"
    assert len({t.params["more"] for t in study.trials}) > 5, "what the past does not know is searched"
    assert study.best_value < 0.2


def test_conditional_parameters(kept):
    def value(trial):
        lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b", "c"])
        more = abs(trial.suggest_float("momentum", 0, 1) - 0.7) if kind == "c" else 1.5
        return (math.log10(lr) + 3) ** 2 + more

    study = study_with(TransferSampler(kept[1]))
    study.optimize(value, n_trials=30)
    assert study.best_trial.params["kind"] == "c" and study.best_value < 0.5
    assert all(("momentum" in t.params) == (t.params["kind"] == "c") for t in study.trials)
    sampler = study.sampler
    assert set(sampler.infer_relative_search_space(study, study.trials[-1])) == {"lr", "kind"}


def test_a_past_of_other_parameters_is_no_past(kept):
    study = study_with(TransferSampler(kept[1]))
    study.optimize(lambda t: (t.suggest_float("x", 0, 1) - 0.3) ** 2, n_trials=15)
    assert study.best_value < 1e-3


def test_a_constant_objective_and_infinite_values(kept):
    study = study_with(TransferSampler(kept[1]))
    study.optimize(lambda t: math.inf if t.suggest_float("lr", 1e-5, 1e-1, log=True) > 1e-2 else 1.0, n_trials=8)
    assert len(study.trials) == 8


def test_suggest_is_what_the_next_trial_gets(kept):
    sampler = TransferSampler(kept[1], seed=5)
    study = study_with(sampler)
    assert set(sampler.suggest(study)[0]) == {"lr", "layers", "kind"}, "before a trial, in the past's parameters"
    study.optimize(objective(), n_trials=3)
    first, second = sampler.suggest(study, 2)
    assert len(study.trials) == 3 and first != second
    assert study.ask(SPACE).params == first and study.ask(SPACE).params == second


def test_what_cannot_be_is_one_line(kept):
    made = kept[1]
    with pytest.raises(ConfigError, match="seed expected an integer of at least 0"):
        TransferSampler(made, seed=-1)
    with pytest.raises(ConfigError, match="count expected"):
        TransferSampler(made).suggest(optuna.create_study(), 0)
    with pytest.raises(InputError, match="fit past studies first"):
        TransferSampler("nothing")
    study = study_with(TransferSampler(made), directions=["minimize", "minimize"])
    with pytest.raises(ConfigError, match="got 2; say which by metric="):
        study.ask(SPACE)
    both = study_with(TransferSampler(made, metric=1), directions=["minimize", "minimize"])
    both.optimize(lambda t: (0.0, objective()(t)), n_trials=3)
    assert so_far(both, 1).values.tolist() == [t.values[1] for t in both.trials]


def test_without_optuna_the_line_that_installs_it(tmp_path):
    program = """import sys
sys.modules["optuna"] = None
from innerloop import hpo
try:
    hpo.TransferSampler
except Exception as error:
    print(type(error).__name__, error)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.startswith("InputError") and "pip install 'innerloop[hpo]'" in told
