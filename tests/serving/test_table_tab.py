"""Rows of the page: by a trained table's own columns, or plain numbers."""

import numpy as np
import pytest

pytest.importorskip("gradio")
pytest.importorskip("pandas")
from innerloop.data.table_preprocessing import Column, TablePreprocessing
from innerloop.errors import InputError
from innerloop.serving import table_tab
from innerloop.serving.texts import EN, ZH

COLUMNS = (Column("age", None, 60.0, 10.0), Column("sex", ("f", "m")))
RECORD = TablePreprocessing(COLUMNS, ("score",), False, 3, (20.0,), (5.0,))


def test_a_trained_tables_columns_are_asked_for_and_encoded():
    assert table_tab._begun(RECORD, 3, False) == "age,sex,score\n"
    assert "`age`, `sex`, `score`" in table_tab._asked(RECORD, 3, EN)
    assert "`age`, `sex`, `score`" in table_tab._asked(RECORD, 3, ZH)
    rows = table_tab._of_columns(RECORD, "sex;age;score\nf;70;25\nm;50;15\n", "age,sex\n80,m\n")
    assert np.asarray(rows.x).tolist() == [[1, 1, 0], [-1, 0, 1]] and np.asarray(rows.y).tolist() == [[1], [-1]]
    assert np.asarray(rows.new).tolist() == [[2, 0, 1]] and rows.shown == [["80", "m"]]
    assert rows.record is not None and rows.record.original(np.array([[1.0]])).tolist() == [[25]]
    with pytest.raises(InputError, match=r"new rows expected the columns .* got none named 'sex'"):
        table_tab._of_columns(RECORD, "sex,age,score\nf,70,25\n", "age,sx\n80,m\n")


def test_tables_of_any_columns_have_their_target_last():
    record = TablePreprocessing(None, (), True, 4, scaling="support")
    rows = table_tab._of_columns(record, "a,b,kind\n1,4,x\n2,5,y\n3,9,x\n", "")
    assert rows.y == ["x", "y", "x"] and rows.header == ["a", "b"] and np.shape(rows.new) == (3, 4)
