"""Task files as the page and HTTP give and take them: bytes, with what was shown to the learner, to show it again."""

from __future__ import annotations

import csv
import dataclasses
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from innerloop.core import Meta
from innerloop.data.tables import Table
from innerloop.errors import CheckpointError, InputError
from innerloop.meta_learner.files import TASK, VERSION
from innerloop.meta_learner.fitted import Fitted
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.storage import load_tensors, save_tensors
from innerloop.training.load import load

_SHOWN, _PICTURES = "shown", "shown/pictures"  # the entry of the header, and the tensor


@dataclasses.dataclass(frozen=True)
class Examples:
    """What a task was shown, as a visitor can see it. Of these, the one that the learner takes is there.

    Attributes:
        pictures: as the learner takes them.
        texts: sentences.
        table: rows with their header, as a CSV file.
        names: of the class of each picture or text; () where they have none.
    """

    pictures: Float[np.ndarray, "pictures channels height width"] | None = None
    texts: tuple[str, ...] = ()
    table: str = ""
    names: tuple[Any, ...] = ()


def table_text(table: Table) -> str:
    """A table as a CSV file, its cells as they were written."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    cells = [table.texts[name] for name in table.columns]
    writer.writerows([["" if cell is None else cell for cell in row] for row in zip(*cells, strict=True)])
    return out.getvalue()


def in_bytes(fitted: Fitted, examples: Examples | None) -> bytes:
    """The task file of a task, its support set included; ``examples``: what it was shown, where the support set is not that.

    Raises:
        ConfigError: what `Fitted.save` refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = fitted.save(Path(folder) / "task.il", support=fitted.holds_support)
        if examples is not None:
            tensors, header = load_tensors(path, TASK, VERSION)
            header[_SHOWN] = {"texts": examples.texts, "table": examples.table, "names": examples.names}
            if examples.pictures is not None and examples.pictures.shape[1:] != fitted_inputs(fitted).shape[1:]:
                tensors[_PICTURES] = torch.from_numpy(examples.pictures)  # the support set holds features of them
            save_tensors(path, TASK, VERSION, tensors, header)
        return path.read_bytes()


def from_bytes(content: bytes, learner: MetaLearner, shape: Sequence[int]) -> tuple[Fitted, Examples | None]:
    """(the task, what it was shown; None where the file does not hold that) of a file that this learner was adapted for.

    Args:
        content: of the file.
        learner: which has to be the one that the file was made with, weights included: a stranger's file makes no other.
        shape: of its inputs, as files and rows become them.

    Raises:
        InputError: no task file, a damaged one, or one of another learner.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "the file"
        path.write_bytes(content)
        try:
            tensors, header = load_tensors(path, TASK, VERSION)
        except CheckpointError:
            raise InputError(
                "expected a task file, as innerloop adapt and this page save it, got something else; choose another file"
            ) from None
        made = (header.get("algorithm") or {}).get("name") if isinstance(header, dict) else None
        if made != learner.name:
            raise InputError(f"expected a task file of this learner, {learner.name}, got one of {made}; choose another")
        try:
            fitted = load(path, learner=learner)
        except CheckpointError:
            fitted = None
    if not isinstance(fitted, Fitted) or not _same(fitted, learner):
        raise InputError(
            f"expected a task file of this learner, got one of another {learner.name} or a damaged one; choose another, or serve "
            "the run that it was made with"
        )
    return fitted, _examples(fitted, header.get(_SHOWN), tensors.get(_PICTURES), tuple(shape))


def fitted_inputs(fitted: Fitted) -> torch.Tensor:
    """The inputs of a task's support set."""
    return getattr(fitted.support, "x", fitted.support)


def of_task(fitted: Fitted, shape: Sequence[int]) -> Examples | None:
    """The pictures of a task's own support set; None where it holds none, or something else than pictures."""
    x = fitted_inputs(fitted)
    if not fitted.holds_support or tuple(x.shape[1:]) != tuple(shape) or len(shape) != 3:
        return None
    names: tuple[Any, ...] = ()
    if fitted.classes_ is not None:
        names = tuple(fitted.classes_[label] for label in fitted.support.y.tolist())
    return Examples(pictures=x.detach().cpu().float().numpy(), names=names)


def _examples(fitted: Fitted, record: Any, pictures: torch.Tensor | None, shape: tuple[int, ...]) -> Examples | None:
    if record is None:
        return of_task(fitted, shape)
    try:
        texts, table, names = (record[name] for name in ("texts", "table", "names"))
        right = (
            isinstance(table, str)
            and all(isinstance(text, str) for text in texts)
            and all(isinstance(name, str | int | float) for name in names)
            and len(names) in (0, fitted.num_examples)
        )
    except (KeyError, TypeError):
        right = False
    if pictures is not None:
        right = right and tuple(pictures.shape) == (fitted.num_examples, *shape) and bool(pictures.isfinite().all())
    if not right:
        raise InputError("expected a whole task file, got one whose examples do not fit the rest; choose another")
    if pictures is not None:
        return Examples(pictures.float().numpy(), names=tuple(names))
    if texts or table:
        return Examples(texts=tuple(texts), table=table, names=tuple(names))
    return of_task(fitted, shape)


def _same(fitted: Fitted, learner: MetaLearner) -> bool:
    """Whether a task was adapted from exactly this learner, and takes inputs as it does."""

    def kind(record: dict[str, Any] | None) -> tuple[Any, Any]:
        return (record or {}).get("kind"), (record or {}).get("embedding")

    # Plain numbers and a file without a record are the same; a table of one's own gets its record when it is adapted to.
    (a, a_network), (b, b_network) = kind(fitted.preprocessing), kind(learner.preprocessing)
    if a_network != b_network or (a != b and learner.preprocessing is not None):
        return False
    mine: Meta = learner.snapshot()
    return all(
        one.keys() == other.keys() and all(torch.equal(v.cpu(), other[name].cpu()) for name, v in one.items())
        for one, other in ((mine.params, fitted.meta.params), (mine.rule, fitted.meta.rule))
    )
