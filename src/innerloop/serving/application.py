"""Page and HTTP interface in one application."""

from __future__ import annotations

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from gradio.themes import Default

from innerloop.serving.http import interface
from innerloop.serving.page import page
from innerloop.serving.service import Service
from innerloop.serving.texts import EN, ZH

# A gallery of one picture would draw it as wide as the column.
_STYLE = "#seen .grid-container { grid-template-columns: repeat(auto-fill, minmax(100px, 1fr)); }"


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
