"""The recipes of hyperparameter search, on small made-up tables: what is tried, what is told, what the rows say."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.data.search_tables import SearchTable, search_table
from innerloop.errors import ConfigError, InputError
from innerloop.hpo.past import from_table
from innerloop.recipes import hpo_tables


def small(sets: int = 3, rows: int = 40) -> SearchTable:
    """Data sets with their best at x = .3, in scales of their own; a row's z does not matter."""
    random = np.random.default_rng(0)
    x = random.random((sets * rows, 2))
    scale = np.repeat(10.0 ** np.arange(sets), rows)
    names = np.repeat([f"set {i}" for i in range(sets)], rows)
    return SearchTable("error", ("hp_x", "hp_z"), x, scale * np.square(x[:, 0] - 0.3), names)


def test_every_way_searches_every_data_set():
    found = hpo_tables.curves(small(), trials=6, seeds=1, optuna=False)
    assert set(found) == {
        "what the past chose", "random search", "cold GP-EI", "copula, always", "tasks, always", "portfolio, always"
    }  # fmt: skip
    for name, own in found.items():
        assert set(own) == {"set 0", "set 1", "set 2"}, name
        assert all(len(curve) == 6 and np.all(np.diff(curve) <= 0) and curve.min() >= 0 for curve in own.values())
    chosen = found.chosen["set 1"][0]
    same = {"cold": "cold GP-EI"}.get(chosen, f"{chosen}, always")
    assert np.array_equal(found[same]["set 1"], found["what the past chose"]["set 1"])
    assert np.mean([own[0] for own in found["tasks, always"].values()]) < 0.3, (
        "the past is right, from the first trial on"
    )
    rows = {row["metric"]: row["value"] for row in hpo_tables.rows_of(found, (1, 6), (6,))}
    lead = rows["regret after 6 trials: random search"] - rows["regret after 6 trials: what the past chose"]
    assert rows["regret after 6 trials: random search less what the past chose"] == pytest.approx(lead, abs=2e-4)
    assert "regret after 1 trials: random search less what the past chose" not in rows
    assert rows["seconds of processor time to learn from the past"] > 0


@pytest.mark.parametrize("which", ["TPE", "GP"])
def test_optunas_samplers_get_the_nearest_rows_once_each(which):
    pytest.importorskip("optuna")
    if which == "GP":
        pytest.importorskip("scipy")
    table = small(1, 30)
    columns = dict(zip(table.parameters, table.x.T, strict=True))
    (task,) = from_table(
        {**columns, "e": table.y, "set": table.data_sets}, task="set", metric="e", direction="minimize"
    )
    rows = np.stack([[task.parameters[n].unit(c[n]) for n in ("hp_x", "hp_z")] for c in task.configs])
    tried = hpo_tables.with_optuna(which, task, rows, 15, seed=0)
    assert len(set(tried)) == 15 and tried == hpo_tables.with_optuna(which, task, rows, 15, seed=0)
    near = np.abs(table.x[tried, 0] - 0.3)
    assert near[10:].mean() < np.abs(table.x[:, 0] - 0.3).mean(), "they learn from what they are told"


def test_tables_are_read_or_told(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match="did you mean 'xgboost'"):
        search_table("xgbost")
    with pytest.raises(InputError, match="got nothing there"):
        search_table("xgboost")
    (tmp_path / "hpo").mkdir()
    import lzma

    with lzma.open(tmp_path / "hpo" / "XGBoost.csv.xz", "wt") as file:
        file.write("hp_a,hp_b,metric_error,blackbox,task\n0.5,2,0.1,XGBoost,heart\n0.1,3,0.2,XGBoost,a6a\n")
    found = search_table("xgboost")
    assert found.parameters == ("hp_a", "hp_b") and found.x.tolist() == [[0.5, 2], [0.1, 3]]
    assert found.y.tolist() == [0.1, 0.2] and found.data_sets.tolist() == ["heart", "a6a"]
    with lzma.open(tmp_path / "hpo" / "XGBoost.csv.xz", "wt") as file:
        file.write("hp_a,metric_error,task\nx,0.1,heart\n")
    with pytest.raises(InputError, match="columns of numbers"):
        search_table("xgboost")
