"""Past studies and tables as tasks: directions, pruned and failed trials, columns, files, and one line for what cannot be."""

from __future__ import annotations

import math
import warnings

import numpy as np
import optuna
import pytest

from innerloop import ConfigError, InnerloopWarning, InputError, hpo
from innerloop.hpo.past import joint_space, past_tasks
from innerloop.hpo.processes import fit_processes
from innerloop.hpo.space import Parameter


def study_of(values, direction="minimize", name=None, states=None):
    study = optuna.create_study(direction=direction, study_name=name)
    for i, value in enumerate(values):
        state = optuna.trial.TrialState.COMPLETE if states is None else states[i]
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params={"x": i / len(values)},
                distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
                value=value if state.name == "COMPLETE" else None,
                intermediate_values={1: value} if state.name == "PRUNED" else {},
            )
        )
    return study


def test_directions_are_the_studies_own():
    down, up = study_of([3.0, 1.0, 2.0]), study_of([-3.0, -1.0, -2.0], "maximize")
    a, b = past_tasks([down, up])
    assert a.values.tolist() == b.values.tolist() == [3.0, 1.0, 2.0]
    with pytest.raises(ConfigError, match="was to maximize"):
        past_tasks([up], direction="minimize")


def test_pruned_trials_are_no_better_than_the_median_and_failed_ones_are_left_out():
    names = ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "PRUNED", "FAIL", "RUNNING"]
    states = [getattr(optuna.trial.TrialState, name) for name in names]
    (task,) = past_tasks(study_of([1.0, 2.0, 5.0, 0.5, 9.0, 0.0, 0.0], states=states))
    assert task.values.tolist() == [1.0, 2.0, 5.0, 2.0, 9.0] and len(task.configs) == 5


def test_a_storage_is_read_by_its_file_or_url(past_db):
    by_file, by_url = past_tasks(past_db), past_tasks(f"sqlite:///{past_db}")
    assert [t.name for t in by_file] == [t.name for t in by_url] == ["past 0", "past 1", "past 2"]
    assert by_file[0].parameters["lr"] == Parameter("float", 1e-5, 1e-1, log=True)
    assert joint_space(by_file).parameters["layers"].kind == "int"


def test_a_journal_is_read(tmp_path):
    from optuna.storages.journal import JournalFileBackend

    path = tmp_path / "past.log"
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    optuna.create_study(storage=storage, study_name="j").optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=4)
    (task,) = past_tasks(path)
    assert task.name == "j" and len(task.values) == 4


def test_several_values_need_a_metric():
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.set_metric_names(["loss", "speed"])
    study.optimize(lambda t: (t.suggest_float("x", 0, 1), 2 * t.params["x"]), n_trials=4)
    with pytest.raises(ConfigError, match="got 2; say which"):
        past_tasks([study])
    (loss,), (speed,) = past_tasks([study], metric=0), past_tasks([study], metric="speed")
    assert speed.values == pytest.approx(-2 * loss.values)
    with pytest.raises(ConfigError, match="did you mean 'speed'"):
        past_tasks([study], metric="sped")


TABLE = {
    "task": ["one"] * 4 + ["two"] * 4,
    "error": [0.4, 0.2, 0.3, 0.1, 40, 20, math.nan, 10],
    "lr": [1e-4, 1e-3, 1e-2, 1e-1, 1e-4, 2e-3, 1e-2, 1e-1],
    "layers": [1, 2, 3, 4, 1, 2, 3, 4],
    "act": ["relu", "tanh", "relu", "gelu", "relu", None, "relu", "gelu"],
    "same": ["x"] * 8,
}


def test_a_table_shows_its_parameters():
    one, two = past_tasks(TABLE, task="task", metric="error")
    assert (one.name, two.name) == ("one", "two") and two.values.tolist() == [40, 20, 10]
    assert one.parameters["lr"] == Parameter("float", 1e-4, 1e-1, log=True)
    assert one.parameters["layers"] == Parameter("int", 1, 4)
    assert one.parameters["act"].choices == ("relu", "tanh", "gelu") and "same" not in one.parameters
    assert two.configs[1] == {"lr": 2e-3, "layers": 2}, "a missing cell is a parameter that the trial has not"
    flipped, _ = past_tasks(TABLE, task="task", metric="error", direction="maximize", parameters=["lr"])
    assert flipped.values.tolist() == [-0.4, -0.2, -0.3, -0.1] and set(flipped.configs[0]) == {"lr"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metric": "error"}, "expected the name of its task column"),
        ({"task": "task"}, "expected the name of its metric column"),
        ({"task": "task", "metric": "eror"}, "did you mean 'error'"),
        ({"task": "task", "metric": "act"}, "expected numbers, got texts"),
        ({"task": "task", "metric": "error", "parameters": ["lrr"]}, "lrr"),
        ({"task": "task", "metric": "error", "direction": "up"}, "'minimize' or 'maximize'"),
        ({"task": "task", "metric": "error", "kind": "copul"}, "did you mean 'copula'"),
        ({"task": "task", "metric": "error", "parameters": ["same"]}, "parameters that vary"),
    ],
)
def test_what_cannot_be_is_one_line(given, said):
    with pytest.raises(InputError, match=said) as told:
        hpo.fit(TABLE, **given)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("past", "said"),
    [
        ("nothing.db", "got nothing there"),
        ([], "got none"),
        ("sqlite:///nothing.db", "got nothing there"),
        ("nonsense://x", "URL of an optuna storage"),
    ],
)
def test_no_past_is_one_line(past, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said) as told:
        hpo.fit(past)
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())


def test_another_file_is_no_storage(tmp_path):
    (tmp_path / "past.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="a table needs its task column"):
        hpo.fit(tmp_path / "past.csv")


def test_small_tasks_are_left_out_with_a_note():
    with pytest.warns(InnerloopWarning, match="left out.*small"):
        kept = past_tasks([study_of([1.0, 2.0, 3.0], name="large"), study_of([1.0, 2.0], name="small")])
    assert [task.name for task in kept] == ["large"]
    with pytest.raises(InputError, match="at least 3 finished trials"):
        past_tasks([study_of([1.0, 1.0, 1.0])])


def test_a_column_that_is_another_metric_is_told():
    random = np.random.default_rng(0)
    table = {"task": np.repeat(["a", "b"], 20), "x": random.random(40), "error": random.random(40)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        past_tasks(table, task="task", metric="error")
    with pytest.warns(InnerloopWarning, match="'loss' goes with 'error'"):
        past_tasks({**table, "loss": table["error"] ** 2}, task="task", metric="error")


def test_a_process_follows_its_task_and_knows_nothing_of_other_parameters():
    import torch

    random = np.random.default_rng(0)
    x = random.random(120)
    table = {
        "task": np.repeat(["a", "b"], 60),
        "error": np.concatenate([np.square(x[:60] - 0.2), 100 * np.square(x[60:] - 0.8)]),
        "x": x,
        "other": np.where(np.arange(120) < 60, random.random(120), np.nan),
    }
    tasks = past_tasks(table, task="task", metric="error")
    space = joint_space(tasks)
    past = fit_processes(tasks, space)
    asked = torch.as_tensor(space.rows([{"x": v, "other": 0.5} for v in (0.2, 0.5, 0.8)]))
    a, b = past.at(asked).T
    assert a[0] < a[1] < a[2] and b[2] < b[1] < b[0]
    moved = torch.as_tensor(space.rows([{"x": v, "other": 0.99} for v in (0.2, 0.5, 0.8)]))
    assert torch.equal(past.at(moved)[:, 1], b), "b never had it"
    assert past.only([1]).at(asked)[:, 0] == pytest.approx(b)
