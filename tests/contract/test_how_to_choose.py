"""The table of docs/how-to-choose.md names every method once, and says of it what the contract tests hold it to."""

import re
from pathlib import Path

from contract_table import DECLARED, Declared

from innerloop.methods import ALGORITHMS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to-choose.md"


def test_the_table_agrees_with_the_contract():
    rows = re.findall(r"^\| \[(\w+)\]\(methods/\1\.md\) \|(.*)\|$", PAGE.read_text("utf-8"), re.M)
    assert sorted(name for name, _ in rows) == sorted(ALGORITHMS)
    for name, rest in rows:
        _, regression, any_ways, *_ = (cell.strip() for cell in rest.split("|"))
        declared = DECLARED.get(name, Declared())
        said = {True: "yes", False: "no"}
        assert (regression, any_ways) == (said[declared.regression], said[declared.any_ways]), name
