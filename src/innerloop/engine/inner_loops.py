"""By what the inner loops run inside are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from innerloop import core


@contextmanager
def run_by(loop: Callable[..., Any]) -> Iterator[None]:
    """Inner loops inside are run by this function, with the arguments of `core.inner_loop`."""
    core.inner_loops.append(loop)
    try:
        yield
    finally:
        core.inner_loops.pop()
