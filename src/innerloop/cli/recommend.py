"""`innerloop recommend`: the items that one user would rate best, from an adapted task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from innerloop.cli import given_again, output, program
from innerloop.errors import InputError
from innerloop.report.text import text_table


def recommend(argv: Sequence[str]) -> int:
    return program.run("recommend", _recommend, argv)


def _recommend(
    task: Path,
    /,
    *,
    top: int = 10,
    items: Path | None = None,
    with_seen: bool = False,
    out: Path | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    device: str = "auto",
    json: bool = False,
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
    force: bool = False,
) -> int:
    """The items that a user would rate best, best first, with the ratings that are expected of them.

    Args:
        task: a task file of `innerloop adapt` to a user's ratings.
        top: how many items at most.
        items: a table with the column of items to choose from; left out: all that the learner knows, by training or from its
            item table.
        with_seen: rank the items too that the user has rated already.
        out: a CSV file to write, in place of the lines on the screen.
        separator: between the table's cells, where the table is read wrongly without it.
        encoding: of a table that is not in UTF-8, such as latin-1.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        json: print one JSON object and nothing else.
        algorithm, tasks, model: the run's own, given again as package.module:name; where no installed package offers it.
        force: overwrite an existing CSV file.
    """
    if not task.is_file():
        got = "a folder" if task.is_dir() else "no file"
        raise InputError(
            f"expected a task file of `innerloop adapt` to a user's ratings, got {got} at {str(task)!r}; adapt first: innerloop "
            "adapt RUN ratings_of_the_user.csv --out task.il"
        )
    if items is not None and not items.is_file():
        raise InputError(f"--items expected a table, got no file at {str(items)!r}; check the path")
    if out is not None:
        output.new_file(out, force)
    again = given_again.checked(task, algorithm=algorithm, tasks=tasks, model=model)
    from innerloop import load
    from innerloop.data.tables import read_table
    from innerloop.meta_learner.fitted import Fitted
    from innerloop.meta_learner.ranking import ranked
    from innerloop.training.placement import device_of

    fitted = load(task, **again)
    assert isinstance(fitted, Fitted)  # a file holds nothing else
    chosen = None if items is None else read_table(items, separator=separator, encoding=encoding)
    found = ranked(fitted.to(device_of(device)), chosen, top, not with_seen)
    if json:
        output.print_json(
            {"task": str(task), "items": [{"item": name, "prediction": round(value, 6)} for name, value in found]}
        )
        return 0
    header, rows = ["rank", "item", "prediction"], [[str(i + 1), str(n), f"{v:.4g}"] for i, (n, v) in enumerate(found)]
    if out is None:
        print(text_table(rows, header, ruled=False))
        return 0
    output.write_csv(out, [header, *rows])
    print(f"{len(rows)} items: {out}")
    return 0
