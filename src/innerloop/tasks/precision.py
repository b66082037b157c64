"""The names of the floating types that problems take: text, so that options can be written to a file."""

from __future__ import annotations

from typing import Literal

import torch

from innerloop.errors import ConfigError, nearest

DtypeName = Literal["float32", "float64"]
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def dtype_named(name: DtypeName | None) -> torch.dtype | None:
    """The torch type of that name; None stays None (torch's default type).

    Raises:
        ConfigError: another name.
    """
    if name is None:
        return None
    if name not in _DTYPES:
        raise ConfigError(f"dtype expected 'float32' or 'float64', got {name!r}; {nearest(str(name), _DTYPES)}")
    return _DTYPES[name]
