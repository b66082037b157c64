"""Whatever bytes a table file holds: a table, or one sentence; never another error."""

import json
import random
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzing import fuzzed
from innerloop.data.table_preprocessing import TablePreprocessing, fit_columns, raw
from innerloop.data.tables import table_from_bytes
from innerloop.errors import CheckpointError, InputError

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

CELLS = st.text("0123456789.,;|\t\"'\n\r eE-+naéx_#?", max_size=8)
TEXTS = st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=8).map("\n".join).map(str.encode)
NAMES = st.sampled_from(["t.csv", "t.tsv", "t.parquet", "t.csv.gz", "t.csv.xz", "t.jsonl", "t.feather", "t"])
BEGINNINGS = st.sampled_from(
    [b"", b"PAR1", b"\x1f\x8b", b"\xff\xfe", b"\xef\xbb\xbf", b"\xfd7zXZ\0", b"ARROW1", b"\xff" * 4, b'{"a": ']
)
DATA = st.builds(bytes.__add__, BEGINNINGS, st.one_of(st.binary(max_size=80), TEXTS))
# Cells that look like numbers, dates and times, one form a column and now and then another: 0 is a digit, ? one or none.
FORMS = [
    "0.0", "-00,0", "0.000,00", "0,000", "0 000", "0?0?0?", "10.10.2000", "10/10/2000", "1?0/1?0/10", "2000-10-10", "2000-10",
    "20001010", "10:10", "0?0:10:10", "0:10 pm", "0 days 10:10:10", "PT0H", "00 min", "0 h", "00 kg", "00 g", "0?0 %", "$0.00",
    "€ 0,00", "(00.0)", "2000Q1", "0e0?0?0", "00000000", "007", "<0.0", "0/00", "n/a", "-", "unknown", "true", "False", "x0", "",
    "10-Mar-2000", "+00 000 0000",
]  # fmt: skip


def column_of(seed):
    """A table of two columns, of 1 to 24 rows."""
    rng = random.Random(seed)
    form, others = rng.choice(FORMS), rng.choice([0, 0.05, 0.5])
    cells = [rng.choice(FORMS) if rng.random() < others else form for _ in range(rng.randint(1, 24))]
    cells = [re.sub(r"0\?", lambda _: rng.choice(["", *"0123456789"]), cell) for cell in cells]
    cells = [re.sub("0", lambda _: rng.choice("0123456789"), cell) for cell in cells]
    return "\n".join(["x;z", *(f"{cell};{i % 2}" for i, cell in enumerate(cells))]).encode()


COLUMN = st.integers(0, 1 << 32).map(column_of)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
RECORD = TablePreprocessing(None, ("y",), False, 3, (0.0,), (1.0,)).to_dict()


@fuzzed(150)
@given(DATA, NAMES)
def test_any_bytes_are_a_table_or_one_sentence(data, name):
    read_or_refused(data, name)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(
    max_examples=10_000, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.one_of(DATA, COLUMN), NAMES)
def test_ten_thousand_tables(data, name):
    read_or_refused(data, name)


@fuzzed(150)
@given(COLUMN)
def test_a_fuzzed_column_is_read_alike_again(data):
    """What the cells of a column are does not hang on their order, and a record reads the table it came from."""
    table = read_or_refused(data, "t.csv")
    if table is None:
        return
    columns, _ = fit_columns(table)
    again = TablePreprocessing(columns, ("y",), False, 9, (0.0,), (1.0,))
    again = TablePreprocessing.from_dict(json.loads(json.dumps(again.to_dict())))
    np.testing.assert_array_equal(raw(table, again.columns or ()), raw(table, columns))
    lines = data.decode().split("\n")
    turned = read_or_refused("\n".join([lines[0], *lines[:0:-1]]).encode(), "t.csv")
    assert turned is not None
    for name in table.columns:
        assert turned.readings.get(name) == table.readings.get(name)


def read_or_refused(data, name):
    """The table, usable to the end; None where it is refused in one sentence."""
    try:
        table = table_from_bytes(data, name)
        columns, _ = fit_columns(table)
    except InputError as error:
        assert "\n" not in str(error)
        return None
    found = raw(table, columns)
    assert found.shape == (table.rows, sum(c.width for c in columns)) and not np.isinf(found).any()
    return table


@fuzzed(150)
@given(st.sampled_from(sorted(RECORD)), JSON)
def test_any_record_is_read_or_refused(key, value):
    try:
        made = TablePreprocessing.from_dict({**RECORD, key: value})
    except CheckpointError as error:
        assert "\n" not in str(error)
        return
    assert made.width > 0
