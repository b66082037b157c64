"""The page's part for rows: plain numbers, or the columns of the tables that a learner was trained on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from innerloop.data.table_preprocessing import TablePreprocessing, table_record
from innerloop.data.tables import Table, as_table, table_from_bytes
from innerloop.errors import InputError
from innerloop.meta_learner.fitted import Fitted
from innerloop.serving.service import Service
from innerloop.serving.task_link import opening, saving
from innerloop.serving.telling import told
from innerloop.serving.texts import Texts


def table_tab(service: Service, texts: Texts) -> None:
    """Two boxes for rows, a button, a table of predictions, and a curve where there is one input."""
    width = int(np.prod(service.input_shape))
    record = table_record(service.learner.preprocessing)
    record = None if record is not None and record.scaling == "none" else record
    curved = (record is None or record.curve) and width == 1 and not service.classifies
    gr.Markdown(_asked(record, width, texts))
    begun = _begun(record, width, curved and service.first is None)
    first = None if service.first is None else "first"
    kept = gr.State((first, begun.strip()))  # the key of a task, and the rows that it was adapted to
    with gr.Row():
        with gr.Column(min_width=300):
            hint = texts.rows_hint_values if not service.classifies else texts.rows_hint_classes
            support = gr.Textbox(begun, label=texts.rows, placeholder=hint, lines=10, elem_id="rows")
            open_file = opening(texts)
        with gr.Column(min_width=300):
            query = gr.Textbox("", label=texts.new_rows, placeholder=texts.new_rows_hint, lines=10, elem_id="new-rows")
    go = gr.Button(texts.go, variant="primary", elem_id="go")
    status = gr.Markdown(service.told_of_first(texts), elem_id="status")
    save = gr.HTML(saving(first, texts), elem_id="save")
    with gr.Row():
        with gr.Column(min_width=300):
            table = gr.Dataframe(
                label=texts.predictions, elem_id="predictions", interactive=False, wrap=True, visible=False
            )
        with gr.Column(min_width=300, visible=curved):
            curve = gr.Plot(show_label=False, elem_id="curve", visible=False)

    def read(support: str) -> Table:
        given = support if record else headed(support, [*(f"x{i + 1}" for i in range(width)), "y"])
        return table_from_bytes(given.encode(), "your rows")

    @told(texts)
    def predict(kept: tuple[str | None, str], support: str, query: str) -> tuple[Any, ...]:
        key, before = kept
        if key is None or support.strip() != before:
            if not support.strip():
                raise InputError(texts.want_row)
            task = read(support)
            target = None if record and record.targets else list(task.columns)[-1]
            key, fitted, seconds = service.adapt(task, target=target)
            judged = service.told_of_judged(fitted, texts)
            said = texts.adapted_rows.format(rows=task.rows, seconds=seconds, judged=judged)
        else:
            fitted = service.task(key)
            said = service.told_of_kept(fitted, texts)
            task = read(support) if service.examples(key) is not None else None
        own = table_record(fitted.preprocessing)
        named = own is not None and own.columns is not None  # else it was adapted to plain numbers
        inputs = [column.name for column in own.columns] if own and own.columns else [f"x{i + 1}" for i in range(width)]
        new = task
        if query.strip():
            new = table_from_bytes((query if record else headed(query, inputs)).encode(), "new rows")
        if new is None:
            raise InputError(texts.want_new_row)
        _, found, known, std = service.predict(key, new if named else new.numbers(inputs))
        targets = list(own.targets) if own and named else [f"y{i + 1}" for i in range(found.shape[1])]
        made = {"headers": [*inputs], "data": [[new.texts[name][i] or "" for name in inputs] for i in range(new.rows)]}
        for name, cells in _columns(fitted, targets, found, known, std, texts):
            made["headers"].append(name)
            for row, cell in zip(made["data"], cells, strict=True):
                row.append(cell)
        read_plainly = own is not None and all(column.reading is None for column in own.columns or ())  # no dates
        drawn = curved and task is not None and read_plainly
        figure = None
        if drawn and task is not None:
            figure = _curve(service, key, task.numbers([*inputs, *targets]), inputs[0], targets[0], texts)
        shown = gr.update(value=made, visible=True)
        return (key, support.strip()), shown, said, gr.update(value=figure, visible=drawn), saving(key, texts)

    @told(texts)
    def opened(path: str) -> tuple[Any, ...]:
        key, fitted = service.opened(Path(path).read_bytes())
        examples = service.examples(key)
        rows = _begun(record, width, False) if examples is None else examples.table
        hidden = gr.update(visible=False)
        return (key, rows.strip()), rows, hidden, service.told_of_kept(fitted, texts), hidden, saving(key, texts)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress_on": [status]}
    go.click(predict, [kept, support, query], [kept, table, status, curve, save], **quiet)
    open_file.upload(opened, [open_file], [kept, support, table, status, curve, save], **quiet)


def _columns(
    fitted: Fitted,
    targets: Sequence[str],
    found: np.ndarray,
    known: list[bool] | None,
    std: np.ndarray | None,
    texts: Texts,
) -> Iterator[tuple[str, list[Any]]]:
    """What is predicted, column by column: values with their spread; or the class and the share of each in per cent."""
    values = found.astype(np.float64)  # a float32 would show all its digits
    if fitted.classes_ is None:
        for i, name in enumerate(targets):
            yield name, values[:, i].round(4).tolist()
            if std is not None:
                yield f"± {name}", std[:, i].astype(np.float64).round(4).tolist()
        return
    best = [str(fitted.classes_[i]) for i in values.argmax(1)]
    sure = [True] * len(best) if known is None else known
    said = [name if s else texts.perhaps_none.format(name=name) for name, s in zip(best, sure, strict=True)]
    yield texts.answer, said
    for i, name in enumerate(fitted.classes_):
        yield f"{name} %", (100 * values[:, i]).round(1).tolist()


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


def _curve(service: Service, key: str, points: np.ndarray, name: str, target: str, texts: Texts) -> Any:
    """The adapted function of the column ``name``, two deviations around it, and the points that it was adapted to."""
    from matplotlib.figure import Figure

    xs, ys = points.T
    reach = float(np.ptp(xs)) * 0.3 or 1.0
    grid = np.linspace(xs.min() - reach, xs.max() + reach, min(200, service.limits.inputs))
    _, found, _, std = service.predict(key, as_table({name: grid}))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(grid, found[:, 0], label=texts.curve_adapted)
    if std is not None:
        low, high = found[:, 0] - 2 * std[:, 0], found[:, 0] + 2 * std[:, 0]
        axes.fill_between(grid, low, high, alpha=0.2, label=texts.curve_spread)
    axes.plot(xs, ys, "k^", label=texts.curve_rows)
    axes.set(xlabel=name.replace("$", r"\$"), ylabel=target.replace("$", r"\$"))
    axes.legend()
    return figure
