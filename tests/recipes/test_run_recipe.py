"""What a recipe's run writes down, and how it goes on after it was stopped."""

import copy
import dataclasses
import math

import PIL
import pytest
import torch

from innerloop.errors import ConfigError, InputError
from innerloop.evaluation.evaluate import evaluate
from innerloop.recipes import RECIPES, run
from innerloop.recipes.recipe import Evaluation, recipe_hash
from innerloop.recipes.result_rows import append_rows, number, read_rows

NAME = "sine-check"


@pytest.fixture
def tiny(monkeypatch):
    recipe = dataclasses.replace(
        RECIPES[NAME],
        training={"steps": 4, "num_tasks": 2, "validate_every": 0, "checkpoint_every": 2, "strategy": "looped"},
        evaluations=(Evaluation(num_tasks=3, published=("1.0",)),),
    )
    monkeypatch.setitem(RECIPES, NAME, recipe)
    return recipe


def test_rows_carry_what_judges_and_repeats_them(tiny, tmp_path):
    path = tmp_path / "rows.csv"
    run(NAME, seed=3, out=tmp_path / "run", quiet=True, results=path)
    (row,) = read_rows(path)
    assert row["pillow"] == PIL.__version__  # which draws glyphs, each version a little differently
    assert row["recipe_hash"] == recipe_hash(tiny) and row["command"] == f"innerloop run {NAME} --seed 3"
    assert (row["published"], row["num_tasks"], row["steps"], row["seed"]) == ("1.0", "3", "4", "3")
    assert row["split"] == row["rotated_test"] == "", "a sine has neither"


@pytest.mark.usefixtures("tiny")
def test_a_run_goes_on_and_counts_the_seconds_of_all_sittings(tmp_path, monkeypatch):
    from innerloop.training import fit

    first = run(NAME, out=tmp_path / "run", quiet=True)
    restore = fit.RunDirectory.restore

    def long_ago(self, *words):
        progress = restore(self, *words)
        progress.seconds = 5_000.0
        return progress

    monkeypatch.setattr(fit.RunDirectory, "restore", long_ago)
    again = run(NAME, out=tmp_path / "run", quiet=True, resume=True)
    assert again["steps"] == 4 and again["rows"][0]["value"] == first["rows"][0]["value"]
    assert 5_000 <= number(str(again["rows"][0]["wall_seconds"])) < 5_100


def test_only_a_run_of_the_same_recipe_goes_on(tiny, tmp_path, monkeypatch):
    run(NAME, out=tmp_path / "run", quiet=True)
    changed = dataclasses.replace(tiny, algorithm_options={**tiny.algorithm_options, "inner_lr": 0.5})
    monkeypatch.setitem(RECIPES, NAME, changed)
    with pytest.raises(ConfigError, match="got one whose algorithm differs"):
        run(NAME, out=tmp_path / "run", quiet=True, resume=True)
    with pytest.raises(ConfigError, match="a recipe that trains for --resume"):
        run("lake-hausdorff", resume=True)
    with pytest.raises(ConfigError, match="and --seed, got lake-hausdorff"):  # it would be the same rows again
        run("lake-hausdorff", seed=1)


@pytest.mark.usefixtures("tiny")
def test_a_run_that_wrote_out_what_is_left_to_the_method_goes_on(tmp_path):
    first = run(NAME, out=tmp_path / "run", quiet=True)
    place = tmp_path / "run/config.json"
    written = place.read_text()
    assert written.count('"outer_passes": null') == 1
    place.write_text(written.replace('"outer_passes": null', '"outer_passes": 1'))
    again = run(NAME, out=tmp_path / "run", quiet=True, resume=True)
    assert again["rows"][0]["value"] == first["rows"][0]["value"]
    place.write_text(written.replace('"outer_passes": null', '"outer_passes": 2'))
    with pytest.raises(ConfigError, match="got one whose training differs"):
        run(NAME, out=tmp_path / "run", quiet=True, resume=True)


@pytest.mark.usefixtures("tiny")
def test_a_file_of_another_kind_is_told_before_the_work(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n")
    with pytest.raises(InputError, match="columns of a results file"):
        run(NAME, out=tmp_path / "run", quiet=True, results=tmp_path / "other.csv")
    assert not (tmp_path / "run").exists()
    append_rows(tmp_path / "new.csv", [])
    assert read_rows(tmp_path / "new.csv") == []


def test_fresh_test_tasks_are_other_tasks_and_the_row_says_so(tiny, tmp_path, monkeypatch):
    first = run(NAME, out=tmp_path / "a", quiet=True)["rows"][0]
    fresh = dataclasses.replace(tiny, evaluations=(dataclasses.replace(tiny.evaluations[0], seed=1),))
    monkeypatch.setitem(RECIPES, NAME, fresh)
    again = run(NAME, out=tmp_path / "b", quiet=True)["rows"][0]
    assert again["metric"] == f"{first['metric']}, test tasks of seed 1" and again["value"] != first["value"]
    assert recipe_hash(fresh) != recipe_hash(tiny)


def test_a_share_is_that_of_the_tasks_above_and_of_those_that_are_not_finite(tiny, tmp_path, monkeypatch):
    def judged(*words, **how):
        return dataclasses.replace(evaluate(*words, **how), per_task=(0.5, 2.0, math.inf, math.nan, 1.0))

    monkeypatch.setattr("innerloop.recipes.run_recipe.evaluate", judged)
    plain = tiny.evaluations[0]
    shares = tuple(dataclasses.replace(plain, statistic="share", above=bound) for bound in (1.0, 0.4))
    monkeypatch.setitem(RECIPES, NAME, dataclasses.replace(tiny, evaluations=shares))
    some, all_of_them = run(NAME, out=tmp_path / "run", quiet=True)["rows"]
    assert some["metric"].startswith("% of tasks with mse above 1 after ") and some["value"] == 60.0
    assert some["ci95"] == pytest.approx(
        1.96 * 100 * math.sqrt(0.3 / 5), abs=1e-3
    )  # two zeros and three ones: variance 0.3
    assert (all_of_them["value"], all_of_them["ci95"]) == (100.0, 0.0)


def test_stages_are_trained_one_after_another_and_go_on_where_they_were_stopped(tiny, tmp_path, monkeypatch):
    from innerloop.recipes import run_recipe
    from innerloop.recipes.recipe import Stage

    early = Stage(algorithm_options={"inner_lr": 0.03}, task_options={"shots": 3}, training={"steps": 2})
    staged = dataclasses.replace(tiny, stages=(early,))
    monkeypatch.setitem(RECIPES, NAME, staged)
    begun, ended = [], {}
    fit = run_recipe.fit

    def watched(learner, family, **settings):
        options = family.options["shots"], learner.options["inner_lr"]
        begun.append((*options, settings["out"].name, settings["resume"], learner.outer_step))
        if len(begun) > 1:
            assert all(torch.equal(w, ended[name]) for name, w in learner.state_dict().items()), "another network"
        if stop and len(begun) == stop:
            raise KeyboardInterrupt
        found = fit(learner, family, **settings)
        ended.update(copy.deepcopy(learner.state_dict()))
        return found

    monkeypatch.setattr(run_recipe, "fit", watched)
    stop, main = 2, RECIPES[NAME].training["steps"]
    with pytest.raises(KeyboardInterrupt):
        run(NAME, out=tmp_path / "run", quiet=True)
    stop, begun = 0, []
    found = run(NAME, out=tmp_path / "run", quiet=True, resume=True)
    assert [known[:-1] for known in begun] == [
        (3, 0.03, "run-stage-1", True),
        (staged.task_options["shots"], staged.algorithm_options["inner_lr"], "run", False),
    ]
    assert begun[1][-1] > 0 and found["steps"] == 2 + main
    begun = []
    whole = run(NAME, out=tmp_path / "other", quiet=True)
    assert found["rows"][0]["value"] == whole["rows"][0]["value"]
