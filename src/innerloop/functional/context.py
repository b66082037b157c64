"""What a converted layer has to know about the call it is in: which examples count, which inner step, which noise.

A module's ``forward`` takes only its input, so this travels beside it, in one slot that `PureModel.apply` fills for the
length of a call. Values may be traced tensors; nothing outlives the call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


@dataclasses.dataclass
class Call:
    """One forward pass.

    Attributes:
        mask: (examples,) booleans, False for padding; None when all count.
        step: how many inner updates came before.
        training: meta-training (statistics are recorded, dropout is on) or not.
        noise: the task's key for this pass; None: dropout is off.
        buffers: running statistics by full name; layers put the new values here, out of place.
    """

    mask: Tensor | None = None
    step: int = 0
    training: bool = False
    noise: Tensor | None = None
    buffers: dict[str, Tensor] = dataclasses.field(default_factory=dict)


_current: list[Call] = []


def current() -> Call:
    """The running call; outside of one, a plain evaluation."""
    return _current[-1] if _current else Call()


@contextmanager
def running(call: Call) -> Iterator[Call]:
    _current.append(call)
    try:
        yield call
    finally:
        _current.pop()
