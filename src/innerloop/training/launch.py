"""What torchrun tells the processes it starts, read from the environment, without torch.

torchrun numbers its processes (the rank), says how many there are, and after a process has died it starts all of them
again, counting these restarts.
"""

from __future__ import annotations

import os

from innerloop.errors import InnerloopError


class ProcessLost(InnerloopError):
    """Another process of the run has ended or cannot be reached, so this one cannot go on."""


def size() -> int:
    """How many processes were started together; 1 without torchrun."""
    told = all(os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return _number("WORLD_SIZE", 1) if told else 1


def rank() -> int:
    """This process's number among them, from 0; number 0 speaks and writes for all."""
    return _number("RANK", 0) if size() > 1 else 0


def local_rank() -> int:
    """This process's number on its own machine, from 0: the GPU it takes."""
    return _number("LOCAL_RANK", 0) if size() > 1 else 0


def local_size() -> int:
    """How many of them are on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1) if size() > 1 else 1


def restarts() -> int:
    """How often torchrun has started the processes again after one had died."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0)


def identity() -> str | None:
    """torchrun's name for this launch, the same after a restart; None without torchrun."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def _number(name: str, otherwise: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else otherwise


def everywhere(error: BaseException) -> None:
    """Note that every process of the run raises this error, so that one of them tells it for all."""
    error.__dict__["everywhere"] = True


def is_everywhere(error: BaseException) -> bool:
    return bool(getattr(error, "everywhere", False))
