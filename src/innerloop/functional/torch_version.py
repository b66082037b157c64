"""The newest torch that innerloop was tried with, and what is said of a newer one."""

from __future__ import annotations

import re
import warnings

import torch

from innerloop.errors import InnerloopWarning

# The only place of this number. The tests run with the torch in constraints.txt, which may be older.
NEWEST_TRIED = "2.14.1"


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version: (2, 15, 0) of "2.15.0.dev20270101+cpu", so that a build of one release is no newer one."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def warn_of_newer() -> None:
    """Warn, once, where torch is newer than tried: its rules under vmap may have changed, and wrong ones raise no error."""
    if _release(torch.__version__) > _release(NEWEST_TRIED):
        warnings.warn(
            f"innerloop was tried with torch up to {NEWEST_TRIED}, got {torch.__version__}; it should work, and innerloop doctor "
            "RUN (il.check_meta_gradient) shows whether the meta-gradient is right with it",
            InnerloopWarning,
            stacklevel=2,  # one place, so that Python says it once a process
        )
