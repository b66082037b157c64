"""Regret of searches: rows become a picture and a table."""

from __future__ import annotations

import csv

import numpy as np

from benchmarks.published import searches
from innerloop.recipes import RECIPES, hpo_tables
from innerloop.recipes.recipe import recipe_hash
from innerloop.recipes.result_rows import HEADER

_WAYS = (searches.OURS, "random search", "cold GP-EI", "optuna TPE", "optuna GP", "tasks, always")


def made() -> hpo_tables.Curves:
    """Two data sets; the first way falls from .2, the second from .4, and so on."""
    found = hpo_tables.Curves()
    for i, way in enumerate(_WAYS, 1):
        found[way] = {"one": 0.2 * i / np.arange(1, 51), "two": 0.4 * i / np.arange(1, 51)}
    found.chosen, found.seconds = {"one": ["tasks"], "two": ["copula"]}, [3.0, 4.0]
    return found


def test_rows_become_curves_a_table_and_a_picture(tmp_path):
    rows = hpo_tables.rows_of(made())
    shared = {"recipe": "hpo-xgboost", "seed": 0, "commit": "abc", "command": "innerloop run"}
    shared["recipe_hash"] = recipe_hash(RECIPES["hpo-xgboost"])
    with (tmp_path / searches.FILE).open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        writer.writerows([{**shared, **row} for row in rows])
    found = searches.read(tmp_path)
    assert [(p.at, p.value) for p in searches.of(found, "hpo-xgboost", searches.OURS)][-2:] == [
        (25, 0.012),
        (50, 0.006),
    ]
    (picture,) = searches.draw(tmp_path, tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = "\n".join(searches.described(tmp_path))
    lead = f"| random search less {searches.OURS} |   |   | 0.060 ± 0.039 | 0.030 ± 0.020 | 0.012 ± 0.008 | 0.006 ± 0.004 |"
    assert lead in text and "| tasks, always |   |   |" in text and "DeepAR" not in text


def test_no_rows_no_section(tmp_path):
    assert searches.read(tmp_path) == searches.draw(tmp_path, tmp_path) == searches.described(tmp_path) == []
