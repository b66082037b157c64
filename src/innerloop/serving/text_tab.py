"""The page's part for texts: sentences of a few classes, then sentences to tell apart."""

from __future__ import annotations

from typing import Any

import gradio as gr

from innerloop.errors import InputError
from innerloop.serving.service import Service
from innerloop.serving.telling import told
from innerloop.serving.texts import Texts

_SEPARATOR = ":"


def text_tab(service: Service, texts: Texts) -> None:
    """Two boxes for sentences, a button and a table of predictions; a task file that is served can be asked at once."""
    ready = service.first is not None
    gr.Markdown(texts.sentences)
    with gr.Row():
        with gr.Column():
            support = gr.Textbox(
                "", label=texts.shown_sentences, placeholder=texts.sentence_hint, lines=10, elem_id="said"
            )
        with gr.Column():
            query = gr.Textbox("", label=texts.new_sentences, lines=10, elem_id="new-sentences")
    go = gr.Button(texts.go, variant="primary", elem_id="go")
    status = gr.Markdown("", elem_id="status")
    table = gr.Dataframe(label=texts.predictions, elem_id="predictions", interactive=False)

    @told
    def predict(support: str, query: str) -> tuple[Any, str]:
        sentences = [line.strip() for line in query.splitlines() if line.strip()]
        if not sentences:
            raise InputError(texts.want_sentence)
        if ready and not support.strip():
            key, fitted, said = "first", service.task("first"), ""
        else:
            shown, names = taken_apart(support, texts)
            key, fitted, seconds = service.adapt(shown, names)
            said = texts.adapted_rows.format(rows=len(shown), seconds=seconds)
        found = service.predict(key, sentences).values.astype(float)
        assert fitted.classes_ is not None
        rows = [
            [sentence, str(fitted.classes_[row.argmax()]), *row.round(4).tolist()]
            for sentence, row in zip(sentences, found, strict=True)
        ]
        headers = [texts.sentence, texts.answer, *map(str, fitted.classes_)]
        return {"headers": headers, "data": rows}, f"{said} {service.told_of_unknown(fitted, texts)}"

    go.click(predict, [support, query], [table, status], api_visibility="private")


def taken_apart(lines: str, texts: Texts) -> tuple[list[str], list[str]]:
    """(sentences, class of each) of lines ``class: sentence``.

    Raises:
        InputError: a line without a class or a sentence, or no line.
    """
    shown, names = [], []
    for line in lines.splitlines():
        if not line.strip():
            continue
        name, mark, sentence = line.replace("：", _SEPARATOR, 1).partition(_SEPARATOR)
        if not mark or not name.strip() or not sentence.strip():
            raise InputError(texts.want_class_of.format(line=line.strip()[:60]))
        shown.append(sentence.strip())
        names.append(name.strip())
    if not shown:
        raise InputError(texts.want_sentences)
    return shown, names
