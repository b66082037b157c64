"""Whatever bytes a table file holds: a table, or one sentence; never another error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import fuzzed
from innerloop.data.table_preprocessing import TablePreprocessing, fit_columns, raw
from innerloop.data.tables import table_from_bytes
from innerloop.errors import CheckpointError, InputError

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

CELLS = st.text("0123456789.,;|\t\"'\n\r eE-+naéx_#?", max_size=8)
TEXTS = st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=8).map("\n".join).map(str.encode)
NAMES = st.sampled_from(["t.csv", "t.tsv", "t.parquet", "t.csv.gz", "t.csv.xz", "t"])
BEGINNINGS = st.sampled_from([b"", b"PAR1", b"\x1f\x8b", b"\xff\xfe", b"\xef\xbb\xbf", b"\xfd7zXZ\0"])
DATA = st.builds(bytes.__add__, BEGINNINGS, st.one_of(st.binary(max_size=80), TEXTS))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
RECORD = TablePreprocessing(None, ("y",), False, 3, (0.0,), (1.0,)).to_dict()


@fuzzed(150)
@given(DATA, NAMES)
def test_any_bytes_are_a_table_or_one_sentence(data, name):
    try:
        table = table_from_bytes(data, name)
        columns, _ = fit_columns(table)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert raw(table, columns).shape == (table.rows, sum(c.width for c in columns))


@fuzzed(150)
@given(st.sampled_from(sorted(RECORD)), JSON)
def test_any_record_is_read_or_refused(key, value):
    try:
        made = TablePreprocessing.from_dict({**RECORD, key: value})
    except CheckpointError as error:
        assert "\n" not in str(error)
        return
    assert made.width > 0
