"""Predictions as the rows of a CSV file: what each input is called, what is predicted, and for classes how surely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from innerloop.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from innerloop.meta_learner.fitted import Fitted

UNKNOWN = "unknown"


def of_values(values: np.ndarray, names: Sequence[str], header: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """(header, rows) for regression; ``header``: of the input's name and of the first value."""
    values = values.reshape(len(names), -1)
    more = [f"{header[1]}_{i}" for i in range(2, values.shape[1] + 1)]
    return [*header, *more], [[name, *(f"{v:.8g}" for v in row)] for name, row in zip(names, values, strict=True)]


def of_classes(
    fitted: Fitted, x: Any, names: Sequence[str], header: Sequence[str], unknown: bool
) -> tuple[list[str], list[list[str]]]:
    """(header, rows): the most probable class, its probability, and the probabilities of all.

    Args:
        fitted: a classification task.
        x: the inputs.
        names: of the inputs.
        header: of the input's name and of its class.
        unknown: call inputs below the task's threshold "unknown".

    Raises:
        ConfigError: a class of that name, or no threshold is known.
    """
    assert fitted.classes_ is not None
    if unknown and UNKNOWN in map(str, fitted.classes_):
        raise ConfigError(f"--unknown expected no class of the name {UNKNOWN!r}, got one; rename it and adapt again")
    out = fitted.outputs(x)
    known = fitted.knows(out).tolist() if unknown else [True] * len(names)
    rows = []
    for name, row, sure in zip(names, fitted.probabilities(out).cpu().numpy(), known, strict=True):
        best = int(row.argmax())
        label = str(fitted.classes_[best]) if sure else UNKNOWN
        rows.append([name, label, f"{row[best]:.6f}", *(f"{v:.6f}" for v in row)])
    return [*header, "confidence", *(f"p_{name}" for name in fitted.classes_)], rows
