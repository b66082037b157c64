"""Where errors leave innerloop: one line on stderr and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from innerloop.errors import InnerloopError

MENDABLE, INTERRUPTED, DEFECT = 2, 130, 1
GIVES_BACK = "--no-keep-memory"  # the flag of commands that keep freed memory


class Stop(Exception):
    """End with this exit code; everything has been said."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def say(message: str) -> None:
    """One line on stderr."""
    with contextlib.suppress(OSError, ValueError):  # a closed stderr must not turn one error into another
        print(f"innerloop: {one_line(message)}", file=sys.stderr, flush=True)


def one_line(message: str) -> str:
    return " ".join(str(message).split())


def _disk(error: OSError) -> str:
    """What happened to which file, and what to do."""
    where = f" {str(error.filename)!r}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"expected room on the disk to write{where}, got a full disk; free space or give another --out"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"expected permission to use{where}, got none; change its permissions or give another path"
    if error.errno == errno.ENOENT:
        return f"expected a file or folder{where}, got none there; check the path"
    if error.errno == errno.EISDIR:
        return f"expected a file, got the folder{where}; check the path"
    if error.errno == errno.ENOTDIR:
        return f"expected a folder{where}, got a file in its place; check the path"
    if error.errno == errno.EEXIST:
        return f"expected{where} not to be there, but it is; give another path"
    return f"{error.strerror or error}{where}; check the path and try again"


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(sign in str(error).lower() for sign in ("out of memory", "can't allocate memory", "not enough memory"))
    )


def _close_stdout() -> None:
    """Point stdout nowhere, so that the interpreter's last flush does not complain a second time."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _notes_on_one_line() -> Iterator[None]:
    """Our own warnings as one line each; those of libraries are for developers and stay unseen here."""
    import warnings

    from innerloop.errors import InnerloopWarning
    from innerloop.training import launch

    told: set[str] = set()  # a command may make its problem more than once

    def show(message: Warning | str, category: type[Warning], *_: object) -> None:
        if issubclass(category, InnerloopWarning) and launch.rank() == 0 and str(message) not in told:
            told.add(str(message))
            say(f"note: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", InnerloopWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


_interrupts: list[int] = []  # of the command under way


def still_wanted() -> None:
    """Raise KeyboardInterrupt again where a library has swallowed one while it was imported."""
    if _interrupts:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _ctrl_c_seen() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C.

    An interrupted import of a library may swallow the interrupt and go on without what it was importing, or fail
    later with an error of its own, which is then no defect.
    """
    import signal
    import threading

    seen = _interrupts
    seen.clear()

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        if ours and signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def guarded(work: Callable[[], int]) -> int:
    """Run ``work`` and return the exit code that its outcome calls for."""
    with _ctrl_c_seen() as interrupts:
        return _guarded(work, interrupts)


def _guarded(work: Callable[[], int], interrupts: list[int]) -> int:
    try:
        with _notes_on_one_line():
            code = work()
        sys.stdout.flush()
        return code
    except Stop as stop:
        return stop.code
    except KeyboardInterrupt:
        say("stopped by Ctrl-C")
        return INTERRUPTED
    except InnerloopError as error:
        say(f"error: {error}")
        return MENDABLE
    except BrokenPipeError:  # `innerloop list | head -1`: the reader has what it wanted
        _close_stdout()
        return 0
    except OSError as error:
        _close_stdout()
        say(f"error: {_disk(error)}")
        return MENDABLE
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else MENDABLE
    except Exception as error:
        if interrupts:
            say("stopped by Ctrl-C")
            return INTERRUPTED
        if _out_of_memory(error):
            say("error: expected enough memory, got too little; try a smaller --chunk-size, --num-tasks or model")
            return MENDABLE
        if os.environ.get("INNERLOOP_DEBUG") == "1":
            import traceback

            traceback.print_exc()
        say(f"internal error: {type(error).__name__}: {error}; please report it (INNERLOOP_DEBUG=1 shows where)")
        return DEFECT
