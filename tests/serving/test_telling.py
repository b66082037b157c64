"""Messages of the page: their heading is in the language of the page."""

import pytest

pytest.importorskip("gradio")
import gradio as gr

from innerloop.errors import InputError
from innerloop.serving.telling import told
from innerloop.serving.texts import EN, ZH


@pytest.mark.parametrize(("texts", "heading"), [(EN, "Error"), (ZH, "没有成功")])
def test_a_refusal_is_a_message_under_a_heading_in_the_pages_language(texts, heading):
    @told(texts)
    def refuse(what: str) -> None:
        raise InputError(f"expected {what},\n got none")

    with pytest.raises(gr.Error) as raised:
        refuse("a row")
    assert (raised.value.title, raised.value.message) == (heading, "expected a row, got none")
