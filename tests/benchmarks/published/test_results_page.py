"""docs/results.md and docs/all-rows.md say what the rows in results/ say, and nothing else."""

import itertools
import math
import re
from pathlib import Path

import pytest

from benchmarks.published import every_method, method_numbers
from benchmarks.published.notes import read_notes
from benchmarks.published.other_numbers import reimplementations
from benchmarks.published.page import all_rows, rendered, rounded, setting_of, small_tables
from benchmarks.published.summary import lines, rows_in
from innerloop.errors import InputError
from innerloop.methods import NAMED
from innerloop.provenance import past_commits
from innerloop.recipes import RECIPES
from innerloop.recipes.recipe import recipe_hash
from innerloop.recipes.result_rows import HEADER, append_rows, read_rows

ROOT = Path(__file__).resolve().parents[3]
NAME = "glyphs-5w1s-" + "maml"
PAST = {"0123456789"}


def row(**changes):
    made = dict.fromkeys(HEADER, "") | {
        "recipe": NAME, "metric": "accuracy %", "value": "80.0", "ci95": "0.5", "num_tasks": "600",
        "transductive": "True", "seed": "0", "steps": "500", "wall_seconds": "60.4", "device": "cpu", "threads": "1",
        "commit": "0123456789", "recipe_hash": recipe_hash(RECIPES[NAME]), "command": f"innerloop run {NAME} --seed 0",
    }  # fmt: skip
    seed = str(changes.get("seed", "0"))
    return (
        made | {"command": f"innerloop run {NAME} --seed {seed}"} | {key: str(value) for key, value in changes.items()}
    )


def cells(text, start):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    header = next(h for h in text.splitlines()[: text.splitlines().index(line)][::-1] if h.startswith("| command"))
    return dict(zip(*([c.strip() for c in x.strip("|").split("|")] for x in (header, line)), strict=True))


NEEDS_HISTORY = pytest.mark.skipif(past_commits() is None, reason="which rows are stale is known in a full clone only")


@NEEDS_HISTORY
def test_the_page_is_up_to_date():
    for page, text in rendered(ROOT / "docs", ROOT / "results", past_commits()).items():
        assert page.read_text(encoding="utf-8") == text, "run make results-page"


@NEEDS_HISTORY
def test_the_methods_pages_say_what_the_rows_say(tmp_path):
    found = method_numbers.rendered(ROOT / "docs" / "methods", ROOT / "results", past_commits())
    assert {page.stem for page in found} == set(NAMED)
    assert [page.name for page, text in found.items() if text != page.read_text("utf-8")] == [], "run make results-page"
    append_rows(tmp_path / "a.csv", [row(value="12.5")])
    pages = method_numbers.rendered(ROOT / "docs" / "methods", tmp_path, PAST)
    mine, other = (pages[ROOT / "docs" / "methods" / f"{name}.md"] for name in (NAME.rsplit("-", 1)[1], "snail"))
    assert cells(mine, f"`innerloop run {NAME} ")["ours"] == "12.5 ± 0.5" and "No row yet." not in mine
    assert "No row yet." in other and "`omniglot-5w1s-snail`" in other


def test_seeds_are_averaged_and_shown(tmp_path):
    append_rows(tmp_path / "a.csv", [row(), row(seed=2, value=83.0, wall_seconds=70.6), row(seed=1, value=82.0)])
    found = cells(all_rows(tmp_path, PAST), f"`innerloop run {NAME} --seed 0, 1, 2`")
    # Student's t with 2 degrees of freedom: 4.303 * 1.5275 / sqrt(3)
    assert found["ours"] == "81.67 ± 3.8 (3 seeds)"
    assert found["each seed"] == "80 ± 0.5, 82 ± 0.5, 83 ± 0.5"
    assert found["budget"] == "60-71 s, cpu, 1 thread" and found["transductive"] == "yes"
    assert not found.get("remarks") and found["commit"] == "0123456789" and found["test tasks"] == "600"


def test_of_one_seed_the_interval_is_over_tasks_and_the_last_row_counts(tmp_path):
    append_rows(tmp_path / "a.csv", [row(value=10), row(value=81.25)])
    assert cells(all_rows(tmp_path, PAST), f"`innerloop run {NAME} --seed 0`")["ours"] == "81.25 ± 0.5"


def test_stale_rows_are_marked_and_not_averaged_with_those_that_hold(tmp_path):
    append_rows(tmp_path / "a.csv", [row(recipe_hash="changed", value=10)])
    assert "**stale: the recipe has changed since.**" in all_rows(tmp_path, PAST)
    append_rows(tmp_path / "a.csv", [row(seed=1, value=90)])
    text = all_rows(tmp_path, PAST)
    assert "stale" not in text and cells(text, f"`innerloop run {NAME} --seed 1`")["ours"] == "90 ± 0.5"
    assert "its commit is not part of this history" in all_rows(tmp_path, {"ffffffffff"})


def test_a_row_whose_recipe_is_gone_stays_and_says_so(tmp_path):
    append_rows(tmp_path / "a.csv", [row(recipe="glyphs-5w1s-gone", command="innerloop run glyphs-5w1s-gone --seed 0")])
    assert "no such recipe any more" in cells(all_rows(tmp_path, PAST), "`innerloop run glyphs-5w1s-gone")["remarks"]


def test_what_was_not_run_says_so_beside_the_published_number(tmp_path):
    found = cells(all_rows(tmp_path, PAST), "`innerloop run omniglot-20w1s-protonet`")
    assert found["ours"] == "not run" and found["published"].startswith("96.0 [")
    assert re.fullmatch(r"95\.8 \[\d+\], 94\.9-95\.1 \[\d+\]", found["re-implementations"])
    assert found["rotated test classes"] == "yes" and found["split"] == "random"
    assert found["outer steps"] == str(RECIPES["omniglot-20w1s-protonet"].training["steps"])
    assert cells(all_rows(tmp_path, PAST), "`innerloop run lake-protonet`")["published"].startswith("13.7 [")
    assert cells(all_rows(tmp_path, PAST), "humans")["ours"] == "-"


def test_every_recipe_has_its_place():
    nowhere = {name for name in RECIPES if not setting_of(name)}
    own_table = {
        name for name in RECIPES if name.startswith(("shots-", "hpo-"))
    }  # `shots.described`, `searches.described`
    assert nowhere == own_table | {name for name in RECIPES if name.endswith("-check")}
    assert not [name for name in RECIPES if setting_of(name) == "Others"], "give it a setting of its own"


def test_the_recipes_of_a_method_stand_together(tmp_path):
    text = all_rows(tmp_path, PAST)
    for title in ("Omniglot, 5-way 1-shot", "Sine curves", "glyphs, 5-way 1-shot"):
        part = text.split(f"## {title}\n")[1].split("\n## ")[0]
        methods = [RECIPES[name].algorithm for name in re.findall(r"^\| `innerloop run (\S+)`", part, re.MULTILINE)]
        changes = sum(one != other for one, other in itertools.pairwise(methods))
        assert len(methods) > 10 and changes == len(set(methods)) - 1


def test_a_text_stands_below_the_table_of_its_setting(tmp_path):
    append_rows(tmp_path / "a.csv", [row(recipe="sine-maml-cpu")])
    (tmp_path / "notes.toml").write_text('["Sine curves"]\nabout = """\nWhy so.\n"""\n')
    text = small_tables(tmp_path)
    part = text.split("## Sine curves\n")[1]
    assert part.endswith("[All rows](all-rows.md#sine-curves)\n\nWhy so.\n") and "\n| setting" in part


def short(text, name):
    """The cells of a recipe's line in the small table."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` ")]
    header = next(h for h in text.splitlines()[: text.splitlines().index(line)][::-1] if h.startswith("| setting"))
    return dict(zip(*([c.strip() for c in x.strip("|").split("|")] for x in (header, line)), strict=True))


def test_a_small_table_stands_in_front_with_one_line_a_recipe(tmp_path):
    three = [
        row(metric=f"mse after {k} steps, 5-shot", value=v, ci95=0.25, recipe="sine-maml-cpu", published=p, recipe_hash="")
        for k, v, p in ((1, 0.5, "0.67"), (5, 0.3, "0.38"), (10, 0.2, "0.35"))
    ]  # fmt: skip
    append_rows(tmp_path / "a.csv", [*three, row(), row(metric="another"), row(recipe="glyphs-5w1s-boil", commit="")])
    text = small_tables(tmp_path, PAST)
    found = short(text, "sine-maml-cpu")
    assert found["number"] == "mse after 1 / 5 / 10 steps, 5-shot" and found["published"] == "0.67 / 0.38 / 0.35"
    assert found["ours"] == "0.5 ± 0.25 / 0.3 ± 0.25 / 0.2 ± 0.25" and found["protocol"] == "transductive, 600 tasks"
    assert short(text, NAME)["number"] == "accuracy %"  # the first
    assert short(text, "glyphs-5w1s-boil")["protocol"].startswith("**stale**")
    small, long = (made.split("## Sine curves\n")[1].split("\n## ")[0] for made in (text, all_rows(tmp_path, PAST)))
    assert small.count("\n| `") == 1 and "sine-pretrained" not in small and "sine-pretrained" in long


def test_a_mean_that_diverged_is_no_number_and_the_medians_take_its_place(tmp_path):
    name = "sine-maml-rate-0.01-cpu"
    made = [("mse after 1 steps", 0.7), ("mse after 5 steps", 5.9e37), ("mse after 10 steps", math.inf)]
    made += [("median mse after 1 steps", 0.4), ("median mse after 5 steps", 0.2)]
    append_rows(tmp_path / "a.csv", [row(recipe=name, metric=m, value=v, command=f"run {m}") for m, v in made])
    text = small_tables(tmp_path, PAST)
    long = all_rows(tmp_path, PAST)
    assert "e+37" not in text + long and "inf" not in long.split("## Sine curves")[1].split("\n## ")[0]
    assert cells(long, "`run mse after 5 steps`")["ours"] == "some tasks diverged; median 0.2 ± 0.5"
    assert cells(long, "`run mse after 10 steps`")["ours"] == "some tasks diverged"
    assert short(text, name)["number"] == "median mse after 1 / 5 steps"


def test_that_no_hash_was_recorded_is_said_once(tmp_path):
    append_rows(tmp_path / "a.csv", [row(recipe_hash=""), row(recipe_hash="", metric="another")])
    text = all_rows(tmp_path, PAST)
    assert text.lower().count("hash not recorded") == 1 and f"is not known: `{NAME}`." in text
    assert not cells(text.replace("| another", "| x"), f"`innerloop run {NAME} --seed 0` | accuracy").get("remarks")
    append_rows(tmp_path / "a.csv", [row(), row(metric="another")])
    assert "hash not recorded" not in all_rows(tmp_path, PAST).lower()


def test_notes_are_shown_and_name_recipes(tmp_path):
    append_rows(tmp_path / "a.csv", [row()])
    (tmp_path / "notes.toml").write_text(f'["{NAME}"]\n"accuracy %" = "Short of it."\nall = "In general."\n')
    text = all_rows(tmp_path, PAST)
    assert cells(text, f"`innerloop run {NAME} ")["remarks"] == "Short of it." and f"- `{NAME}`: In general." in text
    (tmp_path / "notes.toml").write_text('[nobody]\nall = "x"\n')
    with pytest.raises(InputError, match="names of recipes and settings, got 'nobody'"):
        read_notes(tmp_path, RECIPES)
    (tmp_path / "notes.toml").write_text("[")
    with pytest.raises(InputError, match="expected TOML"):
        read_notes(tmp_path, RECIPES)


def test_older_files_are_read_and_completed_when_they_grow(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text(
        "recipe,metric,value,ci95,published,num_tasks,transductive,seed,steps,wall_seconds,device,threads,commit,command\n"
        f"{NAME},accuracy %,80.5,0.9,,600,True,0,500,60,cpu,1,0123456789,innerloop run {NAME} --seed 0\n"
    )
    (line,) = lines(rows_in(tmp_path), RECIPES, PAST)[NAME]
    assert line.state == "recipe hash not recorded" and line.mean == 80.5
    append_rows(path, [row(seed=1)])
    old, new = read_rows(path)
    assert path.read_text().splitlines()[0] == ",".join(HEADER)
    assert old["value"] == "80.5" and old["recipe_hash"] == "" and new["recipe_hash"]


def test_files_of_another_kind_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="columns of a results file"):
        append_rows(tmp_path / "a.csv", [])
    append_rows(tmp_path / "b.csv", [row(value="much")])
    with pytest.raises(InputError, match=r"line 2: value expected a number, got 'much'"):
        read_rows(tmp_path / "b.csv")


def test_numbers_are_as_long_as_they_tell_something():
    assert rounded(0.67779, 0.2565) == "0.6778 ± 0.26" and rounded(5.858e37, 1.1e38) == "5.86e+37 ± 1.1e+38"
    assert rounded(38.75) == "38.75" and rounded(math.inf) == "inf"


def test_the_cheap_variant_has_the_same_re_implementations():
    full, cheap = (RECIPES[f"omniglot-5w5s-protonet{suffix}"] for suffix in ("", "-cpu"))
    assert reimplementations(full) == reimplementations(cheap)
    assert [value for value, _ in reimplementations(full)] == ["99.4", "99.6", "99.37"]


def test_what_was_learned_stands_beside_the_best_known_one(tmp_path):
    name = next(r.name for r in RECIPES.values() if r.name.startswith("learned-mlp"))
    kind = {"recipe": name, "recipe_hash": recipe_hash(RECIPES[name])}
    values = {"loss, learned": 0.4, "loss, adam 0.1": 0.5, "loss, sgd 1": 0.8, "accuracy %, learned": 90.0}
    values |= {"accuracy %, adam 0.1": 91.0, "accuracy %, sgd 1": 70.0, "alone, learned": 1.0}
    append_rows(tmp_path / "a.csv", [row(metric=metric, value=value, **kind) for metric, value in values.items()])
    text = small_tables(tmp_path, PAST)
    lines_of = [line for line in text.splitlines() if line.startswith(f"| `{name}`")]
    assert len(lines_of) == 2  # what stands alone is in the long table only
    assert "0.5 ± 0.5 (adam 0.1) | -20.0 %" in lines_of[0]
    assert "91 ± 0.5 (adam 0.1) | -1.0 points" in lines_of[1]


def test_every_method_stands_in_one_picture(tmp_path):
    short, long = ("omniglot-5w1s-anil-5min", "omniglot-5w1s-anil-20min")
    made = [
        row(recipe=name, recipe_hash=recipe_hash(RECIPES[name]), value=value, wall_seconds=seconds)
        for name, value, seconds in ((short, 80.0, 100), (long, 90.0, 700), ("omniglot-5w1s-maml-cpu", 99.0, 3_600))
    ]
    append_rows(tmp_path / "a.csv", [*made, row(), row(recipe="glyphs-5w1s-boil", recipe_hash="changed")])
    found = lines(rows_in(tmp_path), RECIPES, PAST)
    points = every_method.points(found, "Omniglot")
    assert [(p.method, p.seconds, p.accuracy) for p in points] == [("anil", 100, 80), ("anil", 700, 90)]  # no hours
    (glyphs,) = every_method.points(found, "printed characters (glyphs)")  # a stale row is left out
    assert glyphs == ("maml", 60.4, 80, True)
    (drawn,) = every_method.draw(tmp_path, tmp_path)
    assert drawn.read_bytes().startswith(b"\x89PNG") and f"]({drawn.name})" in small_tables(tmp_path, PAST)


def test_names_are_moved_apart_as_little_as_possible():
    assert every_method.spread([0.0, 1.0, 3.0], 1.0) == [0.0, 1.0, 3.0]
    assert every_method.spread([0.0, 0.0, 5.0], 1.0) == [-0.5, 0.5, 5.0]
    assert every_method.spread([1.0, 1.0, 1.0], 0.5) == [0.5, 1.0, 1.5]
