"""scikit-learn, where recipes compare with it; imported when needed."""

from __future__ import annotations

import importlib
from typing import Any

from innerloop.errors import InputError


def sklearn_module(name: str) -> Any:
    """``sklearn.NAME``; where scikit-learn is not installed, an InputError with the line that installs it."""
    try:
        return importlib.import_module(f"sklearn.{name}")
    except ImportError:
        raise InputError(
            "this recipe's baselines expected scikit-learn, got none installed; install it: pip install 'innerloop[sklearn]'"
        ) from None
