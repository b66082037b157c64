"""The page's link that saves a task as a file, and its button that opens one."""

from __future__ import annotations

import html

import gradio as gr

from innerloop.serving.texts import Texts


def saving(key: str | None, texts: Texts) -> str:
    """A link to the file of the task of this key, as HTML; "" without a task."""
    if key is None:
        return ""
    return f'<a href="/tasks/{html.escape(key)}" download="task.il">{html.escape(texts.save_task)}</a>'


def opening(texts: Texts) -> gr.UploadButton:
    """The button, whose value is the path of the file that the visitor chose."""
    return gr.UploadButton(texts.open_task, file_types=[".il"], elem_id="open-task", min_width=120)
