"""The page's part for score models of pictures: draw a few, see more of the kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from innerloop.errors import InputError
from innerloop.serving.canvas import canvas, content, locked, unlocked
from innerloop.serving.service import Service
from innerloop.serving.shown_pictures import listed, plain, shown_pictures, thumbnail
from innerloop.serving.task_link import opening, saving
from innerloop.serving.telling import told
from innerloop.serving.texts import Texts

_MADE = 16


def sample_tab(service: Service, texts: Texts) -> None:
    """A canvas and a box for files to show a few; a button for more of the kind, other ones at every click."""
    begun = [] if service.first is None else _pictures(service, "first")
    first = None if service.first is None else "first"
    shown = gr.State(begun)  # pictures as the learner takes them
    key = gr.State(first)  # of the task that is adapted to them
    clicks = gr.State(0)
    with gr.Row():
        with gr.Column(min_width=300):
            gr.Markdown(f"## {texts.show_kind}")
            with gr.Tab(texts.draw):
                drawn = canvas("support-canvas", texts.wipe)
                add_drawn = gr.Button(texts.add_drawing, variant="primary", elem_id="add-drawing")
            with gr.Tab(texts.pictures):
                files = gr.File(
                    label=texts.pictures_of_kind,
                    file_count="multiple",
                    file_types=["image"],
                    height=160,
                    elem_id="support-files",
                )
                add_files = gr.Button(texts.add_pictures, variant="primary", elem_id="add-pictures")
            status = gr.Markdown(_told(texts, begun, service, first), elem_id="status")
            seen = shown_pictures("seen", _listed(begun, texts))
            save = gr.HTML(saving(first, texts), elem_id="save")
            with gr.Row():
                open_file = opening(texts)
                clear = gr.Button(texts.start_over, elem_id="start-over", min_width=120)
        with gr.Column(min_width=300):
            gr.Markdown(f"## {texts.more_of_it}")
            guidance = gr.Slider(0, 3, value=1, step=0.5, label=texts.guidance, elem_id="guidance")
            make = gr.Button(texts.make_more, variant="primary", elem_id="make-more")
            said = gr.Markdown("", elem_id="said-made")
            made = shown_pictures("made")

    def after(found: list[np.ndarray]) -> tuple[Any, ...]:
        """The pictures that are shown from now on, and a task adapted to them; what was made of others goes."""
        now = service.shown_kind(np.stack(found))[0] if found else None
        return found, now, _listed(found, texts), _told(texts, found, service, now), saving(now, texts), "", ""

    def added(shown: list[np.ndarray], more: list[np.ndarray]) -> tuple[Any, ...]:
        if len(shown) + len(more) > service.limits.examples:
            raise InputError(texts.want_fewer.format(most=service.limits.examples - len(shown), got=len(more)))
        return after([*shown, *more])

    @told(texts)
    def add_one(shown: list[np.ndarray], drawing: Any) -> tuple[Any, ...]:
        if not drawing:
            raise InputError(texts.want_drawing)
        picture = service.pictures([content(drawing)], service.input_shape[0] == 1)[0][0]
        if picture.max() - picture.min() < 0.1:
            raise InputError(texts.want_drawing)
        return (*added(shown, [picture]), "")

    @told(texts)
    def add_many(shown: list[np.ndarray], paths: list[str] | None) -> tuple[Any, ...]:
        if not paths:
            raise InputError(texts.want_pictures)
        return (*added(shown, list(service.pictures([Path(p).read_bytes() for p in paths])[0])), None)

    @told(texts)
    def taken_away(shown: list[np.ndarray], event: gr.EventData) -> tuple[Any, ...]:
        return after([one for i, one in enumerate(shown) if i != int(event.index)])

    @told(texts)
    def opened(path: str) -> tuple[Any, ...]:
        now, _ = service.opened(Path(path).read_bytes())
        found = _pictures(service, now)
        return found, now, _listed(found, texts), _told(texts, found, service, now), saving(now, texts), "", ""

    @told(texts)
    def make_more(key: str | None, clicks: int, guidance: float) -> tuple[Any, ...]:
        if key is None:
            raise InputError(texts.want_drawing)
        found, seconds = service.sample(key, _MADE, seed=clicks, guidance=guidance)
        pictures = plain([thumbnail(one) for one in found], texts.more_of_it)
        return pictures, texts.made_in.format(number=len(found), seconds=seconds), clicks + 1

    def start_over() -> tuple[Any, ...]:
        return after([])

    quiet: dict[str, Any] = {"api_visibility": "private"}
    state = [shown, key, seen, status, save, made, said]
    while_adding: dict[str, Any] = {**quiet, "show_progress_on": [status]}
    locked(add_drawn, "support-canvas")
    done = add_drawn.click(add_one, [shown, drawn], [*state, drawn], **while_adding)
    unlocked(done, "support-canvas")
    add_files.click(add_many, [shown, files], [*state, files], **while_adding)
    seen.delete(taken_away, [shown], state, **while_adding)
    open_file.upload(opened, [open_file], state, **while_adding)
    make.click(make_more, [key, clicks, guidance], [made, said, clicks], **quiet)
    clear.click(start_over, None, state, **quiet)


def _pictures(service: Service, key: str) -> list[np.ndarray]:
    """What the task of this key was shown, where that is known."""
    examples = service.examples(key)
    return [] if examples is None or examples.pictures is None else list(examples.pictures)


def _listed(pictures: list[np.ndarray], texts: Texts) -> str:
    return listed([thumbnail(one) for one in pictures], (), texts)


def _told(texts: Texts, pictures: list[np.ndarray], service: Service, key: str | None) -> str:
    if pictures:
        return texts.shown_so_far.format(number=len(pictures))
    if key is None:
        return texts.nothing_yet
    return texts.opened_without.format(examples=service.task(key).num_examples, judged="", unknown="")
