"""torch's compiler front end, torch._dynamo, is imported where something needs it, and not for torch.func.grad.

That import takes as long as torch's own. An evaluation or an adaptation compiles nothing, so it does without.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from typing import Any

import torch

_NAME = "torch._dynamo"
# What torch.func.grad and vjp enter around each backward pass. It switches compiled autograd off, which nothing can have
# switched on before the import: until then there is nothing to do.
_DOES_NOTHING = f"{_NAME}.compiled_autograd._disable"


class _Postponed(types.ModuleType):
    """Stands for ``torch._dynamo``, or its ``compiled_autograd``, until something else of it is asked for.

    Any other attribute imports it and is the real one; Python's import then puts the real module in this one's place.
    """

    def __getattr__(self, name: str) -> Any:
        asked = f"{self.__name__}.{name}"
        if _NAME not in sys.modules and _DOES_NOTHING.startswith(asked):
            return contextlib.nullcontext if asked == _DOES_NOTHING else _Postponed(asked)
        return getattr(importlib.import_module(self.__name__), name)


def postpone_dynamo() -> None:
    """Put that stand-in where torch would import it, unless it is there already."""
    if _NAME not in sys.modules and "_dynamo" not in vars(torch):
        torch._dynamo = _Postponed(_NAME)
