"""Train on a table, adapt to a new one, predict: names, units and columns go the whole way."""

import csv
import io
import json

import numpy as np
import pytest

import innerloop as il
from innerloop.cli.main import main
from innerloop.tasks.tables.own import table_family

pytest.importorskip("pandas")
RNG = np.random.default_rng(1)


def rows_of(path):
    return list(csv.DictReader(path.open()))


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """y = 100 + 10 x + an offset of the task; a run of a few steps, whose units are the table's."""
    where = tmp_path_factory.mktemp("tables")
    lines = ["who,x,colour,y"]
    for t in range(10):
        lines += [f"w{t},{x:.4f},{'red' if t % 2 else 'blue'},{100 + 10 * x + t:.4f}" for x in RNG.normal(size=8)]
    (where / "train.csv").write_text("\n".join(lines))
    family = table_family(where / "train.csv", target="y", task_column="who", center_target=True, shots=4, queries=4)
    learner = il.maml(il.models.mlp(family.train.input_shape[0], 1), inner_lr=0.05, inner_steps=5)
    il.fit(learner, family, out=where / "run", steps=100, num_tasks=8, quiet=True, valid_tasks=8, strategy="vmapped")
    return where


def test_the_runs_record_holds_the_preprocessing(regression):
    config = json.loads((regression / "run" / "config.json").read_text())
    assert config["preprocessing"]["kind"] == "table" and config["preprocessing"]["targets"] == ["y"]
    assert il.load(regression / "run").preprocessing == config["preprocessing"]


def test_regression_from_a_table_to_predictions_in_its_units(regression, tmp_path, capsys, monkeypatch):
    support = tmp_path / "new.csv"
    support.write_text("colour,y,x\n" + "\n".join(f"red,{105 + 10 * x:.4f},{x}" for x in (-1.5, -0.5, 0.5, 1.5)))
    task, out = tmp_path / "task.il", tmp_path / "p.csv"
    assert main(["adapt", str(regression / "run"), str(support), "--out", str(task)]) == 0
    assert "validation tasks of 'train.csv' (4 examples)" in capsys.readouterr().out  # the user's file
    inputs = tmp_path / "inputs.csv"
    inputs.write_text("x,colour,more\n-1,red,1\n0,red,2\n1,red,3\n")
    assert main(["predict", str(task), str(inputs), "--out", str(out)]) == 0
    found = rows_of(out)
    assert [list(row) for row in found] == [["row", "prediction"]] * 3
    values = np.array([float(row["prediction"]) for row in found])
    assert np.abs(values - [95, 105, 115]).max() < 4  # far from the scaled targets, which lie around 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(inputs.read_bytes())))
    assert main(["predict", str(task), "-", "--out", str(tmp_path / "q.csv")]) == 0
    assert (tmp_path / "q.csv").read_text() == out.read_text()
    fitted = il.load(task)  # from Python a table's path gives the table's units too
    assert np.allclose(fitted.predict(inputs)[:, 0], values, rtol=1e-6)
    with pytest.raises(il.InputError, match="expected one table for a learner of tables, got 2 paths"):
        fitted.predict([inputs, inputs])
    assert "never saw" not in capsys.readouterr().err
    inputs.write_text("x,colour\n0,mauve\n1,red\n")
    assert main(["predict", str(task), str(inputs), "--out", str(tmp_path / "unseen.csv")]) == 0
    assert (
        "'colour': 1 of 2 cells hold categories that the learner never saw, such as 'mauve'" in capsys.readouterr().err
    )
    inputs.write_text("colour\nred\n")
    assert main(["predict", str(task), str(inputs), "--out", str(tmp_path / "r.csv")]) == 2
    error = capsys.readouterr().err
    assert "none named 'x'" in error and error.count("\n") == 1 and not (tmp_path / "r.csv").exists()
    assert main(["adapt", str(regression / "run"), str(inputs), "--out", str(tmp_path / "no.il")]) == 2
    assert "no column 'y'" in capsys.readouterr().err


def test_classes_keep_their_names(tmp_path):
    lines = ["a,b,kind"]
    for c in range(8):
        lines += [f"{c},{RNG.normal():.3f},{c:02d}" for _ in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    family = table_family(tmp_path / "t.csv", target="kind", tasks_by="class_pairs", shots=2, queries=2)
    learner = il.protonet(il.models.mlp(2, 4, hidden=()))
    il.fit(learner, family, out=tmp_path / "run", steps=2, num_tasks=2, quiet=True, valid_tasks=2, strategy="vmapped")
    (tmp_path / "s.csv").write_text("kind,a,b\n07,7,0\n07,7,1\n10,1,0\nyes,30,0\n")
    assert main(["adapt", str(tmp_path / "run"), str(tmp_path / "s.csv"), "--out", str(tmp_path / "t.il")]) == 0
    assert main(["predict", str(tmp_path / "t.il"), str(tmp_path / "s.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    found = rows_of(tmp_path / "p.csv")
    assert list(found[0]) == ["row", "prediction", "confidence", "p_07", "p_10", "p_yes"]
    assert found[3]["prediction"] == "yes"
    for row in found:
        assert float(row[f"p_{row['prediction']}"]) == float(row["confidence"])
    assert il.load(tmp_path / "t.il").preprocessing["targets"] == ["kind"]
