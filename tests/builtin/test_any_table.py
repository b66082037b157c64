"""`builtin:tables` on tables that it never saw: numbers, texts, gaps, many columns and classes; in memory and by command."""

from __future__ import annotations

import csv
import warnings

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.cli.main import main
from innerloop.errors import InnerloopWarning
from innerloop.evaluation import baselines


@pytest.fixture(scope="module")
def learner():
    return il.load("builtin:tables")


def test_wine_from_eight_rows_a_class(learner):
    """The recipe measures more draws: there 8 rows a class give about what logistic regression does."""
    recipe = pytest.importorskip("innerloop.recipes.any_table")
    data = pytest.importorskip("sklearn.datasets").load_wine()
    columns = dict(zip(data.feature_names, data.data.T, strict=True))
    wine = recipe.as_table({**columns, "target": data.target})
    found = [recipe.numbers_of(learner, wine, draw, queries=200) for draw in range(6)]
    ours, mean = (
        np.mean([[one[m, n] for m in ("accuracy", "AUC")] for one in found], 0) for n in (recipe._OURS, "class mean")
    )
    assert ours[0] >= 0.93 and ours[1] >= 0.99, ours
    assert ours[1] > mean[1] + 0.02


def mixed(rows: int, seed: int, noise: int = 60) -> dict[str, list]:
    """Three kinds that a text and a number with gaps tell apart, among many columns of nothing."""
    g = np.random.default_rng(seed)
    kind = np.arange(rows) % 3
    wood = np.where(g.uniform(size=rows) < 0.9, kind == 0, g.uniform(size=rows) < 0.3)
    weight = 40.0 * (kind == 2) + 10 * g.normal(size=rows)
    table: dict[str, list] = {f"nothing {i}": g.normal(size=rows).tolist() for i in range(noise)}
    table["wood"] = ["oak" if w else "ash" for w in wood]
    table["weight"] = [None if g.uniform() < 0.1 else float(w) for w in weight]
    table["kind"] = [("chair", "table", "bench")[k] for k in kind]
    return table


def test_texts_gaps_and_sixty_columns_of_nothing(learner):
    shown, asked = mixed(24, 0), mixed(150, 1)
    fitted = learner.adapt(shown, target="kind")
    assert fitted.classes_ == ["bench", "chair", "table"]
    right = fitted.score(asked)
    z = {k: v for k, v in asked.items() if k != "kind"}
    assert (fitted.predict(z) == np.array(asked["kind"])).mean() == right
    numbers = [np.nan_to_num(np.array([list(map(float, map(_number, t[k]))) for k in z]).T) for t in (shown, asked)]
    truth = np.array([fitted.classes_.index(k) for k in shown["kind"]])
    x, z_ = (torch.as_tensor((n - numbers[0].mean(0)) / numbers[0].std(0)) for n in numbers)
    one_hot = torch.nn.functional.one_hot(torch.as_tensor(truth), 3).double()
    guess = baselines.class_mean(x, one_hot, z_, torch.ones(24, dtype=torch.bool)).argmax(1)
    usual = np.mean([fitted.classes_[g] == k for g, k in zip(guess.tolist(), asked["kind"], strict=True)])
    assert right > 0.8 and right > usual + 0.05, (right, usual)


def _number(cell) -> float:
    return float("nan") if cell is None else float(cell == "oak") if isinstance(cell, str) else cell


@pytest.mark.parametrize("ways", [2, 10])
def test_two_to_ten_classes_of_unequal_sizes(learner, ways):
    g = np.random.default_rng(ways)
    y = np.concatenate([np.repeat(np.arange(ways), 5), np.zeros(20, int)])
    means = 6 * g.normal(size=(ways, 3))
    fitted = learner.adapt(
        {**dict(zip("abc", (means[y] + g.normal(size=(len(y), 3))).T, strict=True)), "y": y}, target="y"
    )
    asked = np.repeat(np.arange(ways), 10)
    found = fitted.predict(dict(zip("abc", (means[asked] + g.normal(size=(len(asked), 3))).T, strict=True)))
    assert found.dtype.kind == "i" and (found == asked).mean() > 0.85


def test_its_probabilities_can_be_believed(learner):
    """On made-up tables that it never saw, with more rows than any had in training: about as often right as it says."""
    tasks = il.tasks.synthetic_tables(ways=3, shots=15, queries=10, columns=64).test.at(5, 0, 40)
    with torch.no_grad():
        chances = torch.softmax(learner.predict_queries(tasks), -1)
    sure, guess = chances.max(-1)
    right = (guess == tasks.query.y).float().mean()
    assert right > 0.4 and abs(float(sure.mean() - right)) < 0.06


def test_on_the_command_line_offline(tmp_path, offline, capsys):
    for name, table in (("rows", mixed(24, 0, 3)), ("new", mixed(9, 1, 3))):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows(
                [table, *([("" if c is None else c) for c in row] for row in zip(*table.values(), strict=True))]
            )
    task, out = tmp_path / "task.il", tmp_path / "predictions.csv"
    assert main(["adapt", "builtin:tables", str(tmp_path / "rows.csv"), "--target", "kind", "--out", str(task)]) == 0
    said = capsys.readouterr().out
    assert "adapted to 24 examples (3 classes)" in said and "judged on your 24 examples" in said
    assert main(["predict", str(task), str(tmp_path / "new.csv"), "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    assert sum(r["prediction"] == k for r, k in zip(rows, mixed(9, 1, 3)["kind"], strict=True)) >= 6


def test_bad_tables_are_one_line(learner):
    with pytest.raises(il.InputError, match="at least two classes"):
        learner.adapt({"a": [1.0, 2.0], "y": ["x", "x"]}, target="y")
    with pytest.raises(il.InputError, match=r"expected class names, got fractions"):
        learner.adapt({"a": list(range(9)), "y": [i / 7 for i in range(9)]}, target="y")
    fitted = learner.adapt({"a": [1.0, 2.0, 7.0, 9.0], "y": ["x", "x", "z", "z"]}, target="y")
    with pytest.raises(il.InputError, match="got none named 'a'"):
        fitted.predict({"b": [1.0]})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", InnerloopWarning)
        assert fitted.predict({"a": [1.5, None]}).tolist()[0] == "x"
    assert not told
