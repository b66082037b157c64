"""The page's part for score models of pictures: draw a few, see more of the kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from innerloop.errors import InputError
from innerloop.serving.canvas import canvas, content, locked, unlocked
from innerloop.serving.service import Service
from innerloop.serving.telling import told
from innerloop.serving.texts import Texts

_MADE = 16
_SIDE = 112  # pixels of a thumbnail, about


def sample_tab(service: Service, texts: Texts) -> None:
    """A canvas and a box for files to show a few; a button for more of the kind, other ones at every click."""
    shown = gr.State([])  # pictures as the learner takes them
    clicks = gr.State(0)
    with gr.Row():
        with gr.Column():
            gr.Markdown(f"### {texts.show_kind}")
            with gr.Tab(texts.draw):
                drawn = canvas("support-canvas", texts.wipe)
                add_drawn = gr.Button(texts.add_drawing, variant="primary", elem_id="add-drawing")
            with gr.Tab(texts.pictures):
                files = gr.File(
                    label=texts.pictures_of_kind, file_count="multiple", file_types=["image"], elem_id="support-files"
                )
                add_files = gr.Button(texts.add_pictures, variant="primary", elem_id="add-pictures")
            status = gr.Markdown(texts.nothing_yet, elem_id="status")
            gallery = _gallery("seen")
            clear = gr.Button(texts.start_over, elem_id="start-over")
        with gr.Column():
            gr.Markdown(f"### {texts.more_of_it}")
            guidance = gr.Slider(0, 3, value=1, step=0.5, label=texts.guidance, elem_id="guidance")
            make = gr.Button(texts.make_more, variant="primary", elem_id="make-more")
            said = gr.Markdown("", elem_id="said-made")
            made = _gallery("made")

    def added(shown: list[np.ndarray], more: list[np.ndarray]) -> tuple[Any, ...]:
        found = [*shown, *more]
        if len(found) > service.limits.examples:
            raise InputError(texts.want_fewer.format(most=service.limits.examples - len(shown), got=len(more)))
        return found, [thumbnail(one) for one in found], texts.shown_so_far.format(number=len(found))

    @told
    def add_one(shown: list[np.ndarray], drawing: Any) -> tuple[Any, ...]:
        if not drawing:
            raise InputError(texts.want_drawing)
        picture = service.pictures([content(drawing)], True)[0][0]
        if picture.max() - picture.min() < 0.1:
            raise InputError(texts.want_drawing)
        return (*added(shown, [picture]), "")

    @told
    def add_many(shown: list[np.ndarray], paths: list[str] | None) -> tuple[Any, ...]:
        if not paths:
            raise InputError(texts.want_pictures)
        return (*added(shown, list(service.pictures([Path(p).read_bytes() for p in paths])[0])), None)

    @told
    def make_more(shown: list[np.ndarray], clicks: int, guidance: float) -> tuple[Any, ...]:
        if not shown and service.first is None:
            raise InputError(texts.want_drawing)
        support = np.stack(shown) if shown else None
        found, seconds = service.sample(support, _MADE, seed=clicks, guidance=guidance)
        return [thumbnail(one) for one in found], texts.made_in.format(number=len(found), seconds=seconds), clicks + 1

    def start_over() -> tuple[Any, ...]:
        return [], [], texts.nothing_yet, [], "", 0

    quiet: dict[str, Any] = {"api_visibility": "private"}
    locked(add_drawn, "support-canvas")
    done = add_drawn.click(add_one, [shown, drawn], [shown, gallery, status, drawn], **quiet)
    unlocked(done, "support-canvas")
    add_files.click(add_many, [shown, files], [shown, gallery, status, files], **quiet)
    make.click(make_more, [shown, clicks, guidance], [made, said, clicks], **quiet)
    clear.click(start_over, None, [shown, gallery, status, made, said, clicks], **quiet)


def _gallery(identity: str) -> gr.Gallery:
    return gr.Gallery(
        show_label=False, columns=6, height=220, object_fit="contain", allow_preview=False, buttons=[], elem_id=identity
    )


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """As the learner sees it, enlarged without smoothing; ink on paper where it is grey."""
    values = (1 - picture[0])[:, :, None].repeat(3, 2) if picture.shape[0] == 1 else picture.transpose(1, 2, 0)
    times = max(1, _SIDE // values.shape[0])
    return (values * 255).astype(np.uint8).repeat(times, 0).repeat(times, 1)
