"""Which of several processes speaks when a run fails: process 0 for all, each of the others only when nobody else does."""

from __future__ import annotations

import time
from collections.abc import Callable

from innerloop.cli.boundary import INTERRUPTED, MENDABLE, Stop
from innerloop.errors import ConfigError
from innerloop.training import launch

# torchrun ends the others within a second after one has failed; whoever still lives then has to speak for itself.
_TURN = 5.0


def in_turn(work: Callable[[], int]) -> int:
    """``work()``, its error held back while another process may be the one to tell it.

    torchrun ends all processes when one fails, so the one to speak has to be the first to end. An error that is its own
    is told at once by process 0 and a turn later by another. That others are gone is told last: they know why.
    """
    if launch.size() == 1:
        return work()
    try:
        return work()
    except KeyboardInterrupt:
        if launch.rank() == 0:
            raise
        raise Stop(INTERRUPTED) from None
    except BaseException as error:
        lost = isinstance(error, launch.ProcessLost)
        if lost or launch.rank() > 0:
            time.sleep(2 * _TURN if lost else _TURN)
        if launch.rank() > 0 and launch.is_everywhere(error):
            raise Stop(MENDABLE) from None
        raise


def one_process(command: str) -> None:
    """Raise ConfigError where torchrun started several processes of a command that is for one."""
    if launch.size() > 1:
        raise ConfigError(
            f"expected one process for {command}, got {launch.size()}; only train is for several: leave torchrun out"
        )
