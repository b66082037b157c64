"""How much memory an outer step needs, before it runs; how many tasks fit; and errors that say so.

The need is measured: the step runs on one task and on two, its results are thrown away, and the bytes of the tensors alive are
counted. That costs a few small steps. What kernels use inside themselves is not seen, so a share of what is free is left.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import gc
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from innerloop.core import BaseLearner, Meta, Task, batch_size
from innerloop.engine import recompute
from innerloop.engine.gradient import batch_loss, gradient, value_gradient
from innerloop.errors import OutOfMemory

Step = Callable[[Meta, Task], Any]  # what is run on a batch of tasks at once

# Of the free memory, what may be planned for: allocators waste some, and kernels need room of their own.
_SHARE = 0.8
# How much a process grows for each byte of tensors. glibc's heap keeps holes: 1.2 to 2.9 times as much, over the cases of
# docs/memory.md, and 1.0 where it gives each tensor pages of its own (MALLOC_MMAP_THRESHOLD_=65536, which is slower).
_GROWTH = {"cpu": 1.8}
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
_CGROUP = Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True)
class Need:
    """Peak memory of a step, beyond what is there before it, in bytes.

    Attributes:
        fixed: whatever the number of tasks held at once.
        per_task: for each task held at once.
    """

    fixed: int
    per_task: int

    def of(self, num_tasks: int) -> int:
        """Bytes for this many tasks at once."""
        return self.fixed + self.per_task * num_tasks


class _TooMuch(Exception):
    """More bytes are alive than were allowed."""


class Alive(TorchDispatchMode):
    """Counts the bytes of tensors that were made within it and are alive.

    Attributes:
        now, peak: bytes alive at the moment, and at most.

    Args:
        given: a pytree; its tensors and views of them do not count.
        limit: bytes, beyond which it raises; None: none.
    """

    def __init__(self, given: Any = (), limit: int | None = None) -> None:
        super().__init__()
        self.now: int = 0
        self.peak: int = 0
        self._limit = limit
        self._storages: dict[int, weakref.ref[Any]] = {}
        for leaf in pytree.tree_leaves(given):
            if isinstance(leaf, Tensor):
                self._watch(leaf.untyped_storage(), 0)

    def _watch(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._storages:
            return
        self._storages[key] = weakref.ref(storage, functools.partial(self._gone, key, size))
        self.now += size
        self.peak = max(self.peak, self.now)
        if self._limit is not None and self.now > self._limit:
            raise _TooMuch

    def _gone(self, key: int, size: int, _: Any) -> None:
        del self._storages[key]
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in found if isinstance(found, tuple | list) else (found,):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._watch(storage, storage.nbytes())
        return found


def peak_bytes(step: Step, meta: Meta, tasks: Task, limit: int | None = None) -> int | None:
    """Most bytes alive during ``step(meta, tasks)`` beyond its arguments; None: more than ``limit``."""
    with torch.random.fork_rng(), Alive((meta, tasks), limit) as alive:
        try:
            step(meta, tasks)
        except _TooMuch:
            return None
    return alive.peak


def need_of(step: Step, meta: Meta, tasks: Task, limit: int | None = None) -> Need | None:
    """What ``step`` needs, from running it on one task and on two; None: more than ``limit`` for one task.

    Args:
        step: gets (meta, a batch of tasks) and runs all tasks of the batch at once.
        meta: the outer parameters.
        tasks: a batch of one task or more, of which the first two are used.
        limit: bytes that the trial may take; None: as many as it likes.
    """
    kept = _size((meta.params, meta.rule))  # the sum over chunks, while the next chunk runs
    growth = _GROWTH.get(_device(meta).type, 1.0)
    one = peak_bytes(step, meta, _first(tasks, 1), limit)
    if one is None:
        return None
    two = peak_bytes(step, meta, _first(tasks, 2), limit) if batch_size(tasks) > 1 else None
    per_task = one if two is None else max(two - one, 0)
    return Need(int(growth * (max(one - per_task, 0) + kept)), int(growth * per_task))


def estimate(
    learner: BaseLearner,
    meta: Meta,
    tasks: Task,
    outer_step: int,
    *,
    together: bool = True,
    limit: int | None = None,
) -> Need | None:
    """What the meta-gradient by backpropagation needs; None: more than ``limit`` for one task.

    Args:
        learner: the learner of one task.
        meta: the outer parameters.
        tasks: a batch like those to come.
        outer_step: number of the outer step.
        together: the tasks of a chunk are vmapped; else one runs after the other, and only one is held.
        limit: bytes that the trial may take; None: as many as it likes.
    """
    need = need_of(gradient_step(learner, outer_step, together), meta, tasks, limit)
    return need if need is None or together else Need(need.of(1), 0)


def gradient_step(learner: BaseLearner, outer_step: int, together: bool) -> Step:
    """The step that `estimate` measures: the vmapped meta-gradient, or that of the first task alone."""

    def vmapped(meta: Meta, tasks: Task) -> Any:
        return value_gradient(lambda m: batch_loss(learner, m, tasks, outer_step), meta)

    def looped(meta: Meta, tasks: Task) -> Any:
        return gradient(learner, meta, pytree.tree_map(lambda v: v[0], tasks), outer_step)

    return vmapped if together else looped


def chunk_that_fits(need: Need, num_tasks: int, free: int) -> int:
    """How many of ``num_tasks`` tasks may be held at once in ``free`` bytes; 0: not even one.

    Below ``num_tasks`` it is a power of two, so that a little more or less free memory gives the same chunks.
    """
    room = _SHARE * free
    if need.of(num_tasks) <= room:
        return num_tasks
    if need.of(1) > room:
        return 0
    return 1 << (int((room - need.fixed) // need.per_task).bit_length() - 1)


class Room(NamedTuple):
    """How a vmapped step fits into free memory.

    Attributes:
        chunk_size: the most tasks held at once; None: all of them fit, or it is not known. 1 also where not even one task
            fits: then the step itself will say so.
        need: what was estimated; None where nothing could be, or one task needs more than there is.
    """

    chunk_size: int | None = None
    need: Need | None = None


def room_for(learner: BaseLearner, meta: Meta, tasks: Task, outer_step: int) -> Room:
    """How a vmapped step on tasks like these fits into the memory that is free now."""
    free = available_bytes(_device(meta))
    if free is None:
        return Room()
    num_tasks = batch_size(tasks)
    need = estimate(learner, meta, tasks, outer_step, limit=int(_SHARE * free))
    chunk = 1 if need is None else max(1, chunk_that_fits(need, num_tasks, free))
    return Room(None if chunk == num_tasks else chunk, need)


# ---- what is free --------------------------------------------------------------------------------------------------
def available_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated on ``device``; None where that cannot be told.

    On Linux: the least of the machine's available memory, what the control groups of this process (containers, batch systems)
    leave, and what its address-space limit (``ulimit -v``) leaves. On CUDA: the device's free memory and torch's own reserve.
    """
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return None
    known = [_machine(), _address_space(), *_groups()]
    return max(0, min((n for n in known if n is not None), default=0)) or None


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _address_space() -> int | None:
    import resource

    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft == resource.RLIM_INFINITY:
        return None
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return soft - pages * resource.getpagesize()


def _groups() -> Iterator[int]:
    """What each memory limit of a control group of this process leaves, versions 2 and 1."""
    for line in _cgroup_lines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, files = _CGROUP, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, files = _CGROUP / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # A container sees its own group as the root, whatever path it is told; a limit may be that of any group above.
        group = root / path.lstrip("/")
        for folder in {group, *group.parents, root}:
            if folder == root or root in folder.parents:
                left = _left(folder, *files)
                if left is not None:
                    yield left


def _cgroup_lines() -> list[str]:
    """``number:controllers:path`` for each hierarchy that this process is in."""
    try:
        return Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _left(folder: Path, limit: str, used: str, cache: str) -> int | None:
    """The group's limit less what it uses, not counting file pages that the kernel gives back when asked."""
    try:
        most, now = (int((folder / name).read_text(encoding="ascii")) for name in (limit, used))
        rows = (line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return most - now + next((int(row[1]) for row in rows if row[0] == cache), 0)
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None


# ---- out of memory -------------------------------------------------------------------------------------------------
def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had; torch has several kinds."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


@contextmanager
def explained(
    learner: BaseLearner, meta: Meta, tasks: Task, outer_step: int, *, together: bool, chunk_size: int | None
) -> Iterator[None]:
    """Turns running out of memory within it into an error that names the setting and the size that would fit.

    Args:
        learner, meta, tasks, outer_step: of the meta-gradient computed within.
        together: the tasks of a chunk are vmapped; else one runs after the other.
        chunk_size: tasks held at once when vmapped; None: all.

    Raises:
        OutOfMemory: memory could not be had.
    """
    failed = False
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _let_go(error)
        failed = True
    if failed:
        gc.collect()
        _give_back_heap()
        if _device(meta).type == "cuda":
            torch.cuda.empty_cache()
        raise OutOfMemory(_advice(learner, meta, tasks, outer_step, together, chunk_size))


def _let_go(error: BaseException) -> None:
    """Take the failed frames from an error: they hold the step's tensors, which would be counted as used.

    Clearing a frame empties its variables, but not what its function has closed over; so the links go too.
    """
    trace = error.__traceback__
    traceback.clear_frames(trace)
    while trace is not None:
        rest, trace.tb_next = trace.tb_next, None
        trace = rest


def _give_back_heap() -> None:
    """Hand freed memory back to the system where glibc holds on to it, so that it counts as free."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _advice(
    learner: BaseLearner, meta: Meta, tasks: Task, outer_step: int, together: bool, chunk_size: int | None
) -> str:
    """One sentence: what the step needs, what is free, and which settings make it fit."""
    total = batch_size(tasks)
    at_once = min(chunk_size or total, total) if together else 1
    free = available_bytes(_device(meta))

    def need(again: bool) -> Need | None:
        with recompute.recomputing(again or recompute.wanted()):
            try:
                return estimate(learner, meta, tasks, outer_step, together=together, limit=free)
            except Exception as error:
                if is_out_of_memory(error):
                    return None
                raise

    now, count = need(False), f"{at_once} task{'s' if at_once > 1 else ''} at once"
    said = f"more than that for one task of {count}" if now is None else f"about {_text(now.of(at_once))} for {count}"
    room = "and less is free" if free is None else f"and {_text(free)} are free"
    # Where nobody can say what is free, half the tasks are the next to try.
    limit = free if free is not None else 0 if now is None else int(now.of(at_once) / 2 / _SHARE)
    fits = 0 if now is None else min(chunk_that_fits(now, at_once, limit), max(1, at_once // 2))
    ways = [f"chunk_size={fits} (--chunk-size {fits})"] if together and 0 < fits < at_once else []
    if not recompute.wanted():
        less = need(True)
        fits = 0 if less is None else chunk_that_fits(less, at_once, limit)
        if fits == at_once and less is not None and (now is None or less.of(at_once) < 0.8 * now.of(at_once)):
            ways.append("recompute=True (--recompute)")
        elif fits and not ways:
            ways.append(f"recompute=True with chunk_size={fits} (--recompute --chunk-size {fits})")
    fix = ", or ".join(ways) or "a smaller model, fewer examples in a task, or fewer inner steps"
    return f"an outer step needs {said}, {room}; use {fix}"


def _text(size: int) -> str:
    """Bytes with two digits or more: "0.66 kB", "3.1 GB", "240 MB"."""
    unit, name = next(((u, n) for u, n in ((1e9, "GB"), (1e6, "MB")) if size >= u), (1e3, "kB"))
    return f"{size / unit:.2g} {name}" if size < 100 * unit else f"{size / unit:.0f} {name}"


def _device(meta: Meta) -> torch.device:
    return next(iter(meta.params.values())).device


def _first(tasks: Task, count: int) -> Task:
    return pytree.tree_map(lambda v: v[:count], tasks)


def _size(tree: Any) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in pytree.tree_leaves(tree))
