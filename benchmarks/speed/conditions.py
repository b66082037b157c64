"""What all contenders of a run share: the threads they may use, the machine, and how fast it multiplies matrices."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from innerloop.errors import ConfigError

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@lru_cache(maxsize=1)
def machine() -> str:
    """The processor's model and how many cores there are; no name of the host."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores"


@contextlib.contextmanager
def limited(threads: int) -> Iterator[None]:
    """Hold this process, with every library in it, to ``threads`` CPU cores; as before afterwards.

    Where the system knows of affinities (Linux) the process is bound to as many cores, so that a library that does not
    read its thread settings gains nothing. JAX reads its settings when it is first imported: it must not have been.

    Raises:
        ConfigError: fewer than 1 thread, or more than there are cores.
    """
    import torch

    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if not 1 <= threads <= len(allowed):
        raise ConfigError(f"--threads expected 1 to {len(allowed)}, this machine's cores, got {threads}")
    if threads == 1 and "jax" not in sys.modules:
        flags = os.environ.get("XLA_FLAGS", "")
        if "xla_cpu_multi_thread_eigen" not in flags:
            flags += " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
            os.environ["XLA_FLAGS"] = flags.strip()
    variables = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    before = torch.get_num_threads()
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))  # for processes started from here
    torch.set_num_threads(threads)
    # The last cores: the first one serves most interrupts.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, allowed[-threads:])
    try:
        yield
    finally:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, allowed)
        torch.set_num_threads(before)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def matrix_peak(size: int = 1024, rounds: int = 9, clock: Callable[[], float] = time.perf_counter) -> float:
    """Floating-point operations a second of the fastest of ``rounds`` fp32 products of two (size, size) matrices.

    The product is written where the one before it was, so that there are no page faults.
    """
    import torch

    a, b, product = (torch.randn(size, size) for _ in range(3))
    torch.mm(a, b, out=product)
    best = float("inf")
    for _ in range(rounds):
        start = clock()
        torch.mm(a, b, out=product)
        best = min(best, clock() - start)
    return 2 * size**3 / best
