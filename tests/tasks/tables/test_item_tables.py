"""What an item table says of items becomes inputs of every row that names one, and travels with the run and the task file."""

import json
import warnings

import numpy as np
import pytest

import innerloop as il
from innerloop.assemble import assemble
from innerloop.data.table_preprocessing import TablePreprocessing
from innerloop.data.tables import as_table
from innerloop.errors import CheckpointError, ConfigError, InnerloopWarning, InputError
from innerloop.tasks.tables.own import check, table_family

FILMS = [f"{i}" for i in range(1, 13)]
GENRES = {f: ["Action", "Comedy", "War"][int(f) % 3] + ("|Short" if int(f) % 2 else "") for f in FILMS}


@pytest.fixture
def ratings(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"u{u},{f},{rng.normal():.3f}" for u in range(20) for f in rng.permutation(FILMS)[:8]]
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(["user,film,rating", *rows]))
    return path


@pytest.fixture
def films(tmp_path):
    """Two more films than anybody has rated; the year of one is missing."""
    rows = [f"{f}.0,Film {f},{GENRES[f]},{2000 + int(f) // 2 if f != '3' else ''}" for f in FILMS]
    path = tmp_path / "films.csv"
    path.write_text("\n".join(["film,title,genres,year", *rows, "77,Film 77,Comedy,1990", "78,Film 78,War|Short,2030"]))
    return path


def family(ratings, films, **options):
    given = {
        "target": "rating",
        "task_column": "user",
        "item_column": "film",
        "item_table": str(films),
        "shots": 3,
        "queries": 3,
    }
    return table_family(ratings, **{**given, **options})


def test_the_facts_stand_behind_the_item(ratings, films):
    record = family(ratings, films).train.record
    facts = record.columns[0].facts
    assert facts.names == ("year 1", "year 2", "genres: Action", "genres: Comedy", "genres: Short", "genres: War")
    assert record.items == (13,) and record.width == 7 and len(facts.items) == 14
    x = record.encode(as_table({"film": ["4", "7", "3", "78", "unheard of", None], "rating": np.zeros(6)}))
    assert x[:, 0].tolist() == [record.columns[0].items.index("4") + 1, record.columns[0].items.index("7") + 1,
                                record.columns[0].items.index("3") + 1, 0, 0, 0]  # fmt: skip
    assert x[:, 3:].tolist() == [[0, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    years = np.array([2000 + int(f) // 2 for f in FILMS if f != "3"])
    assert x[0, 1] == pytest.approx((2002 - years.mean()) / years.std(), rel=1e-4)  # of what training has seen alone
    assert x[2, 1:3].tolist() == [0, 1] and x[3, 1] == 5 and x[4, 1:3].tolist() == [0, 0]


def test_new_items_of_the_table_come_with_what_it_says(ratings, films, tmp_path):
    learner, problem = assemble("r2d2", str(ratings), task_options=family(ratings, films).options)
    il.fit(learner, problem, steps=2, quiet=True, out=tmp_path / "run")
    films.unlink()  # adapt and predict need it no more
    fitted = il.load(tmp_path / "run").adapt(as_table({"film": ["1", "2", "5"], "rating": [1.0, 2.0, 3.0]}))
    again = il.load(fitted.save(tmp_path / "task.il"))
    with pytest.warns(InnerloopWarning, match="3 of 3 rows .* with what the item table says of 2 of them"):
        found = again.predict(as_table({"film": ["77", "78", "79"]}))
    assert len(set(np.ravel(found).tolist())) == 3


def test_records_with_facts_travel(ratings, films):
    record = family(ratings, films).train.record
    text = json.dumps(record.to_dict())
    assert TablePreprocessing.from_dict(json.loads(text)) == record
    for change in (
        lambda f: f["values"].pop(),
        lambda f: f["values"][0].pop(),
        lambda f: f["values"][0].__setitem__(0, "x"),
    ):
        found = json.loads(text)
        change(found["columns"][0]["facts"])
        with pytest.raises(CheckpointError, match="damaged"):
            TablePreprocessing.from_dict(found)


def test_a_join_that_loses_rows_is_said(ratings, films):
    lines = films.read_text().splitlines()
    films.write_text("\n".join(line for line in lines if not line.startswith(("5.0,", "6.0,"))))
    with pytest.warns(InnerloopWarning, match=r"lacks 2 items of \d+ rows, such as '[56]'"):
        tasks = family(ratings, films).train
    assert tasks.record.items == (13,)  # the rows are kept
    films.write_text("\n".join([lines[0], lines[1], lines[2]]))
    with pytest.raises(InputError, match="expected the rows' items in 'film', got none for"):
        family(ratings, films)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda s: s + "\n4,Again,War,1999", InputError, "each 'film' in one row, got '4' in 2"),
        (lambda s: s.replace("film,title", "id,title"), InputError, "no column 'film'"),
        (
            lambda s: "\n".join(line.split(",")[0] for line in s.splitlines()),
            InputError,
            "columns that tell items apart",
        ),
    ],
)
def test_what_is_wrong_with_an_item_table_is_one_line(ratings, films, change, error, match):
    films.write_text(change(films.read_text()))
    with pytest.raises(error, match=match) as caught:
        family(ratings, films)
    assert "\n" not in str(caught.value)


def test_an_item_table_needs_its_column(ratings, films, tmp_path):
    with pytest.raises(ConfigError, match="item_table expected one item_column"):
        family(ratings, films, item_column=None)
    with pytest.raises(InputError, match="expected a table, got nothing"):
        family(ratings, tmp_path / "nowhere.csv")


def test_columns_of_the_item_table_can_be_left_out(ratings, films):
    facts = family(ratings, films, ignore=["year"]).train.record.columns[0].facts
    assert facts.names == ("genres: Action", "genres: Comedy", "genres: Short", "genres: War")
    with pytest.raises(InputError, match="no column 'yaer'"):
        family(ratings, films, ignore=["yaer"])


def test_methods_take_facts(ratings, films):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InnerloopWarning)
        options = family(ratings, films, scaling="support").options
        for method in ("maml", "cnp"):
            learner, problem = assemble(method, str(ratings), task_options=options)
            learner.backward(problem.train.at(0, 0, 3))
            assert {"mean", "nearest", "ridge"} == set(il.evaluate(learner, problem.test, num_tasks=3).baselines)
    assert any("6 numbers are known of 14 items" in line for line in check(ratings, **options).lines)
