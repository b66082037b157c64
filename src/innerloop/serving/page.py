"""The page: show a learner a few classes, or a few rows, and see it recognise new ones at once; and the page beside HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from gradio.themes import Default

from innerloop.data.picture_decoding import UNDECIDED, Reading
from innerloop.errors import InputError
from innerloop.serving.canvas import canvas, content, locked, unlocked
from innerloop.serving.http import interface
from innerloop.serving.sample_tab import sample_tab, thumbnail
from innerloop.serving.service import Service
from innerloop.serving.table_tab import table_tab
from innerloop.serving.telling import told
from innerloop.serving.text_tab import text_tab
from innerloop.serving.texts import EN, ZH, Texts

# A gallery of one picture would draw it as wide as the column.
_STYLE = (
    "#seen .grid-container, #made .grid-container { grid-template-columns: repeat(auto-fill, minmax(100px, 1fr)); }"
)


def application(service: Service) -> FastAPI:
    """``/adapt``, ``/predict`` and their documents, the page at ``/``, and the same in Chinese at ``/zh``."""
    app = interface(service)

    @app.get("/zh", include_in_schema=False)
    def chinese() -> RedirectResponse:  # without its slash it would be a path of the page at /
        return RedirectResponse("/zh/")

    for path, texts in (("/zh", ZH), ("/", EN)):  # what is at / takes all paths that are left
        app = gr.mount_gradio_app(
            app,
            page(service, texts),
            path=path,
            max_file_size=int(service.limits.megabytes * 1e6),
            theme=Default(font=["ui-sans-serif", "system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
            css=_STYLE,
            footer_links=[],
            show_error=True,
        )
    return app


def page(service: Service, texts: Texts) -> gr.Blocks:
    """The page around a service, to be mounted beside its HTTP interface."""
    with gr.Blocks(title="innerloop", analytics_enabled=False) as blocks:
        gr.Markdown(f"# innerloop\n{texts.intro.format(name=service.learner.name)} {texts.other}")
        if service.makes_pictures:
            sample_tab(service, texts)
        elif service.takes_pictures and service.classifies:
            _pictures(service, texts)
        elif service.reads_texts:
            text_tab(service, texts)
        else:
            table_tab(service, texts)
        gr.Markdown(texts.over_http)
    return blocks


class Shown:
    """What one visitor has shown the learner; every browser tab has its own. (Not a dataclass: gradio would take it apart.)

    Attributes:
        pictures: as the learner takes them.
        names: the class of each.
        thumbnails: each as it is drawn on the page, with its class.
        key: of the task that these adapt to; None before the first.
        reading: what was decided for picture files among them; None: nothing yet.
    """

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self.names: list[str] = []
        self.thumbnails: list[tuple[np.ndarray, str]] = []
        self.key: str | None = None
        self.reading: Reading | None = None

    def with_more(self, pictures: list[np.ndarray], name: str, reading: Reading | None = None) -> Shown:
        """A copy with these pictures of one class added, and no task yet."""
        more = Shown()
        more.reading = reading or self.reading
        more.pictures = [*self.pictures, *pictures]
        more.names = [*self.names, *[name] * len(pictures)]
        more.thumbnails = [*self.thumbnails, *((thumbnail(picture), name) for picture in pictures)]
        return more


# ---- pictures ------------------------------------------------------------------------------------------------------
def _pictures(service: Service, texts: Texts) -> None:
    shown = gr.State(Shown())
    with gr.Row():
        with gr.Column():
            gr.Markdown(f"### {texts.show}")
            name = gr.Textbox(label=texts.name, placeholder=texts.name_hint, max_lines=1, elem_id="class-name")
            with gr.Tab(texts.draw):
                drawn = canvas("support-canvas", texts.wipe)
                add_drawn = gr.Button(texts.add_drawing, variant="primary", elem_id="add-drawing")
            with gr.Tab(texts.pictures):
                files = gr.File(
                    label=texts.pictures_of, file_count="multiple", file_types=["image"], elem_id="support-files"
                )
                dark = _dark(service, texts)
                add_files = gr.Button(texts.add_pictures, variant="primary", elem_id="add-pictures")
            status = gr.Markdown(service.told_of_first(texts) or texts.nothing_yet, elem_id="status")
            gallery = gr.Gallery(
                show_label=False, columns=6, height=220, object_fit="contain", allow_preview=False, buttons=[],
                elem_id="seen",
            )  # fmt: skip
            clear = gr.Button(texts.start_over, elem_id="start-over")
        with gr.Column():
            gr.Markdown(f"### {texts.ask}")
            with gr.Tab(texts.draw):
                asked = canvas("query-canvas", texts.wipe)
                ask_drawn = gr.Button(texts.which, variant="primary", elem_id="ask-drawing")
            with gr.Tab(texts.picture):
                file = gr.File(label=texts.a_picture, file_types=["image"], elem_id="query-file")
                dark_query = _dark(service, texts)
                ask_file = gr.Button(texts.which, variant="primary", elem_id="ask-picture")
            answer = gr.Label(label=texts.answer, num_top_classes=5, elem_id="answer")
            verdict = gr.Markdown("", elem_id="verdict")

    @told
    def add_one(shown: Shown, name: str, drawing: Any) -> tuple[Any, ...]:
        return (*_add(service, texts, shown, name, [_ink(service, texts, drawing)]), "")

    @told
    def add_many(shown: Shown, name: str, paths: list[str] | None, dark: bool) -> tuple[Any, ...]:
        if not paths:
            raise InputError(texts.want_pictures)
        most = service.limits.examples - len(shown.names)
        if len(paths) > most:
            raise InputError(texts.want_fewer.format(most=most, got=len(paths)))
        found, reading = service.pictures([Path(p).read_bytes() for p in paths], dark, shown.reading)
        return (*_add(service, texts, shown, name, list(found), reading), None)

    @told
    def ask_one(shown: Shown, drawing: Any) -> tuple[dict[str, float], str]:
        return _ask(service, texts, shown, _ink(service, texts, drawing))

    @told
    def ask_path(shown: Shown, path: str | None, dark: bool) -> tuple[dict[str, float], str]:
        if not path:
            raise InputError(texts.want_picture)
        return _ask(service, texts, shown, service.pictures([Path(path).read_bytes()], dark, shown.reading)[0][0])

    def start_over() -> tuple[Any, ...]:
        return Shown(), [], service.told_of_first(texts) or texts.nothing_yet, None, ""

    quiet: dict[str, Any] = {"api_visibility": "private"}
    while_adding: dict[str, Any] = {**quiet, "show_progress_on": [gallery]}
    locked(add_drawn, "support-canvas")
    added = add_drawn.click(add_one, [shown, name, drawn], [shown, gallery, status, drawn], **while_adding)
    unlocked(added, "support-canvas")
    add_files.click(add_many, [shown, name, files, dark], [shown, gallery, status, files], **while_adding)
    ask_drawn.click(ask_one, [shown, asked], [answer, verdict], **quiet)
    ask_file.click(ask_path, [shown, file, dark_query], [answer, verdict], **quiet)
    clear.click(start_over, None, [shown, gallery, status, answer, verdict], **quiet)


def _dark(service: Service, texts: Texts) -> gr.Checkbox:
    return gr.Checkbox(_dark_by_default(service), label=texts.dark)


def _dark_by_default(service: Service) -> bool:
    """As the learner's own pictures were read; where that is not known, grey learners are taken to see ink."""
    found = service.dark_is_ink
    return service.input_shape[0] == 1 if found is None else found


def _ink(service: Service, texts: Texts, drawing: str | None) -> np.ndarray:
    """A canvas as the learner takes it: strokes are ink, the paper is nothing."""
    if not drawing:
        raise InputError(texts.want_drawing)
    found = service.pictures([content(drawing)], _dark_by_default(service))[0][0]
    if found.max() - found.min() < 0.1:
        raise InputError(texts.want_drawing)
    return found


def _add(
    service: Service,
    texts: Texts,
    shown: Shown,
    name: str,
    pictures: list[np.ndarray],
    reading: Reading | None = None,
) -> tuple[Shown, list[Any], str]:
    """The visitor's examples with these added, and a task adapted to them."""
    name = (name or "").strip()
    if not name:
        raise InputError(texts.want_name)
    found = shown.with_more(pictures, name, reading)
    names, classes = found.names, len(set(found.names))
    counted = texts.so_many(len(names), classes)
    if classes < 2:
        return found, found.thumbnails, texts.second_class.format(shown=counted)
    found.key, fitted, seconds = service.adapt(np.stack(found.pictures), names, reading=found.reading or UNDECIDED)
    told = {"judged": service.told_of_judged(fitted, texts), "unknown": service.told_of_unknown(fitted, texts)}
    return found, found.thumbnails, texts.adapted.format(shown=counted, seconds=seconds, **told)


def _ask(service: Service, texts: Texts, shown: Shown, picture: np.ndarray) -> tuple[dict[str, float], str]:
    """The probabilities of the classes, and a sentence where it is probably none of them."""
    key = shown.key or ("first" if service.first is not None else None)
    if key is None:
        raise InputError(texts.want_classes)
    fitted, found, known, _ = service.predict(key, picture[None])
    said = {str(name): float(p) for name, p in zip(fitted.classes_ or [], found[0], strict=True)}
    return said, "" if known is None or known[0] else texts.none_of_these
