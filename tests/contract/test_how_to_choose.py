"""The table of docs/how-to-choose.md names every method once, and says of it what the method declares."""

import re
from pathlib import Path

from contract_table import declared

from innerloop.methods import ALGORITHMS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to-choose.md"


def test_the_table_agrees_with_the_contract():
    rows = re.findall(r"^\| \[(\w+)\]\(methods/\1\.md\) \|(.*)\|$", PAGE.read_text("utf-8"), re.M)
    assert sorted(name for name, _ in rows) == sorted(ALGORITHMS)
    for name, rest in rows:
        _, regression, any_ways, _, memory, derivatives = (cell.strip() for cell in rest.split("|"))
        traits, said = declared(name), {True: "yes", False: "no"}
        assert (regression, any_ways) == (said[traits.regression], said[traits.any_ways]), name
        assert (memory, derivatives) == (traits.memory, traits.derivatives), name
