"""`innerloop serve`: a page and an HTTP interface around a trained learner, on this machine."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.cli import given_again, program, trust
from innerloop.errors import ConfigError, InnerloopError, InputError

if TYPE_CHECKING:
    from innerloop.serving.service import Thresholds


def serve(argv: Sequence[str]) -> int:
    return program.run("serve", _serve, argv)


def _serve(
    run: Path,
    /,
    *,
    port: int = 7860,
    host: str = "127.0.0.1",
    max_megabytes: float = 20.0,
    max_examples: int = 500,
    max_tasks: int = 200,
    max_seconds: float = 30.0,
    valid_tasks: int = 40,
    device: str = "auto",
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
) -> int:
    """A page on which anybody shows the learner a few examples and sees it recognise new ones; and the same over HTTP.

    Args:
        run: a run directory of `innerloop train`, or a task file of `innerloop adapt`.
        port: where to listen.
        host: 127.0.0.1: only this machine; 0.0.0.0: everybody who can reach it.
        max_megabytes: the largest request.
        max_examples: the most examples of a task.
        max_tasks: tasks kept at once; the one longest unused goes first.
        max_seconds: how long a request waits for its turn.
        valid_tasks: on how many of the run's validation tasks of each size the thresholds for unknown inputs are measured, in the
            background from the start; 0: none are.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        algorithm, tasks, model: the run's own, given again as package.module:name; where no installed package offers it.
    """
    if not run.exists():
        raise InputError(f"expected a run directory or a task file, got nothing at {str(run)!r}; check the path")
    if not 1 <= port <= 65535:
        raise ConfigError(f"--port expected 1 to 65535, got {port}")
    for name, value in (
        ("--max-megabytes", max_megabytes),
        ("--max-examples", max_examples),
        ("--max-tasks", max_tasks),
    ):
        if value <= 0:
            raise ConfigError(f"{name} expected more than 0, got {value}")
    trust.check_flags(valid_tasks, keep=0.95)
    from innerloop.training.placement import device_of

    place = device_of(device)
    again = given_again.checked(run, algorithm=algorithm, tasks=tasks, model=model)
    listener = _listen(host, port)  # before anything slow: a busy port is said at once
    print(f"opening {run}; this takes some seconds", flush=True)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio  # noqa: F401
    except ImportError:
        listener.close()
        raise ConfigError(
            "expected gradio for the page, got none; install it: pip install 'innerloop[serve]'"
        ) from None
    import threading

    import uvicorn

    from innerloop import load
    from innerloop.meta_learner.meta_learner import MetaLearner
    from innerloop.serving.page import application
    from innerloop.serving.service import Limits, Service, Thresholds
    from innerloop.serving.texts import EN

    limits = Limits(megabytes=max_megabytes, examples=max_examples, tasks=max_tasks, seconds=max_seconds)
    learner = load(run, **again).to(place)
    service = Service(learner, limits, Thresholds(lacking=EN.still_measured))

    def measure() -> None:
        # A learner of its own: requests give the other one their tasks' weights.
        own = load(run, **again).to(place) if isinstance(learner, MetaLearner) else learner
        service.thresholds = _thresholds(run, own, valid_tasks, again.get("tasks"))
        if service.classifies:
            print(service.thresholds.told(), flush=True)

    measuring = threading.Thread(target=measure, daemon=True)
    app = application(service)
    shown = "localhost" if host == "127.0.0.1" else host
    address = f"http://{shown}:{port}"
    print(f"{service.learner.name} at {address} (page) and {address}/docs (HTTP); stop with Ctrl-C", flush=True)
    # An open browser tab holds a connection for good: stopping does not wait for it.
    config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=5, timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    measuring.start()
    server.run(sockets=[listener])
    return 0


def _thresholds(run: Path, learner: Any, valid_tasks: int, given: str | None = None) -> Thresholds:
    """What inputs of no class are told by in tasks that visitors make."""
    from innerloop.evaluation import remembered
    from innerloop.objectives.losses import is_labelled, predicts_values
    from innerloop.serving.service import Thresholds, measured_thresholds
    from innerloop.training.run_config import read_run_config

    if not run.is_dir():
        return Thresholds(lacking="a task file brings no validation tasks; serve its run directory instead")
    if valid_tasks == 0:
        return Thresholds(lacking="none were measured (--valid-tasks 0)")
    if not is_labelled(learner.task_objective):
        return Thresholds(lacking="examples without labels have no classes")
    if predicts_values(learner.task_objective):
        return Thresholds(lacking="regression has no classes")
    record = read_run_config(run)
    try:
        return measured_thresholds(learner, trust.validation_tasks(record, given), valid_tasks)
    except InnerloopError as error:  # the learner works without them
        kept = tuple(one.threshold for one in remembered.all_of(record) if one.threshold is not None)
        if kept:
            return Thresholds(kept)
        return Thresholds(lacking=f"the run's validation tasks cannot be used ({' '.join(str(error).split())})")
    except Exception as error:  # nobody waits for this thread, who would see it
        return Thresholds(lacking=f"measuring it failed ({type(error).__name__}: {' '.join(str(error).split())})")


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        InputError: a port in use, or an address that is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"expected a free port, got {port}, which is in use; give another --port") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise InputError(f"expected a port that this user may open, got {port}; give one above 1023") from None
        raise InputError(f"--host expected an address of this machine, got {host!r}; 127.0.0.1 or 0.0.0.0") from None
    return listener
