"""`innerloop hpo fit` and `innerloop hpo suggest`: from studies and tables, as text and JSON, and one line for what cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest

from innerloop.cli.main import main

optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install 'innerloop[hpo]'")
optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two past studies in past.db, the same as past.csv, and a fit of each."""
    folder = tmp_path_factory.mktemp("hpo")
    lines = ["set,error,x,speed"]
    for name, best in (("one", 0.2), ("two", 0.3)):
        study = optuna.create_study(
            study_name=name,
            storage=f"sqlite:///{folder}/past.db",
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        study.optimize(lambda t, best=best: -abs(t.suggest_float("x", 0, 1) - best), n_trials=12)
        lines += [f"{name},{-t.value},{t.params['x']},{t.number}" for t in study.trials]
    (folder / "past.csv").write_text("\n".join(lines))
    assert main(["hpo", "fit", str(folder / "past.db"), "--out", str(folder / "db")]) == 0
    return folder


def test_fit_of_studies_and_of_a_table(place, capsys):
    line = ["hpo", "fit", str(place / "past.csv"), "--task-column", "set", "--metric", "error", "--ignore", "speed"]
    assert main([*line, "--out", str(place / "csv"), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert (
        table["tasks"] == {"one": 12, "two": 12} and table["parameters"] == ["x"] and table["out"] == str(place / "csv")
    )
    kept = json.loads((place / "db" / "hpo.json").read_text())
    # The table shows narrower ranges than the studies declare, so searches may differ a little; random search does not.
    assert kept["tasks"] == table["tasks"] and kept["regret"]["random"] == table["regret"]["random"]
    assert main(["hpo", "fit", str(place / "past.db"), "--out", str(place / "again")]) == 0
    told = capsys.readouterr().out
    assert "past tasks: 2, 24 trials" in told and "chosen: " in told and "next: innerloop hpo suggest" in told


def test_suggest(place, capsys):
    line = ["hpo", "suggest", str(place / "db"), "--study", str(place / "new.db"), "--direction", "maximize"]
    assert main([*line, "--count", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len({s["x"] for s in found["suggestions"]}) == 3 and found["trials"] == 0 and not (place / "new.db").exists()
    assert 0.0 <= found["suggestions"][0]["x"] < 0.4
    assert main([*line, "--enqueue", "--study-name", "new"]) == 0
    assert f"x={found['suggestions'][0]['x']:.6g}" in capsys.readouterr().out
    study = optuna.load_study(study_name="new", storage=f"sqlite:///{place}/new.db")
    study.optimize(lambda t: -abs(t.suggest_float("x", 0, 1) - 0.25), n_trials=1)
    assert study.trials[0].params == found["suggestions"][0] and study.direction.name == "MAXIMIZE"
    assert main([*line, "--json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert after["trials"] == 1 and after["suggestions"][0] != found["suggestions"][0]
    assert main([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == after, "nothing was written"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("hpo", "got nothing"),
        ("hpo fot", "did you mean 'fit'"),
        ("hpo fit --out x", "expected STUDIES"),
        ("hpo fit nothing.db --out x", "got nothing there"),
        ("hpo fit past.csv --out x", "a table needs its task column"),
        ("hpo fit past.csv --out x --task-column set --metric eror", "did you mean 'error'"),
        ("hpo fit past.csv past.csv --out x --task-column set --metric error", "got 2 paths"),
        ("hpo fit past.db --out x --ignore speed", "--ignore expected a table"),
        ("hpo fit past.db --out db", "add --force"),
        ("hpo fit past.db --out past.csv", "expected a folder"),
        ("hpo fit past.db --out x --kind best", "unknown kind 'best'"),
        ("hpo fit past.db --out x --direction minimize", "was to maximize"),
        ("hpo suggest nothing --study new.db", "fit past studies first"),
        ("hpo suggest db", "--study is required"),
        ("hpo suggest db --study past.db", "give --study-name"),
        ("hpo suggest db --study past.db --study-name on", "did you mean 'one'"),
        ("hpo suggest db --study past.csv", "expected an SQLite file"),
        ("hpo suggest db --study new.db --count 0", "count expected"),
        ("hpo suggest db --study past.db --study-name one --seed -1", "seed expected"),
    ],
)
def test_what_cannot_be_is_one_line(words, said, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert main(words.split()) == 2
    told = capsys.readouterr()
    assert said in told.err and told.err.count("\n") == 1 and told.out == "" and not (place / "x").exists()


def test_help(capsys):
    for words in ("hpo --help", "hpo fit --help", "hpo suggest --help"):
        assert main(words.split()) == 0
        assert "Usage: innerloop hpo" in capsys.readouterr().out


def test_numbers_of_a_fit_are_regrets(place):
    kept = json.loads((place / "db" / "hpo.json").read_text())
    assert set(kept["regret"]) == {"cold", "copula", "tasks", "portfolio", "random"}
    assert all(np.all(np.diff(own) <= 1e-12) and own[-1] >= 0 for own in kept["regret"].values())
