"""Ratings of your own: each user is a task, who rates items on one scale; what a few ratings say of all other items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from innerloop.core import TaskFamily
from innerloop.data.tables import read_table
from innerloop.errors import ConfigError
from innerloop.tasks.own_data import existing, from_path
from innerloop.tasks.tables.roles import roles


def ratings(
    path: str | Path,
    *,
    items: str | Path | None = None,
    task_column: str | None = None,
    item_column: str | None = None,
    target: str | None = None,
    order_by: str | None = None,
    shots: int = 10,
    train_queries: int = 100,
    item_statistics: bool | None = None,
    seed: int = 0,
    **options: Any,
) -> TaskFamily:
    """Users who rate items: `from_path` on a table of ratings, with what suits ratings where nobody says otherwise.

    The same as ``innerloop train METHOD ratings.csv --task-column userId --item-column movieId --item-table movies.csv --target
    rating --support-size 10 --train-queries 100 --ignore timestamp``: all else that a user has rated is asked for, and columns
    beside user, item and rating are no inputs, so that an item can be recommended by its name alone (`Fitted.rank`). An item is a
    learned vector (one for all that training does not know), what the item table says of it (words of lists such as genres, the
    year at the end of a title), and what the training users' ratings say of it: to a training user, those of the others.

    Args:
        path: a table with one row a rating: CSV, TSV, Parquet.
        items: a table with one row an item and the same item column; None: nothing but the ratings is known of items.
        task_column, item_column, target: the columns of users, of items and of ratings; None: found by their names and cells,
            as ``innerloop data check`` says them.
        order_by: the column of times: a user's first ratings are shown and later ones asked for; None: ratings are drawn.
        shots: ratings of a user that are shown.
        train_queries: of a training user at most so many others are asked for; of other users all.
        item_statistics: whether the training users' ratings of an item are inputs; None: where there are at most 20 different
            ratings and hardly any item has two by one user.
        seed: of the split of the users.
        options: others of ``tables.own.table_family``, such as ``valid_share`` and ``test_share``.

    Returns:
        The family: its metrics are the mean absolute error and nDCG@10, in the ratings' own unit.

    Raises:
        InputError: a table that cannot be read, or a column that is not there.
        ConfigError: columns that cannot be told by their names, or an option that is not known.

    Example:
        >>> import innerloop as il
        >>> tasks = il.tasks.ratings("ratings.csv", items="movies.csv")  # doctest: +SKIP
        >>> il.fit(il.melu(tasks.train.default_model()), tasks)  # doctest: +SKIP
    """
    table = read_table(existing(path))
    found = roles(table)
    columns = {
        "task_column": task_column if task_column is not None else found.task,
        "item_column": item_column if item_column is not None else found.item,
        "target": target if target is not None else (found.targets[0] if found.named else None),
    }
    for name, column in columns.items():
        if column is None:
            raise ConfigError(
                f"{path}: expected {name}, the column of {_ROLES[name]}, got none, and no column looks like one; name one of "
                f"{', '.join(map(repr, table.columns))}"
            )
    used = {*columns.values(), order_by, options.get("split_by")}
    rest = [name for name in table.columns if name not in used and name not in options.get("quantities", ())]
    return from_path(
        path,
        **columns,
        item_table=None if items is None else str(items),
        ignore=[*options.pop("ignore", ()), *rest],
        order_by=order_by,
        support_size=shots,
        train_queries=train_queries,
        item_statistics=item_statistics,
        seed=seed,
        **options,
    )


_ROLES = {"task_column": "users", "item_column": "items", "target": "ratings"}
