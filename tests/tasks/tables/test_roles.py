"""`data check` without a target: which columns look like tasks, items, times and targets, and a command that runs."""

import shlex

import numpy as np
import pytest

from innerloop.data.tables import as_table
from innerloop.errors import InputError
from innerloop.tasks.tables.own import check, table_family
from innerloop.tasks.tables.roles import pattern_of, roles

RNG = np.random.default_rng(0)


def ratings(rows: int = 600) -> dict:
    """30 users, 25 films; seconds since 1970."""
    return {
        "userId": RNG.integers(1, 31, rows),
        "movieId": RNG.choice(RNG.integers(1, 190_000, 25), rows),
        "rating": RNG.integers(1, 11, rows) / 2,
        "timestamp": RNG.integers(8 * 10**8, 15 * 10**8, rows),
    }


def written(tmp_path, columns: dict, name: str = "table.csv"):
    path = tmp_path / name
    cells = [["" if v is None or v != v else str(v) for v in np.asarray(c, dtype=object)] for c in columns.values()]
    path.write_text("\n".join(",".join(row) for row in [list(columns), *zip(*cells, strict=True)]))
    return path


def assays(number: int, rows: int = 60, stem: str = "assay") -> dict:
    found = {"size": RNG.normal(size=rows)}
    for i in range(number):
        found[f"{stem}{i}"] = [
            None if gone else int(v) for v, gone in zip(RNG.integers(0, 2, rows), RNG.random(rows) < 0.3, strict=True)
        ]
    return found


def test_ratings_have_a_task_items_a_time_and_a_target(tmp_path):
    found = roles(as_table(ratings()))
    assert found[:5] == (("rating",), True, "userId", "movieId", "timestamp")
    said = check(written(tmp_path, ratings()))
    assert said.facts["guess"] == {"target": "rating", "task_column": "userId", "item_column": "movieId"}
    assert said.command.endswith("--target rating --task-column userId --item-column movieId --order-by timestamp")
    for flag in ("--task-column", "--item-column", "--order-by", "--target"):
        assert sum(flag in line for line in said.lines) == 1, flag


def test_names_decide_only_beside_cells(tmp_path):
    table = {**ratings(), "userId": np.arange(600)}  # a number for each row tells no tasks apart
    found = roles(as_table(table))
    assert found.rows == ("userId",) and found.task != "userId" and found.item != "userId"
    few = roles(as_table({**ratings(), "movieId": RNG.integers(0, 5, 600)}))
    assert few.item is None and few.task == "userId"  # five are categories
    gaps = {**ratings(), "timestamp": [None, *ratings()["timestamp"][1:]]}
    assert roles(as_table(gaps)).time is None  # no order without a time in every row
    measures = roles(
        as_table({"patient": RNG.integers(0, 9, 90), "age": RNG.integers(20, 80, 90), "hb": RNG.normal(size=90)})
    )
    assert measures[:4] == (("hb",), False, "patient", None)


def test_600_targets_get_one_line(tmp_path):
    path = written(tmp_path, assays(600))
    said = check(path)
    assert len(said.lines) < 8 and max(map(len, said.lines)) < 200
    assert sum("assay" in line for line in said.lines) == 2  # the columns, and what they look like
    assert "600 columns of zeros and ones with missing cells" in said.lines[2]
    assert shlex.split(said.command)[-2:] == ["--target", "assay*"]
    given = check(path, target=",".join(f"assay{i}" for i in range(600)))
    assert max(map(len, given.lines)) < 200 and "600 targets" in given.lines[0]


def test_a_pattern_names_the_targets(tmp_path):
    path = written(tmp_path, assays(8))
    by_pattern = table_family(path, target="assay*", shots=2, queries=2)
    by_name = table_family(path, target=[f"assay{i}" for i in range(8)], shots=2, queries=2)
    assert by_pattern.train.task_names == by_name.train.task_names and by_pattern.train.record == by_name.train.record
    with pytest.raises(InputError, match=r"no column 'asay\*'"):
        table_family(path, target="asay*")
    assert pattern_of(("a1", "a2"), ("a1", "a2", "b")) == "a*" and pattern_of(("a1", "a2"), ("a1", "a2", "ab")) is None


@pytest.mark.parametrize("columns", [ratings(), assays(9)])
def test_the_suggested_command_makes_a_family(tmp_path, columns):
    words = shlex.split(check(written(tmp_path, columns)).command)[4:]
    flags = {words[i][2:].replace("-", "_"): words[i + 1] for i in range(0, len(words), 2)}
    assert table_family(tmp_path / "table.csv", **flags).train.size


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"a": RNG.normal(size=40), "b": RNG.normal(size=40)},
            "'b' is a guess, as nothing says so, taken for numbers (--kind)",
        ),
        (
            {"a": RNG.normal(size=40), "label": RNG.integers(0, 3, 40)},
            "'label' is a guess by its name, taken for classes (--kind)",
        ),
    ],
)
def test_a_guessed_target_is_called_a_guess_and_so_is_its_kind(tmp_path, columns, said):
    lines = check(written(tmp_path, columns)).lines
    assert f"name the column to predict (--target); {said}" in lines


def test_targets_without_inputs_get_no_command(tmp_path):
    columns = {"smiles": [f"C{i}" for i in range(60)], **assays(5)}
    del columns["size"]
    said = check(written(tmp_path, columns))
    assert said.command == "" and "no column is left to predict from, as 'smiles' names rows" in said.lines[-1]


def test_a_few_columns_of_zeros_and_ones_with_gaps_are_targets_among_measures():
    table = {**assays(3), **{f"m{c}": RNG.normal(size=60) for c in "abcdef"}}
    assert roles(as_table(table)).targets == ("assay0", "assay1", "assay2")
    full = {**table, **{f"assay{i}": RNG.integers(0, 2, 60) for i in range(3)}}
    assert len(roles(as_table(full)).targets) == 1  # without gaps they are measures like others
