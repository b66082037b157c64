"""A column's cells are read by all of them: the right numbers, or one sentence that names the column; the same in every file."""

import csv
import datetime
import decimal
import io

import numpy as np
import pytest

from innerloop.data.table_preprocessing import TablePreprocessing, fit_columns, raw
from innerloop.data.tables import read_table, table_from_bytes, table_from_frame
from innerloop.errors import InputError

pandas = pytest.importorskip("pandas")
DAY = datetime.date(1970, 1, 1)


def table_of(cells, separator=",", name="x"):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerows([[name, "other"], *([cell, "a"] for cell in cells)])
    return table_from_bytes(text.getvalue().encode(), "t.csv")


def days(*dates):
    return [(datetime.date.fromisoformat(date) - DAY).days for date in dates]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1.234,56", "7,5", "-0,25"], [1234.56, 7.5, -0.25]),
        (["1,234.56", "7.5", "12"], [1234.56, 7.5, 12]),
        (["1 234,5", "12 345,25", "3,5"], [1234.5, 12345.25, 3.5]),
        (["1\xa0234\xa0567", "1\u202f000", "5"], [1234567, 1000, 5]),
        (["1'234.50", "0.5", "12’000"], [1234.5, 0.5, 12000]),
        (["1,234,567", "1,234", "5"], [1234567, 1234, 5]),
        (["12,34,567", "1,00,000", "5.5"], [1234567, 100000, 5.5]),
        (["5 %", "12.5%", "0 %"], [5, 12.5, 0]),
        (["$3.20", "-$1,000.00", "$ 4"], [3.2, -1000, 4]),
        (["€ 1,20", "€ 1.000,50", "€ 3"], [1.2, 1000.5, 3]),
        (["(12.5)", "3", "1,000.5"], [-12.5, 3, 1000.5]),
        (["12 kg", "3.5kg", "1e3 kg"], [12, 3.5, 1000]),
        (["1 year", "10 years"], [1, 10]),
        (["1st", "2nd", "13th"], [1, 2, 13]),
        (["+5", "\u22127.5", "3-"], [5, -7.5, -3]),
        (["true", "FALSE", "True"], [1, 0, 1]),
        (["2024-12-31", "2024-1-5", "1969-12-31"], days("2024-12-31", "2024-01-05", "1969-12-31")),
        (["31.12.2024", "1.2.2024"], days("2024-12-31", "2024-02-01")),
        (["12/31/2024", "02/01/2024"], days("2024-12-31", "2024-02-01")),
        (["31/12/2024", "01/02/2024"], days("2024-12-31", "2024-02-01")),
        (["01/01/2024", "02/02/2024"], days("2024-01-01", "2024-02-02")),  # both readings say the same
        (["20241231", "20240201", "20240301"], days("2024-12-31", "2024-02-01", "2024-03-01")),
        (["31-Dec-2024", "1 February 2024"], days("2024-12-31", "2024-02-01")),
        (["Tue, 31 Dec 2024", "Thu, 1 Feb 2024"], days("2024-12-31", "2024-02-01")),
        (["Dec 31, 2024", "February 1st, 2024"], days("2024-12-31", "2024-02-01")),
        (["2024-12", "2024Q1"][:1] * 2, days("2024-12-01", "2024-12-01")),
        (["2024Q1", "2024-Q4"], days("2024-01-01", "2024-10-01")),
        (["1970-01-01T12:00:00", "1970-01-02 06:00"], [0.5, 1.25]),
        (["1970-01-01T12:00:00Z", "1970-01-01T12:00:00+06:00"], [0.5, 0.25]),
        (["1970-01-01 6:00 PM", "1970-01-01 12:00 AM"], [0.75, 0]),
        (["09:30", "23:45"], [9.5, 23.75]),
        (["9:30 am", "12:15 PM"], [9.5, 12.25]),
        (["1 days 02:30:00", "-1 days +23:00:00"], [26.5, -1]),
        (["PT1H30M", "P1D"], [1.5, 24]),
        (["1 h 30 min", "2h"], [1.5, 2]),
        (["90 min", "2 hours"], [1.5, 2]),
    ],
)
def test_cells_are_the_numbers_that_people_mean(cells, values):
    table = table_of(cells)
    assert table.is_number("x"), table.refused
    np.testing.assert_allclose(table.columns["x"], values, rtol=1e-15)
    assert table.texts["x"].tolist() == cells


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["1,234", "5,678", "12"], r"'1,234', which may be 1234 or 1\.234"),
        (["€ 1.234", "€ 5.678"], "may be 1.234 or 1234"),
        (["01/02/2024", "03/04/2024"], "may be day/month/year or month/day/year"),
        (["01-02-03", "03-04-05"], "may be"),
        (["12 kg", "900 g", "15 kg"], r"several units \(g, kg\)"),
        (["12 kg", "900", "15 kg"], "several units"),
        (["<0.5", "1.25", "3"], "<0.5"),
        (["12:30", "1:12:30", "12:31"], "times in several forms"),
        (["2024-01-01T10:00Z", "2024-01-01T10:00"], "with a zone and times without"),
        (["31.12.2024", "12/31/2024", "2024-12-31"], "no numbers, dates or times"),
        (["120/80", "130/85", "125/70"], "no numbers, dates or times"),
        (["+49 170 123456", "+49 171 555555"], "no numbers, dates or times"),
        (["1,5", "2.5", "3.5"], "no numbers, dates or times"),
        ([*map(str, range(40)), *["broken"] * 10], "mixes 40 numbers with 10 texts such as 'broken'"),
    ],
)
def test_what_may_mean_two_things_or_none_is_refused_by_name_with_the_remedy(cells, says):
    table = table_of(cells)
    with pytest.raises(InputError, match=f"column 'x'.*{says}.*--ignore") as error:
        fit_columns(table)
    assert "\n" not in str(error.value)
    assert not fit_columns(table, ["x", "other"])[0], "a column that is not used needs no mending"
    assert fit_columns(table, ["other"], categories=["x"])[0][0].levels


def test_marks_agree_over_the_columns_of_a_table():
    """In a table of decimal commas 1.234 is a thousand, or a slip."""
    table = table_from_bytes(b"a;b;c\n1,5;1.234;1.5\n2,5;5.678;2.5\n", "t.csv")
    assert set(table.refused) == {"b"} and "may be a thousand" in table.refused["b"]
    assert "is 1.234" in table_from_bytes(b"a;b\n1,234;x\n5,678;y\n", "t.csv").notes[1], "with semicolons it is said"


def test_words_for_nothing_among_numbers_are_missing_and_in_texts_they_are_words():
    table = table_of([*map(str, range(20)), *["unknown", "-"] * 5])
    assert np.isnan(table.columns["x"][20:]).all() and "10 cells that are no numbers" in table.notes[0]
    assert table_of(["+", "-", "+"]).labels("x").tolist() == ["+", "-", "+"]
    assert any("-999 in 2 cells" in n for n in fit_columns(table_of([*range(8), "-999", "-999"]), ["other"])[1])


@pytest.mark.parametrize(
    ("name", "cells", "says"),
    [
        ("x", range(40), "none twice, name rows"),
        ("x", np.random.default_rng(0).permutation(40) + 1000, "none twice, name rows"),
        ("customer_id", [7_100_003 * i for i in range(1, 30)], "none twice, name rows"),
        ("PassengerId", [9, 100, 3, 7], "none twice, name rows"),
        ("x", [f"{7 * i:03d}" for i in range(40)], "texts in 40 rows name rows"),
        ("x", [f"00000000-0000-4000-8000-{i:012d}" for i in range(30)], "texts in 30 rows name rows"),
        ("x", [f"a sentence with the number {i}" for i in range(30)], "texts in 30 rows name rows"),
    ],
)
def test_what_names_rows_is_no_quantity_and_is_left_out_loudly(name, cells, says):
    columns, notes = fit_columns(table_of(cells, name=name), ["other"])
    assert not columns and says in notes[-1] and notes[-1].startswith(f"column {name!r} is left out")


def test_quantities_are_kept_where_nothing_says_that_they_name_rows():
    sparse = [1_234_567 * (i * i % 31 + 1) for i in range(30)]
    for cells in (sparse, [i + 0.5 for i in range(40)], [1, 2, 3, 4, 5], [1, 2] * 20):
        assert fit_columns(table_of(cells), ["other"])[0][0].levels is None
    assert fit_columns(table_of(range(40)), ["other"], quantities=["x"])[0][0].levels is None
    codes, notes = fit_columns(table_of([f"00{i % 4}" for i in range(40)]), ["other"])
    assert codes[0].levels == ("000", "001", "002", "003") and "leading zeros such as '000'" in notes[0]


def test_dates_become_days_and_the_parts_that_vary():
    cells = [str(datetime.date(2024, 1, 1) + datetime.timedelta(days=9 * i)) for i in range(30)]
    table = table_of(cells)
    (column,), _ = fit_columns(table, ["other"])
    assert [part for part, _, _ in column.parts] == ["weekday", "day", "month"] and column.width == 4
    assert "weekday, day, month and hour" in table.notes[0]
    when = [datetime.date.fromisoformat(cell) for cell in cells]
    truth = np.array([[(w - DAY).days, w.weekday(), w.day, w.month] for w in when], float)
    np.testing.assert_allclose(raw(table, [column]), (truth - truth.mean(0)) / truth.std(0), rtol=1e-5, atol=1e-6)
    (months,), _ = fit_columns(table_of(["2024-01", "2024-03", "2025-02"]), ["other"])
    assert [part for part, _, _ in months.parts] == ["month"]
    (hours,), _ = fit_columns(table_of(["2024-01-01 06:00", "2024-01-01 18:30"]), ["other"])
    assert [part for part, _, _ in hours.parts] == ["hour"]


@pytest.mark.parametrize(
    ("training", "new", "values"),
    [
        (["31/12/2024", "01/01/2024"], ["05/06/2024"], days("2024-06-05")),
        (["12/31/2024", "01/01/2024"], ["05/06/2024"], days("2024-05-06")),
        (["1.234,56", "0,5"], ["1.234"], [1234]),
        (["1,234.56", "0.5"], ["7.25"], [7.25]),
        (["0.5", "1.5"], ["1,234.50"], [1234.5]),
        (["12 kg", "15 kg"], ["1 kg"], [1]),
    ],
)
def test_a_new_table_is_read_as_the_training_tables_were(training, new, values):
    columns, _ = fit_columns(table_of(training), ["other"])
    record = TablePreprocessing(columns, ("y",), False, columns[0].width, (0.0,), (1.0,))
    column = next(iter(TablePreprocessing.from_dict(record.to_dict()).columns or ()))
    assert record.to_dict()["version"] == (1 if column.reading is None else 2)
    found = raw(table_of(new), [column])[:, 0]
    np.testing.assert_allclose(found, (np.array(values) - column.mean) / column.std, rtol=1e-5)


@pytest.mark.parametrize(
    ("training", "new", "says"),
    [
        (["12 kg", "15 kg"], ["900 g"], "expected numbers in kg as in training, got '900 g'"),
        (["12 kg", "15 kg"], ["12"], "expected numbers in kg as in training, got '12'"),
        (["1,5", "2,5"], ["1.5"], "with decimal commas as in training, got '1.5'"),
        (["0.5", "1.5"], ["1,234"], "may be 1234 or 1.234"),
        (["0.5", "1.5"], ["12 kg"], "expected numbers as in training, got '12 kg'"),
        (["31.12.2024", "1.1.2024"], ["2024-12-31"], "written as day.month.year as in training"),
        (["0.5", "1.5"], ["2024-12-31"], "expected numbers as in training"),
    ],
)
def test_a_new_table_written_otherwise_is_refused(training, new, says):
    columns, _ = fit_columns(table_of(training), ["other"])
    with pytest.raises(InputError, match=says):
        raw(table_of(new), columns)


def test_the_same_table_is_the_same_in_every_form(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    rng, rows = np.random.default_rng(0), 60
    when = pandas.Timestamp("2024-01-01") + pandas.to_timedelta(rng.integers(0, 10**7, rows), unit="s")
    frame = pandas.DataFrame(
        {
            "number": rng.normal(size=rows),
            "whole": rng.integers(0, 9, rows),
            "gaps": pandas.array([None if i % 7 == 0 else i % 5 for i in range(rows)], dtype="Int64"),
            "truth": rng.integers(0, 2, rows).astype(bool),
            "yes": np.where(rng.integers(0, 2, rows) > 0, "J", "N"),
            "kind": pandas.Categorical(np.array(["a", "b", "c"])[rng.integers(0, 3, rows)]),
            "when": when,
            "zone": when.tz_localize("UTC"),
            "date": [w.date() for w in when],
            "time": [w.time() for w in when],
            "span": pandas.to_timedelta(rng.integers(0, 10**6, rows), unit="s"),
            "month": when.to_period("M"),
            "decimal": [decimal.Decimal(int(n)) / 8 for n in rng.integers(0, 99, rows)],
            "money": [f"{n / 100:,.2f} EUR" for n in rng.integers(0, 10**6, rows)],
            "code": [f"{n:04d}" for n in rng.integers(0, 5, rows)],
            "id": rng.permutation(rows),
            "compact": when.strftime("%Y%m%d").astype(int),
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    stored = frame.assign(month=frame["month"].astype(str))
    stored.to_parquet(tmp_path / "t.parquet")
    arrow = pandas.read_parquet(tmp_path / "t.parquet", dtype_backend="pyarrow")
    assert {"date32[day][pyarrow]", "time64[us][pyarrow]"} <= set(map(str, arrow.dtypes)) and pyarrow
    tables = [read_table(tmp_path / name) for name in ("t.csv", "t.tsv", "t.parquet")]
    tables += [table_from_frame(frame), table_from_frame(arrow)]
    first, notes = fit_columns(tables[0])
    assert [n for n in notes if "left out" in n] == [
        "column 'id' is left out: 60 whole numbers, none twice, name rows; --quantities takes it as numbers"
    ]
    assert {c.name for c in first} == set(frame.columns) - {"id"}
    expected = raw(tables[0], first)
    for table in tables[1:]:
        own, said = fit_columns(table)
        assert [(c.name, c.levels, c.width) for c in own] == [
            (c.name, c.levels, c.width) for c in first
        ] and said == notes
        np.testing.assert_array_equal(raw(table, own), expected)
        np.testing.assert_array_equal(raw(table, first), expected)  # what was learned from one form reads the others
        np.testing.assert_array_equal(raw(tables[0], own), expected)


def test_lists_and_structs_are_refused_by_name():
    table = table_from_frame(pandas.DataFrame({"l": [[1, 2], [3]], "s": [{"a": 1}, {"a": 2}], "x": [1, 2]}))
    for name in ("l", "s"):
        with pytest.raises(InputError, match=f"column '{name}' expected one number or text a cell"):
            fit_columns(table, [c for c in table.columns if c != name])
