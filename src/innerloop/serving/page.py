"""The page: show a learner a few classes, or a few rows, and see it recognise new ones at once; and the page beside HTTP."""

from __future__ import annotations

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from gradio.themes import Default

from innerloop.serving.http import interface
from innerloop.serving.picture_tab import picture_tab
from innerloop.serving.sample_tab import sample_tab
from innerloop.serving.service import Service
from innerloop.serving.table_tab import table_tab
from innerloop.serving.text_tab import text_tab
from innerloop.serving.texts import EN, ZH, Texts

# Many classes scroll, a link looks like one, and what went wrong is said once, by the message above the page.
_STYLE = """#answer { max-height: 460px; overflow-y: auto; } #save a { text-decoration: underline; }
[data-testid="status-tracker"]:has(> .error) { display: none !important; }"""


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
        name = f"`{service.learner.name}`"
        problem = (service.learner.problem or {}).get("name")
        if problem:  # of a folder of one's own only the last part: visitors need not know where it lies
            name = texts.trained_on.format(
                name=name, problem=f"`{str(problem).replace(chr(92), '/').rpartition('/')[2]}`"
            )
        gr.Markdown(f"# innerloop\n{texts.intro.format(name=name)} {texts.other}")
        if service.makes_pictures:
            sample_tab(service, texts)
        elif service.takes_pictures and service.classifies:
            picture_tab(service, texts)
        elif service.reads_texts:
            text_tab(service, texts)
        else:
            table_tab(service, texts)
        if not service.makes_pictures:
            gr.Markdown(texts.over_http)
    return blocks
