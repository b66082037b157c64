"""The page's part for rows: plain numbers, or the columns of the tables that a learner was trained on."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import gradio as gr
import numpy as np

from innerloop.data.table_preprocessing import TablePreprocessing, table_record
from innerloop.data.tables import as_table, table_from_bytes
from innerloop.serving.service import Service
from innerloop.serving.telling import told
from innerloop.serving.texts import Texts


def table_tab(service: Service, texts: Texts) -> None:
    """Two boxes for rows, a button, a table of predictions, and a curve where there is one input."""
    width = int(np.prod(service.input_shape))
    record = table_record(service.learner.preprocessing)
    record = None if record is not None and record.scaling == "none" else record
    curved = (record is None or record.curve) and width == 1 and not service.classifies
    gr.Markdown(_asked(record, width, texts))
    with gr.Row():
        with gr.Column():
            support = gr.Textbox(_begun(record, width, curved), label=texts.rows, lines=10, elem_id="rows")
        with gr.Column():
            query = gr.Textbox("", label=texts.new_rows, placeholder=texts.new_rows_hint, lines=10, elem_id="new-rows")
    go = gr.Button(texts.go, variant="primary", elem_id="go")
    status = gr.Markdown(service.told_of_first(texts), elem_id="status")
    with gr.Row():
        with gr.Column(min_width=320):
            table = gr.Dataframe(label=texts.predictions, elem_id="predictions", interactive=False)
        with gr.Column(min_width=320, visible=curved):
            curve = gr.Plot(show_label=False, elem_id="curve")

    @told
    def predict(support: str, query: str) -> tuple[Any, str, Any]:
        given = support if record else headed(support, [*(f"x{i + 1}" for i in range(width)), "y"])
        task = table_from_bytes(given.encode(), "your rows")
        target = None if record and record.targets else list(task.columns)[-1]
        key, fitted, seconds = service.adapt(task, target=target)
        own = table_record(fitted.preprocessing)
        assert own is not None and own.columns is not None
        inputs = [column.name for column in own.columns]
        asked = query if record else headed(query, inputs)
        new = table_from_bytes(asked.encode(), "new rows") if query.strip() else task
        _, found, _, std = service.predict(key, new)
        names = [str(name) for name in fitted.classes_ or own.targets]
        if std is not None:
            names, found = [*names, *(f"std {name}" for name in names)], np.concatenate([found, std], 1)
        cells = found.astype(np.float64).round(4).tolist()  # a float32 would show all its digits
        made = {
            "headers": [*inputs, *names],
            "data": [[*(new.texts[name][i] or "" for name in inputs), *values] for i, values in enumerate(cells)],
        }
        judged = service.told_of_judged(fitted, texts)
        told = texts.adapted_rows.format(rows=task.rows, seconds=seconds, judged=judged)
        drawn = curved and all(column.reading is None for column in own.columns)  # not over dates
        figure = _curve(service, key, task.numbers([*inputs, *own.targets]), inputs[0]) if drawn else None
        return made, told, figure

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


def headed(text: str, names: Sequence[str]) -> str:
    """A table of plain numbers with these names as its header, where its first line has numbers and no names."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = next((mark for mark in "\t;|" if mark in first), ",")
    if not any(_is_number(cell) for cell in first.split(separator)):
        return text
    line = io.StringIO()
    csv.writer(line, delimiter=separator, lineterminator="\n").writerow(names)
    return line.getvalue() + text


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _curve(service: Service, key: str, points: np.ndarray, name: str) -> Any:
    """The adapted function of the column ``name``, two deviations around it, and the points that it was adapted to."""
    from matplotlib.figure import Figure

    xs, ys = points.T
    reach = float(np.ptp(xs)) * 0.3 or 1.0
    grid = np.linspace(xs.min() - reach, xs.max() + reach, min(200, service.limits.inputs))
    _, found, _, std = service.predict(key, as_table({name: grid}))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(grid, found[:, 0], label="adapted")
    if std is not None:
        axes.fill_between(
            grid, found[:, 0] - 2 * std[:, 0], found[:, 0] + 2 * std[:, 0], alpha=0.2, label="two deviations"
        )
    axes.plot(xs, ys, "k^", label="your rows")
    axes.set(xlabel="x", ylabel="y", title="What it has learned")
    axes.legend()
    return figure
