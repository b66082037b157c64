"""Text between two marks of a page, and what is said where a mark is gone."""

import pytest

from benchmarks.marked_text import replaced
from innerloop.errors import InputError


def test_what_stands_between_the_marks_is_replaced():
    assert replaced("a [x] old [y] b", "[x]", "[y]", "new", "page.md") == "a [x]\n\nnew\n[y] b"


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("a [y] b", "got no '\\[x\\]'; put"),
        ("a [x] b", "got no '\\[y\\]'; put"),
        ("ab", "got no '\\[x\\]' and '\\[y\\]'; put"),
        ("[y] a [x]", "got the second before the first; put"),
    ],
)
def test_a_missing_mark_names_its_page(text, got):
    with pytest.raises(InputError, match=rf"^docs/page\.md expected the marks '\[x\]' and then '\[y\]', {got}"):
        replaced(text, "[x]", "[y]", "new", "docs/page.md")
