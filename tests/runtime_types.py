"""The checker that jaxtyping puts on every function of innerloop while tests run: shapes and dtypes of tensors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from beartype import beartype

_SHAPED = re.compile(r"\b(Float|Int|UInt|Bool|Shaped|Num|Complex|Inexact|Real)\d*\[|\bScalar\b")


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with its annotations of shapes enforced, and only these.

    Other annotations are pyright's business. Enforced at run time they would answer bad options before innerloop's own
    errors, which are under test, and would refuse the placeholders that vmap puts into our records.
    """
    shaped = {name: hint for name, hint in function.__annotations__.items() if _SHAPED.search(str(hint))}
    if not shaped:
        return function
    function.__annotations__ = shaped
    return beartype(function)
