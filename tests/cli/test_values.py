"""Text and file values to typed settings."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from innerloop.cli import values
from innerloop.errors import ConfigError

PATTERNS = Sequence[str] | None


@pytest.mark.parametrize(
    ("annotation", "words", "value"),
    [
        (int, ["-3"], -3),
        (float, ["1e-3"], 1e-3),
        (int | None, ["none"], None),
        (float | str, ["0.5"], 0.5),
        (float | str, ["learned"], "learned"),
        (bool, ["no"], False),
        (Literal["a", "b"], ["b"], "b"),
        (tuple[float, float], ["0.1", "5"], (0.1, 5.0)),
        (Sequence[int], ["8"], (8,)),
        (int | Sequence[int], ["8"], 8),
        (int | Sequence[int], ["8", "9"], (8, 9)),
        (PATTERNS, ["head.*", "body"], ("head.*", "body")),
    ],
)
def test_words_become_values(annotation, words, value):
    parsed = values.parse(values.settable(annotation), words)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("annotation", "words", "said"),
    [
        (float, ["nan"], "expected a finite number, got 'nan'"),
        (float, ["-inf"], "expected a finite number, got '-inf'"),
        (float | None, ["1e999"], "expected a finite number or none, got '1e999'"),
        (int, ["1.5"], "expected an integer, got '1.5'"),
        (int, ["1_000"], "expected an integer, got '1_000'"),
        (tuple[float, float], ["1"], "expected 2 finite numbers, got '1'"),
        (tuple[float, float], ["1", "nan"], "got '1' 'nan'"),
        (Literal["adam", "sgd"], ["adm"], "did you mean 'adam'?"),
    ],
)
def test_words_that_are_no_value_are_refused(annotation, words, said):
    with pytest.raises(ConfigError) as refused:
        values.parse(values.settable(annotation), words)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("annotation", "given", "value"),
    [
        (float, 1, 1.0),
        (float, "1e-3", 1e-3),
        (int | None, None, None),
        (tuple[float, float], [0, 5], (0.0, 5.0)),
        (PATTERNS, ["a"], ("a",)),
        (bool, True, True),
    ],
)
def test_file_values_are_converted(annotation, given, value):
    found = values.check(values.settable(annotation), given)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("annotation", "given"),
    [(int, True), (int, 1.5), (int, "3"), (float, float("nan")), (float, True), (str, 3), (bool, 1), (PATTERNS, [3])],
)
def test_file_values_of_another_type_are_refused(annotation, given):
    with pytest.raises(ConfigError, match=r"expected .* got"):
        values.check(values.settable(annotation), given)


def test_functions_and_tables_are_no_flags():
    assert values.settable(Callable[[int], int] | None) is None
    assert values.settable(dict[str, Any]) is None
    assert values.settable(str | Callable[[int], int]) is str
