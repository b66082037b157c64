"""The page: show a learner a few classes, or a few rows, and see it recognise new ones at once."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr
import numpy as np

from innerloop.errors import InnerloopError, InputError
from innerloop.serving.canvas import canvas, content, locked, unlocked
from innerloop.serving.service import Service

P = ParamSpec("P")
R = TypeVar("R")


class Shown:
    """What one visitor has shown the learner; every browser tab has its own. (Not a dataclass: gradio would take it apart.)

    Attributes:
        pictures: as the learner takes them.
        names: the class of each.
        thumbnails: each as it is drawn on the page, with its class.
        key: of the task that these adapt to; None before the first.
    """

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self.names: list[str] = []
        self.thumbnails: list[tuple[np.ndarray, str]] = []
        self.key: str | None = None

    def with_more(self, pictures: list[np.ndarray], name: str) -> Shown:
        """A copy with these pictures of one class added, and no task yet."""
        more = Shown()
        more.pictures = [*self.pictures, *pictures]
        more.names = [*self.names, *[name] * len(pictures)]
        more.thumbnails = [*self.thumbnails, *((_thumbnail(picture), name) for picture in pictures)]
        return more


def page(service: Service) -> gr.Blocks:
    """The page around a service, to be mounted beside its HTTP interface."""
    with gr.Blocks(title="innerloop", analytics_enabled=False) as blocks:
        gr.Markdown(f"# innerloop\n`{service.learner.name}`, trained before; what you show it here stays in this tab.")
        if service.takes_pictures and service.classifies:
            _pictures(service)
        else:
            _table(service)
        gr.Markdown("The same over HTTP: `POST /adapt`, `POST /predict`; see [/docs](/docs).")
    return blocks


def _told(function: Callable[P, R]) -> Callable[P, R]:
    """What the visitor did wrong, told on the page in one line."""

    @functools.wraps(function)
    def work(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except InnerloopError as error:
            raise gr.Error(" ".join(str(error).split()), print_exception=False) from None

    return work


# ---- pictures ------------------------------------------------------------------------------------------------------
def _pictures(service: Service) -> None:
    shown = gr.State(Shown())
    with gr.Row():
        with gr.Column():
            gr.Markdown("### 1. Show it a few classes")
            name = gr.Textbox(label="Class", placeholder="a name", max_lines=1, elem_id="class-name")
            with gr.Tab("Draw"):
                drawn = canvas("support-canvas")
                add_drawn = gr.Button("Add this drawing", variant="primary", elem_id="add-drawing")
            with gr.Tab("Pictures"):
                files = gr.File(
                    label="Pictures of this class", file_count="multiple", file_types=["image"], elem_id="support-files"
                )
                dark = _dark(service)
                add_files = gr.Button("Add these pictures", variant="primary", elem_id="add-pictures")
            status = gr.Markdown("Nothing shown yet.", elem_id="status")
            gallery = gr.Gallery(
                show_label=False, columns=3, height=220, allow_preview=False, buttons=[], elem_id="seen"
            )
            clear = gr.Button("Start over", elem_id="start-over")
        with gr.Column():
            gr.Markdown("### 2. Ask it")
            with gr.Tab("Draw"):
                asked = canvas("query-canvas")
                ask_drawn = gr.Button("Which class is it?", variant="primary", elem_id="ask-drawing")
            with gr.Tab("Picture"):
                file = gr.File(label="A picture", file_types=["image"], elem_id="query-file")
                dark_query = _dark(service)
                ask_file = gr.Button("Which class is it?", variant="primary", elem_id="ask-picture")
            answer = gr.Label(label="Its answer", num_top_classes=5, elem_id="answer")
            verdict = gr.Markdown("", elem_id="verdict")

    @_told
    def add_one(shown: Shown, name: str, drawing: Any) -> tuple[Any, ...]:
        return (*_add(service, shown, name, [_ink(service, drawing)]), "")

    @_told
    def add_many(shown: Shown, name: str, paths: list[str] | None, dark: bool) -> tuple[Any, ...]:
        if not paths:
            raise InputError("expected pictures, got none; drop some into the box")
        most = service.limits.examples - len(shown.names)
        if len(paths) > most:
            raise InputError(f"expected at most {most} more pictures, got {len(paths)}; take fewer")
        return (*_add(service, shown, name, [service.picture(Path(p).read_bytes(), dark) for p in paths]), None)

    @_told
    def ask_one(shown: Shown, drawing: Any) -> tuple[dict[str, float], str]:
        return _ask(service, shown, _ink(service, drawing))

    @_told
    def ask_path(shown: Shown, path: str | None, dark: bool) -> tuple[dict[str, float], str]:
        if not path:
            raise InputError("expected a picture, got none; drop one into the box")
        return _ask(service, shown, service.picture(Path(path).read_bytes(), dark))

    def start_over() -> tuple[Any, ...]:
        return Shown(), [], "Nothing shown yet.", None, ""

    quiet: dict[str, Any] = {"api_visibility": "private"}
    while_adding: dict[str, Any] = {**quiet, "show_progress_on": [gallery]}
    locked(add_drawn, "support-canvas")
    added = add_drawn.click(add_one, [shown, name, drawn], [shown, gallery, status, drawn], **while_adding)
    unlocked(added, "support-canvas")
    add_files.click(add_many, [shown, name, files, dark], [shown, gallery, status, files], **while_adding)
    ask_drawn.click(ask_one, [shown, asked], [answer, verdict], **quiet)
    ask_file.click(ask_path, [shown, file, dark_query], [answer, verdict], **quiet)
    clear.click(start_over, None, [shown, gallery, status, answer, verdict], **quiet)


def _dark(service: Service) -> gr.Checkbox:
    return gr.Checkbox(_dark_by_default(service), label="dark on light paper")


def _dark_by_default(service: Service) -> bool:
    """As the learner's own pictures were read; where that is not known, grey learners are taken to see ink."""
    found = service.dark_is_ink
    return service.input_shape[0] == 1 if found is None else found


def _ink(service: Service, drawing: str | None) -> np.ndarray:
    """A canvas as the learner takes it: strokes are ink, the paper is nothing."""
    found = service.picture(content(drawing), _dark_by_default(service))
    if found.max() - found.min() < 0.1:
        raise InputError("expected a drawing, got an empty canvas; draw something")
    return found


def _add(service: Service, shown: Shown, name: str, pictures: list[np.ndarray]) -> tuple[Shown, list[Any], str]:
    """The visitor's examples with these added, and a task adapted to them."""
    name = (name or "").strip()
    if not name:
        raise InputError("expected a class name, got none; write one above")
    found = shown.with_more(pictures, name)
    names, classes = found.names, len(set(found.names))
    text = f"{len(names)} picture{'s' * (len(names) > 1)} of {classes} class{'es' * (classes > 1)}"
    if classes < 2:
        return found, found.thumbnails, f"{text}. Show it a second class."
    found.key, fitted, seconds = service.adapt(np.stack(found.pictures), names)
    text = f"Adapted to {text} in {seconds:.2f} s. {service.told_of_unknown(fitted)}"
    return found, found.thumbnails, text


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    """As the learner sees it, enlarged without smoothing; ink on paper where it is grey."""
    values = (1 - picture[0])[:, :, None].repeat(3, 2) if picture.shape[0] == 1 else picture.transpose(1, 2, 0)
    times = max(1, 112 // values.shape[0])
    return (values * 255).astype(np.uint8).repeat(times, 0).repeat(times, 1)


def _ask(service: Service, shown: Shown, picture: np.ndarray) -> tuple[dict[str, float], str]:
    """The probabilities of the classes, and a sentence where it is probably none of them."""
    key = shown.key or ("first" if service.first is not None else None)
    if key is None:
        raise InputError("expected classes to choose from, got none; show it a few first")
    fitted, found, known = service.predict(key, picture[None])
    said = {str(name): float(p) for name, p in zip(fitted.classes_ or [], found[0], strict=True)}
    return said, "" if known is None or known[0] else "**Probably none of these**: less sure than its threshold asks."


# ---- tables --------------------------------------------------------------------------------------------------------
def _table(service: Service) -> None:
    width = int(np.prod(service.input_shape))
    header = ",".join([*(f"x{i + 1}" for i in range(width)), "y"])
    example = "-3,-0.2\n-1.5,-1\n0.5,0.5\n2,0.9\n3.5,-0.4" if width == 1 else ""
    gr.Markdown(
        f"Rows of {width} number{'s' * (width > 1)} and a target, separated by commas; new rows without the target."
    )
    with gr.Row():
        with gr.Column():
            support = gr.Textbox(f"{header}\n{example}", label="A few rows of the new task", lines=10, elem_id="rows")
        with gr.Column():
            query = gr.Textbox(
                "", label="New rows", placeholder="one a line; none: your own rows", lines=10, elem_id="new-rows"
            )
    go = gr.Button("Adapt and predict", variant="primary", elem_id="go")
    status = gr.Markdown("", elem_id="status")
    with gr.Row():
        with gr.Column(min_width=320):
            table = gr.Dataframe(label="Predictions", elem_id="predictions", interactive=False)
        with gr.Column(min_width=320, visible=width == 1 and not service.classifies):
            curve = gr.Plot(show_label=False, elem_id="curve")

    @_told
    def predict(support: str, query: str) -> tuple[Any, str, Any]:
        rows = _rows(support)
        if any(len(row) != width + 1 for row in rows):
            raise InputError(
                f"expected {width + 1} cells in every row of the task, {width} inputs and a target; mend the rows"
            )
        x = [_numbers(row[:width]) for row in rows]
        y: list[Any] = [row[-1] for row in rows] if service.classifies else [_numbers(row[-1:]) for row in rows]
        key, fitted, seconds = service.adapt(x, y)
        new = [_numbers(row[:width]) for row in _rows(query)] if query.strip() else x
        fitted, found, _ = service.predict(key, new)
        names = [str(name) for name in fitted.classes_ or ["prediction"]]
        made = {
            "headers": [*header.split(",")[:-1], *names],
            "data": np.hstack([np.asarray(new), found]).round(4).tolist(),
        }
        figure = _curve(service, key, x, y) if width == 1 and not service.classifies else None
        return made, f"Adapted to {len(rows)} rows in {seconds:.2f} s.", figure

    go.click(predict, [support, query], [table, status, curve], api_visibility="private")


def _rows(text: str) -> list[list[str]]:
    """The lines of a table; a first line of words is its header."""
    rows = [
        [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)
    ]
    if rows and not any(_is_number(cell) for cell in rows[0]):
        rows = rows[1:]
    if not rows:
        raise InputError("expected rows of numbers, got none; write some, one a line")
    return rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(cells: list[str]) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        raise InputError(f"expected numbers, got {', '.join(cells)!r}; mend that row") from None


def _curve(service: Service, key: str, x: list[list[float]], y: list[Any]) -> Any:
    """The adapted function and the points that it was adapted to."""
    from matplotlib.figure import Figure

    xs = np.asarray(x)[:, 0]
    reach = max(1.0, float(np.ptp(xs)) * 0.3)
    grid = np.linspace(xs.min() - reach, xs.max() + reach, min(200, service.limits.inputs))
    found = service.predict(key, grid[:, None]).values
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(grid, found[:, 0], label="adapted")
    axes.plot(xs, np.asarray(y, dtype=float)[:, 0], "k^", label="your rows")
    axes.set(xlabel="x", ylabel="y", title="What it has learned")
    axes.legend()
    return figure
