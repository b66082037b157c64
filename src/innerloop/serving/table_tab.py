"""The page's part for rows: plain numbers, or the columns of the tables that a learner was trained on."""

from __future__ import annotations

import csv
import io
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from innerloop.data.table_preprocessing import TablePreprocessing, is_record_of_tables
from innerloop.data.table_support import support_of
from innerloop.data.tables import Table, table_from_bytes
from innerloop.errors import InputError
from innerloop.serving.service import Service
from innerloop.serving.telling import told
from innerloop.serving.texts import Texts


class Rows(NamedTuple):
    """What a visitor gave, as the learner takes it.

    Attributes:
        x, y: of the task.
        new: inputs to predict.
        shown: the cells of the new rows, as they are shown beside the predictions.
        header: of those cells.
        record: how columns became numbers; None: they are numbers.
    """

    x: Any
    y: Any
    new: Any
    shown: list[list[Any]]
    header: list[str]
    record: TablePreprocessing | None


def table_tab(service: Service, texts: Texts) -> None:
    """Two boxes for rows, a button, a table of predictions, and a curve where there is one input."""
    width = int(np.prod(service.input_shape))
    kept = service.learner.preprocessing
    record = TablePreprocessing.from_dict(kept) if kept is not None and is_record_of_tables(kept) else None
    curved = record is None and width == 1 and not service.classifies
    gr.Markdown(_asked(record, width, texts))
    with gr.Row():
        with gr.Column():
            support = gr.Textbox(_begun(record, width, curved), label=texts.rows, lines=10, elem_id="rows")
        with gr.Column():
            query = gr.Textbox("", label=texts.new_rows, placeholder=texts.new_rows_hint, lines=10, elem_id="new-rows")
    go = gr.Button(texts.go, variant="primary", elem_id="go")
    status = gr.Markdown("", elem_id="status")
    with gr.Row():
        with gr.Column(min_width=320):
            table = gr.Dataframe(label=texts.predictions, elem_id="predictions", interactive=False)
        with gr.Column(min_width=320, visible=curved):
            curve = gr.Plot(show_label=False, elem_id="curve")

    @told
    def predict(support: str, query: str) -> tuple[Any, str, Any]:
        rows = _of_columns(record, support, query) if record else _of_numbers(service, texts, width, support, query)
        key, fitted, seconds = service.adapt(rows.x, rows.y)
        fitted, found, _ = service.predict(key, rows.new)
        if rows.record is not None:
            found = rows.record.original(found)
        names = [
            str(name) for name in fitted.classes_ or (record.targets if record and record.targets else ["prediction"])
        ]
        cells = found.astype(np.float64).round(4).tolist()  # a float32 would show all its digits
        made = {
            "headers": [*rows.header, *names],
            "data": [[*shown, *values] for shown, values in zip(rows.shown, cells, strict=True)],
        }
        figure = _curve(service, key, rows.x, rows.y) if curved else None
        return made, texts.adapted_rows.format(rows=len(rows.x), seconds=seconds), figure

    go.click(predict, [support, query], [table, status, curve], api_visibility="private")


def _asked(record: TablePreprocessing | None, width: int, texts: Texts) -> str:
    """What is to be written into the boxes."""
    if record is None:
        return texts.numbers(width)
    if record.columns is None:
        return texts.any_columns
    columns = [*(column.name for column in record.columns), *record.targets]
    shown = ", ".join(f"`{name}`" for name in columns[:30]) + (", ..." if len(columns) > 30 else "")
    return texts.columns.format(columns=shown, targets=", ".join(f"`{name}`" for name in record.targets))


def _begun(record: TablePreprocessing | None, width: int, curved: bool) -> str:
    """The header, and for a curve some points."""
    if record is None:
        points = "-3,-0.2\n-1.5,-1\n0.5,0.5\n2,0.9\n3.5,-0.4" if curved else ""
        return ",".join([*(f"x{i + 1}" for i in range(width)), "y"]) + "\n" + points
    if record.columns is None:
        return ""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([*(column.name for column in record.columns), *record.targets])
    return line.getvalue()


# ---- a table's own columns -----------------------------------------------------------------------------------------
def _of_columns(record: TablePreprocessing, support: str, query: str) -> Rows:
    """Cells by the names of their columns, encoded as in training."""
    task = _read(support, "your rows")
    target = None if record.targets else list(task.columns)[-1]
    x, y, own = support_of(record, task, target)
    new = _read(query, "new rows") if query.strip() else task
    assert own.columns is not None
    names = [column.name for column in own.columns]
    encoded = own.encode(new)
    cells = [[new.texts[name][i] or "" for name in names] for i in range(new.rows)]
    return Rows(x, y if isinstance(y, list) else y.tolist(), encoded, cells, names, own)


def _read(text: str, what: str) -> Table:
    return table_from_bytes(text.encode(), what)


# ---- plain numbers -------------------------------------------------------------------------------------------------
def _of_numbers(service: Service, texts: Texts, width: int, support: str, query: str) -> Rows:
    rows = _rows(support, texts)
    if any(len(row) != width + 1 for row in rows):
        raise InputError(texts.want_cells.format(cells=width + 1, width=width))
    x = [_numbers(row[:width], texts) for row in rows]
    y: list[Any] = [row[-1] for row in rows] if service.classifies else [_numbers(row[-1:], texts) for row in rows]
    new = [_numbers(row[:width], texts) for row in _rows(query, texts)] if query.strip() else x
    return Rows(x, y, new, new, [f"x{i + 1}" for i in range(width)], None)


def _rows(text: str, texts: Texts) -> list[list[str]]:
    """The lines of a table; a first line of words is its header."""
    rows = [
        [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)
    ]
    if rows and not any(_is_number(cell) for cell in rows[0]):
        rows = rows[1:]
    if not rows:
        raise InputError(texts.want_rows)
    return rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(cells: list[str], texts: Texts) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        raise InputError(texts.want_numbers.format(got=", ".join(cells))) from None


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
