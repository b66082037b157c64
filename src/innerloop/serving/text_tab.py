"""The page's part for texts: sentences of a few classes, then sentences to tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from innerloop.errors import InputError
from innerloop.serving.service import Service
from innerloop.serving.task_link import opening, saving
from innerloop.serving.telling import told
from innerloop.serving.texts import Texts

_SEPARATOR = ":"


def text_tab(service: Service, texts: Texts) -> None:
    """Two boxes for sentences, a button and a table of predictions; a task file that is served can be asked at once."""
    first = None if service.first is None else "first"
    kept = gr.State((first, ""))  # the key of a task, and the sentences that it was adapted to
    gr.Markdown(texts.sentences)
    with gr.Row():
        with gr.Column(min_width=300):
            support = gr.Textbox(
                "", label=texts.shown_sentences, placeholder=texts.sentence_hint, lines=10, elem_id="said"
            )
            open_file = opening(texts)
        with gr.Column(min_width=300):
            query = gr.Textbox(
                "", label=texts.new_sentences, placeholder=texts.new_sentence_hint, lines=10, elem_id="new-sentences"
            )
    go = gr.Button(texts.go, variant="primary", elem_id="go")
    status = gr.Markdown(service.told_of_first(texts), elem_id="status")
    save = gr.HTML(saving(first, texts), elem_id="save")
    table = gr.Dataframe(label=texts.predictions, elem_id="predictions", interactive=False, wrap=True, visible=False)

    @told(texts)
    def predict(kept: tuple[str | None, str], support: str, query: str) -> tuple[Any, ...]:
        key, before = kept
        if key is None or support.strip() != before:
            shown, names = taken_apart(support, texts)
            key, fitted, seconds = service.adapt(shown, names)
            judged = service.told_of_judged(fitted, texts)
            said = texts.adapted_sentences.format(rows=len(shown), seconds=seconds, judged=judged)
        else:
            fitted = service.task(key)
            said = service.told_of_kept(fitted, texts)
        said = f"{said} {service.told_of_unknown(fitted, texts)}"
        sentences = [line.strip() for line in query.splitlines() if line.strip()]
        if not sentences:
            hidden = gr.update(visible=False)
            return (key, support.strip()), hidden, f"{said}\n\n{texts.ask_sentences}", saving(key, texts)
        _, found, known, _ = service.predict(key, sentences)
        rows = []
        for i, sentence in enumerate(sentences):
            best = str((fitted.classes_ or [])[found[i].argmax()])
            answer = best if known is None or known[i] else texts.perhaps_none.format(name=best)
            rows.append([sentence, answer, *(100 * found[i].astype(float)).round(1).tolist()])
        headers = [texts.sentence, texts.answer, *(f"{name} %" for name in fitted.classes_ or ())]
        shown_table = gr.update(value={"headers": headers, "data": rows}, visible=True)
        return (key, support.strip()), shown_table, said, saving(key, texts)

    @told(texts)
    def opened(path: str) -> tuple[Any, ...]:
        key, fitted = service.opened(Path(path).read_bytes())
        examples = service.examples(key)
        lines = "" if examples is None else lines_of(examples.texts, examples.names)
        return (key, lines), lines, gr.update(visible=False), service.told_of_kept(fitted, texts), saving(key, texts)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress_on": [status]}
    go.click(predict, [kept, support, query], [kept, table, status, save], **quiet)
    open_file.upload(opened, [open_file], [kept, support, table, status, save], **quiet)


def lines_of(sentences: Sequence[str], names: Sequence[Any]) -> str:
    """What `taken_apart` takes apart."""
    pairs = zip(names, sentences, strict=True)
    return "\n".join(f"{name}{_SEPARATOR} {' '.join(sentence.split())}" for name, sentence in pairs)


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
