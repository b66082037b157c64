"""Tables are read as they were meant, and what cannot be read is one sentence that names the place."""

import builtins
import gzip

import numpy as np
import pytest

from innerloop.data.table_files import read_tables
from innerloop.data.tables import read_table, table_from_bytes, table_from_frame
from innerloop.errors import InputError

pandas = pytest.importorskip("pandas")


def read(text, name="t.csv", **options):
    return table_from_bytes(text.encode() if isinstance(text, str) else text, name, **options)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found(separator):
    table = read(f"a{separator}b\n1{separator}x\n2{separator}y\n")
    assert table.columns["a"].tolist() == [1, 2] and table.texts["b"].tolist() == ["x", "y"]


def test_quoted_cells_hold_anything_and_empty_lines_are_no_rows():
    table = read('a,b\r\n\r\n1,"x, ""y""\nz"\r\n  \r\n2,\r\n')
    assert table.columns["a"].tolist() == [1, 2] and table.texts["b"].tolist() == ['x, "y"\nz', None]
    assert read('a\n1\n""\n2\n').texts["a"].tolist() == ["1", None, "2"], "a cell of its own that is missing"
    assert read("a,b\r1,2\r3,4\r").columns["b"].tolist() == [2, 4]


def test_decimal_commas_are_numbers_where_semicolons_separate():
    assert read("a;b\n1,5;x\n-2,25;y\n").columns["a"].tolist() == [1.5, -2.25]
    assert read('a,b\n"1,5",x\n"2,5",y\n').columns["a"].tolist() == [1.5, 2.5]


def test_missing_cells_and_class_names_stay_what_they_are():
    table = read("a,label\n1,01\n?,1\nNA,\n")
    assert np.isnan(table.columns["a"][1:]).all()
    assert table.labels("label").tolist() == ["01", "1", None]


def test_a_few_stray_texts_are_missing_and_many_make_categories():
    few = read("a\n" + "1\n2\n" * 20 + "oops\n", separator=",")
    assert np.isnan(few.columns["a"][-1]) and "row 41: 'oops'" in few.notes[0]
    many = read("a,b\n1,1\n2,1\nx,1\n")
    assert not many.is_number("a") and "mixes 2 numbers with 1 texts" in many.notes[0]


def test_infinite_and_huge_numbers_are_missing_and_said():
    table = read("a,b\ninf,1\n1e300,2\n3,1\n")
    assert np.isnan(table.columns["a"][:2]).all() and "2 infinite or huge" in table.notes[0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("a,a\n1,2\n", "got 'a' twice"),
        ("a,b\n1,2,3\n", "row 1 expected 2 cells .* got 3"),
        ("a,b\n1,2\n3\n", "row 2 expected 2 cells .* got 1"),
        ("a,b\n", "at least one row"),
        ("", "empty file"),
        ('a,b\n1,"2\n', "a quotation mark at the end of a cell"),
        ('a,b\n1,2\n3,"', "a quotation mark at the end of a cell"),
        ("a,b\n\xe9,2\n".encode("latin-1"), "--encoding latin-1"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "expected text"),
        (b"a,b\n\0,1\n", "binary file"),
        (b"\x1f\x8b\x08broken", "damaged"),
        (b"PAR1 no more", "damaged file"),
    ],
)
def test_what_is_no_table_is_one_sentence(data, says):
    with pytest.raises(InputError, match=says) as error:
        read(data)
    assert "\n" not in str(error.value)


def test_a_told_encoding_is_taken():
    assert read("a,b\né,1\n".encode("latin-1"), encoding="latin-1").texts["a"][0] == "é"
    assert read("a,b\né,1\n".encode("utf-16")).texts["a"][0] == "é"
    with pytest.raises(InputError, match="a name that Python knows"):
        read("a,b\n1,2\n", encoding="nonsense")


def test_parquet_and_packed_text_hold_the_same(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"n": [1, 2, None], "c": ["x", None, "y"], "l": [3, 4, 5]})
    frame.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    one, two = read_table(tmp_path / "t.parquet"), read_table(tmp_path / "t.csv.gz")
    assert list(one.columns) == list(two.columns)
    for name in one.columns:
        np.testing.assert_array_equal(one.columns[name], two.columns[name])
    assert one.labels("l").tolist() == two.labels("l").tolist() == ["3", "4", "5"]


def test_an_unreadable_table_of_a_folder_is_left_out_and_named(tmp_path):
    (tmp_path / "good.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bad.csv").write_text("a,a\n1,2\n")
    tables, left_out = read_tables(tmp_path)
    assert [t.name for t in tables] == ["good"] and "bad.csv" in left_out[0]
    (tmp_path / "good.csv").unlink()
    with pytest.raises(InputError, match="readable tables"):
        read_tables(tmp_path)


def test_without_pandas_text_is_read_and_parquet_names_the_line_to_type(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'innerloop\[tables\]'"):
        read(b"PAR1")
    assert read("a,b\n1,x\n").texts["b"].tolist() == ["x"]


def test_a_parquet_columns_of_odd_kinds(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(
        {
            "none": pandas.Series([None, None], dtype=object),
            "when": pandas.to_datetime(["1970-01-02", None]),
            "yes": [True, False],
            "lists": [[1], [2, 3]],
            "kind": pandas.Categorical(["a", None]),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.labels("none").tolist() == [None, None]
    assert table.columns["when"][0] == 1 and np.isnan(table.columns["when"][1])
    assert table.labels("yes").tolist() == ["True", "False"] and table.as_given("yes", ["True"]) == [True]
    (tmp_path / "t.csv").write_text("yes\nTrue\nfalse\n")
    (tmp_path / "t.jsonl").write_text('{"yes": true}\n{"yes": false}\n')
    nullable = table_from_frame(pandas.DataFrame({"yes": pandas.array([True, False], dtype="boolean")}))
    for one in (table, nullable, read_table(tmp_path / "t.csv"), read_table(tmp_path / "t.jsonl")):
        assert one.columns["yes"].tolist() == [1, 0] and one.readings["yes"].kind == "truth"
        assert one.column("yes").dtype == np.float64
    assert table.numbers(["yes"]).tolist() == [[1], [0]] and table.labels("kind").tolist() == ["a", None]
    assert not table.is_number("lists")


def test_dates_and_durations_beyond_the_nanoseconds():
    when = pandas.Series(np.array(["9999-12-31", "1500-01-01"], dtype="datetime64[us]"))
    long = pandas.Series(np.array([400 * 365 * 24, 1], dtype="timedelta64[h]").astype("timedelta64[s]"))
    table = table_from_frame(pandas.DataFrame({"when": when, "long": long}))
    assert table.columns["when"].tolist() == [2_932_896, -171_664] and table.columns["long"].tolist() == [3_504_000, 1]


def test_words_for_missing_cells_with_digits_in_them():
    table = table_from_bytes(b"a\n1.5\n#DIV/0!\n2\n#DIV/0!\n3\n4\n", "t.csv")
    np.testing.assert_array_equal(table.columns["a"], [1.5, np.nan, 2, np.nan, 3, 4])
