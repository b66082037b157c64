"""Compiles a traced graph in a process of its own first, with a time limit: compilers can crash, stall, and be missing.

What the trial has compiled is in the compiler's cache on disk, so that compiling here then takes a second or two. On CPUs this
cache is kept for later runs (see `kept`), which need no trial: they compile here at once, and compare the numbers here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from innerloop.engine import kept
from innerloop.engine.tracing import TooLarge, trace
from innerloop.errors import InnerloopError, first_line

_MOST_PROCESSES = 4  # each takes some hundred megabytes
# Compiled results and the graph's own may differ by rounding alone.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}


class Limits(NamedTuple):
    """What compiling may cost.

    Attributes:
        seconds: the most that it may take.
        nodes: the most operations that the graph may have; larger ones take minutes to compile.
    """

    seconds: float = 180.0
    nodes: int = 4000


STANDARD = Limits()


class CompileFailed(InnerloopError):
    """The function cannot be compiled here; it runs as it is."""


class StepTooLarge(CompileFailed):
    """The function has more operations than are compiled, or takes too long to be traced."""


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled function of pytrees.

    Attributes:
        flat: the same from leaves to leaves, for callers to whom flattening costs too much.
        results: structure of the results.
    """

    flat: Callable[..., Sequence[Tensor]]
    results: Any

    def __call__(self, *args: Any) -> Any:
        return pytree.tree_unflatten(self.flat(*pytree.tree_leaves(args)), self.results)


T = TypeVar("T")
U = TypeVar("U")


@dataclasses.dataclass(frozen=True)
class Pending(Generic[T]):
    """What other processes are compiling.

    Attributes:
        nodes: operations of it all.
        wait: gives it, once it is there; raises CompileFailed.
        cancel: nobody waits for it.
    """

    nodes: int
    wait: Callable[[], T]
    cancel: Callable[[], None]

    def then(self, function: Callable[[T], U]) -> Pending[U]:
        """The same on the way to what ``function`` makes of it."""
        return Pending(self.nodes, lambda: function(self.wait()), self.cancel)


def begin(
    jobs: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], limits: Limits = STANDARD
) -> Pending[list[Compiled]]:
    """Functions, compiled for arguments like these, tried side by side while this process goes on.

    Args:
        jobs: (function, example arguments): of pytrees of tensors, to a pytree of tensors; it must not look at values. The
            compiled function takes the same structure, shapes, dtypes and devices and nothing else.
        limits: what compiling may cost: ``nodes`` of each, ``seconds`` for all.

    Raises:
        StepTooLarge: by the limits.
        CompileFailed: it cannot be traced, or its compilation failed, crashed, took too long, or gave other numbers.
    """
    packed, given, specs, nodes = [], [], [], 0
    for function, args in jobs:
        try:
            graph, leaves, spec = trace(function, args, limits.nodes, limits.seconds)
        except TooLarge as error:
            raise StepTooLarge(str(error)) from error
        except Exception as error:
            raise CompileFailed(f"the step cannot be traced ({first_line(error, kind=True)[:200]})") from error
        nodes += len(graph.graph.nodes)
        try:
            packed.append(pickle.dumps(graph))
        except Exception as error:
            raise CompileFailed(
                f"the step's graph cannot be sent to another process ({first_line(error, kind=True)[:200]})"
            ) from error
        given.append([leaf.detach() for leaf in leaves])
        specs.append(spec)

    def named(functions: Sequence[Callable[..., Sequence[Tensor]]]) -> list[Compiled]:
        return [Compiled(function, spec) for function, spec in zip(functions, specs, strict=True)]

    name = kept.name(packed, given) if kept.usable(given) else None
    folder = None if name is None else _new_folder()
    cache = None if folder is None else Path(folder.name)
    functions = None if name is None or cache is None else _recalled(name, cache, packed, given)
    if folder is not None and functions is not None:
        folder.cleanup()  # all of it is in memory
        return Pending(nodes, lambda: named(functions), lambda: None)
    attempts = _attempts(packed, given, limits.seconds, cache)

    def cancel() -> None:
        for attempt in attempts:
            attempt.cancel()
        if folder is not None:
            folder.cleanup()

    def wait() -> list[Compiled]:
        try:
            for attempt in attempts:
                attempt.wait()
            with kept.compiled_into(cache):
                # From the same bytes as in the trial, so that the compiler's cache knows it.
                compiled = [
                    compile_graph(pickle.loads(graph), leaves) for graph, leaves in zip(packed, given, strict=True)
                ]
        except CompileFailed:
            raise
        except Exception as error:
            raise CompileFailed(f"the compiler failed ({first_line(error, kind=True)[:200]})") from error
        else:
            if name is not None and cache is not None:
                kept.remember(name, cache)
        finally:
            cancel()  # of no more use, the others neither where one has failed
        return named(compiled)

    return Pending(nodes, wait, cancel)


def _recalled(
    name: str, cache: Path, packed: Sequence[bytes], given: Sequence[Sequence[Tensor]]
) -> list[Callable[..., Sequence[Tensor]]] | None:
    """The functions as an earlier run has compiled them; None where there are none, or none that are right here.

    The folder is empty then, and is to be taken for compiling anew: the compiler remembers where it looked in vain.
    """
    functions, right = [], False
    if kept.recall(name, cache):
        # Anything may come of it: these are files of another day, and compiling anew says what is wrong.
        with contextlib.suppress(Exception), kept.compiled_into(cache):
            functions, _, right = _compared(packed, given)
        if not right:
            kept.forget(name)
    if right:
        return functions
    for entry in cache.iterdir():
        shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
    return None


def compile_graph(graph: fx.GraphModule, leaves: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """The graph through torch's compiler, with as little Python around a call as it can do."""
    import torch._inductor as inductor
    from torch._guards import TracingContext, tracing
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    cuda = any(leaf.is_cuda for leaf in leaves)
    options = {"triton.cudagraphs": True} if cuda else {"cpp_wrapper": True}
    # The compiler's cache on disk is used only where there is a shape environment, though no shape here is symbolic.
    mode = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)
    with torch.no_grad(), tracing(TracingContext(mode)):
        compiled: Any = inductor.compile(graph, list(leaves), options=options)
    return compiled


def _new_folder() -> tempfile.TemporaryDirectory[str]:
    """For the time of compiling. A compiler that outlives its process may still write to it while it is removed."""
    return tempfile.TemporaryDirectory(prefix="innerloop-compile-", ignore_cleanup_errors=True)


def _attempts(
    packed: Sequence[bytes], given: Sequence[Sequence[Tensor]], seconds: float, cache: Path | None
) -> list[Attempt]:
    """One in a process for each core, the largest graphs apart from each other."""
    processes = min(_cores(), _MOST_PROCESSES, len(packed))
    order = sorted(range(len(packed)), key=lambda i: -len(packed[i]))
    shares: list[list[int]] = [[] for _ in range(processes)]
    for i in order:
        min(shares, key=lambda share: sum(len(packed[j]) for j in share)).append(i)
    return [Attempt([packed[i] for i in share], [given[i] for i in share], seconds, cache) for share in shares]


def _cores() -> int:
    """Of this machine, as many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Attempt:
    """Another process that compiles graphs and runs each on what it is given; it is killed when this one ends.

    Args:
        packed: the graphs.
        given: their arguments.
        seconds: that it may take.
        cache: the folder for what the compiler writes; None: where it does by itself.

    Raises:
        CompileFailed: no process could be started.
    """

    seconds: float
    end: float
    said: Path
    errors: Path
    process: subprocess.Popen[bytes]

    def __init__(
        self, packed: Sequence[bytes], given: Sequence[Sequence[Tensor]], seconds: float, cache: Path | None = None
    ) -> None:
        self.seconds, self.end = seconds, time.monotonic() + seconds
        self.folder: tempfile.TemporaryDirectory[str] = _new_folder()
        job, self.said, self.errors = (Path(self.folder.name) / name for name in ("job.pkl", "said", "errors"))
        torch.save({"graphs": list(packed), "leaves": list(map(list, given)), "threads": torch.get_num_threads()}, job)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        if cache is not None:
            environment[kept.FOLDER] = str(cache)
        command = [sys.executable, "-m", "innerloop.engine.compile_trial", str(job)]
        try:
            with self.said.open("wb") as said, self.errors.open("wb") as errors:
                # A session of its own: Ctrl-C is for the training, which takes its step to the end.
                self.process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=errors,
                    start_new_session=True,
                )
        except OSError as error:
            raise CompileFailed(f"no process for compiling could be started ({error})") from error
        self.cancel: weakref.finalize[..., Attempt] = weakref.finalize(self, _ended, self.process, self.folder)

    def wait(self) -> None:
        """Until it has ended.

        Raises:
            CompileFailed: anything but the graphs' own numbers came back, or nothing within the time.
        """
        try:
            self.process.wait(max(0.0, self.end - time.monotonic()))
            said, errors = (file.read_text(errors="replace").strip().splitlines() for file in (self.said, self.errors))
        except subprocess.TimeoutExpired:
            raise CompileFailed(f"compiling took more than {self.seconds:.0f} s") from None
        except FileNotFoundError:
            raise CompileFailed("compiling was given up") from None
        finally:
            self.cancel()
        if self.process.returncode < 0:
            raise CompileFailed(f"the compiler crashed (signal {-self.process.returncode})")
        try:
            found = json.loads(said[-1])
        except (IndexError, json.JSONDecodeError):
            raise CompileFailed(f"the compiler failed ({(errors or ['it said nothing'])[-1][:200]})") from None
        if "error" in found:
            raise CompileFailed(f"the compiler failed ({found['error']})")
        if not found["right"]:
            raise CompileFailed(f"the compiled step differs from the step by {found['difference']:.2g}")


def _ended(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    process.wait()
    folder.cleanup()


def trial(packed: Sequence[bytes], given: Sequence[Sequence[Tensor]]) -> dict[str, Any]:
    """What the other process says: whether compiled results are those of the graphs."""
    try:
        _, worst, right = _compared(packed, given)
    except Exception as error:
        return {"error": first_line(error, kind=True)[:200]}
    return {"right": right, "difference": worst}


def _compared(
    packed: Sequence[bytes], given: Sequence[Sequence[Tensor]]
) -> tuple[list[Callable[..., Sequence[Tensor]]], float, bool]:
    """The compiled graphs, how far their results are from those of the graphs, and whether that is rounding."""
    import torch._dynamo  # reading a graph needs parts of torch that it does not load itself
    import torch._inductor.compile_fx

    functions: list[Callable[..., Sequence[Tensor]]] = []
    worst, right = 0.0, True
    for graph, leaves in zip(packed, given, strict=True):
        loaded = pickle.loads(graph)
        with torch.no_grad():
            expected = loaded(*leaves)
            functions.append(compile_graph(loaded, leaves))
            off, same = _differ(functions[-1](*leaves), expected)
        worst, right = max(worst, off), right and same
    return functions, worst, right


def _differ(found: Sequence[Tensor], expected: Sequence[Tensor]) -> tuple[float, bool]:
    """The largest difference, relative to what it is of, and whether all are small enough to be rounding."""
    worst, right = 0.0, True
    largest = max((float(t.abs().max()) for t in expected if t.is_floating_point() and t.numel()), default=0.0)
    for ours, theirs in zip(found, expected, strict=True):
        if not theirs.is_floating_point():
            right &= torch.equal(ours, theirs)
            continue
        # Some values are zero but for rounding (the gradient of a bias before batch norm): their scale is that of the others.
        scale = max(float(theirs.abs().max()), 1e-3 * largest, 1e-30) if theirs.numel() else 1.0
        off = float((ours - theirs).abs().max()) / scale if theirs.numel() else 0.0
        worst = max(worst, off)
        right &= off <= _TOLERANCE.get(theirs.dtype, 0.05)  # not a number is never within it
    return worst, bool(right)
