"""Plain-text tables: columns that line up, also with letters two columns wide."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from innerloop.errors import InputError
from innerloop.report.text import is_number, text_table


def test_columns_line_up_and_numbers_stand_right() -> None:
    table = text_table([["maml", "0.35 ± 0.02", 5], ["pretrained", "12.20 ± 0.10", 600]], ["method", "mse", "tasks"])
    assert table.split("\n") == [
        "method               mse  tasks",
        "----------  ------------  -----",
        "maml         0.35 ± 0.02      5",
        "pretrained  12.20 ± 0.10    600",
    ]


def test_wide_letters_take_two_columns() -> None:
    lines = text_table([["元学习", "a"], ["maml", "b"]]).split("\n")
    assert [cell_len(line) for line in lines] == [9, 9]
    assert lines == ["元学习  a", "maml    b"]


def test_missing_cells_do_not_turn_a_column_of_numbers_left() -> None:
    assert text_table([["a", "1"], ["b", "–"], ["c", "100"]]).split("\n")[1] == "b    –"


def test_line_breaks_cannot_break_the_table() -> None:
    assert text_table([["a\nb", "c"]]) == "a b  c"


def test_no_rows() -> None:
    assert text_table([]) == ""
    assert text_table([], ["a", "b"]).split("\n") == ["a  b", "-  -"]


def test_ragged_rows_are_refused() -> None:
    with pytest.raises(InputError, match="one length"):
        text_table([["a", "b"], ["c"]])


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1", True),
        ("-0.5", True),
        ("+0.162 ± 0.033", True),
        ("98.70 ± 0.31 %", True),
        ("1e-3", True),
        ("63 s", True),
        ("2 h 03 min", True),
        ("yes", False),
        ("", False),
        ("5 shots", False),
        ("e5", False),
    ],
)
def test_what_counts_as_a_number(cell: str, expected: bool) -> None:
    assert is_number(cell) is expected
