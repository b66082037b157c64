"""How a step is run, decided by measuring: which strategy, how many tasks at once, how many threads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from innerloop.core import Task, batch_size
from innerloop.data.locations import cache_folder
from innerloop.errors import InnerloopError, OutOfMemory
from innerloop.provenance import processor
from innerloop.storage import write_atomically

STRATEGIES = ("looped", "vmapped", "per_task", "compiled")
# The rule's choice stays unless another takes less than this share of its time: two measurements of one thing differ by about
# a tenth, and equal seeds should stay equal runs even where no cache can be kept.
_CLEARLY_FASTER = 0.9
# A candidate whose first call takes this many times the best time so far is not measured again.
_HOPELESS = 3.0
_SECONDS = 10.0  # of measuring, after which the best so far is taken
# A candidate is run this often, and more often while that takes no time: the least of many is what it takes undisturbed.
_REPEATS, _MORE_REPEATS, _SHORT = 3, 10, 0.2
_KEPT = 500  # plans in the cache file


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a step is run.

    Attributes:
        strategy: "looped": task by task; "vmapped": all tasks of a chunk in one batched computation; "per_task": vmapped, but
            convolutions task by task; "compiled": vmapped, as one compiled function.
        chunk_size: tasks held in memory at once; None: all of a batch. Without meaning for "looped".
        threads: CPU threads of torch; None: as they are.
        milliseconds: what was measured, by candidate; empty where nothing was.
        why: where it comes from: "rule", "measured", "asked" or what made it fall back.
        megabytes: estimated peak memory of a step beyond the weights; None where it was not.
        compile_at: the step from which on a compiled one is taken, decided before it is there, so that equal runs change over at
            the same step; None: it is from the first on, or never.
        before: with ``compile_at``, once it is there: the strategy until then.
    """

    strategy: str
    chunk_size: int | None = None
    threads: int | None = None
    milliseconds: dict[str, float] = dataclasses.field(default_factory=dict, hash=False)
    why: str = "rule"
    megabytes: float | None = None
    compile_at: int | None = None
    before: str = ""

    @property
    def label(self) -> str:
        """Short name of strategy and chunk, such as "vmapped, 4 at once"."""
        at_once = f", {self.chunk_size} at once" if self.chunk_size and self.strategy != "looped" else ""
        return f"{self.strategy}{at_once}"

    def __str__(self) -> str:
        times = ", ".join(f"{name} {_short(ms)}" for name, ms in sorted(self.milliseconds.items(), key=lambda i: i[1]))
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        memory = "" if self.megabytes is None else f", about {self.megabytes:.0f} MB"
        compiled = "" if self.compile_at is None or self.before else f", compiled from step {self.compile_at} on"
        return f"{self.label}{threads}{memory}{compiled} ({self.why}{': ' if times else ''}{times})"

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """Raises TypeError or ValueError where the values are not those of a plan."""
        found = cls(**values)
        if found.strategy not in STRATEGIES:
            raise ValueError(f"unknown strategy {found.strategy!r}")
        return found


def _short(milliseconds: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(max(milliseconds, 1e-3)))) if milliseconds < 100 else 0
    return f"{milliseconds:.{min(digits, 3)}f} ms"


Job = Callable[[Plan, Task], Any]


def measure(job: Job, tasks: Task, candidates: Iterable[Plan], clock: Callable[[], float] = time.perf_counter) -> Plan:
    """The fastest of the candidates, each run on ``tasks`` or on as many as tell its time; what it computes is thrown away.

    Args:
        job: runs a plan on tasks.
        tasks: a batch.
        candidates: the first is the rule's choice, kept unless another is clearly faster.
        clock: seconds.
    """
    total = batch_size(tasks)
    found: dict[Plan, float] = {}
    begun = clock()
    with torch.random.fork_rng(devices=[]):  # a model may draw numbers of its own; CUDA's are not used by planned code
        for plan in candidates:
            if found and clock() - begun > _SECONDS:
                break
            # Two tasks tell what each takes in a loop, one chunk what each chunk takes.
            some = min(total, 2 if plan.strategy == "looped" else plan.chunk_size or total)
            part = pytree.tree_map(lambda v, some=some: v[:some], tasks)
            seconds = _time(job, plan, part, clock, min(found.values(), default=math.inf) * some / total)
            if seconds is not None:
                found[plan] = seconds * total / some
    if not found:
        return next(iter(candidates))
    first, best = next(iter(found)), min(found, key=lambda plan: found[plan])
    if found[best] > _CLEARLY_FASTER * found[first]:
        best = first
    times = {plan.label: round(seconds * 1e3, 4) for plan, seconds in found.items()}
    return dataclasses.replace(best, milliseconds=times, why="measured")


def fastest(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter, best: float = math.inf) -> float:
    """Seconds of one call, the least of some; of the first alone where that is far from ``best``."""
    seconds: list[float] = []
    for i in range(_MORE_REPEATS):
        if i >= _REPEATS and sum(seconds) > _SHORT:
            break
        begun = clock()
        work()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        seconds.append(clock() - begun)
        if seconds[0] > _HOPELESS * best:
            break
    return min(seconds)


def _time(job: Job, plan: Plan, tasks: Task, clock: Callable[[], float], best: float) -> float | None:
    """Seconds of one call; None where the plan fails, whatever the reason."""
    try:
        return fastest(lambda: job(plan, tasks), clock, best)
    except OutOfMemory:
        return None
    except InnerloopError:
        raise  # something about the user's data or model, which every strategy would say
    except Exception:
        return None


# ---- the cache -----------------------------------------------------------------------------------------------------

_known: dict[str, Plan] = {}


def signature(identity: str, tasks: Task, *more: Any) -> str:
    """The name under which a plan is kept: of the computation, the shapes, and the machine with its versions and threads."""
    leaves, spec = pytree.tree_flatten(tasks)
    shapes = [(tuple(leaf.shape), str(leaf.dtype), str(leaf.device)) for leaf in leaves]
    machine = (processor(), torch.__version__, torch.get_num_threads())
    return hashlib.blake2b(repr((identity, str(spec), shapes, more, machine)).encode(), digest_size=12).hexdigest()


def recall(name: str) -> Plan | None:
    """The plan kept under this name, by this process or by an earlier one."""
    if name not in _known:
        try:
            _known[name] = Plan.from_dict(_read()[name])
        except (KeyError, TypeError, ValueError):
            return None
    return _known[name]


def remember(name: str, plan: Plan) -> None:
    """Keep a plan, here and on disk; a disk that cannot be written is no reason to stop."""
    _known[name] = plan
    try:
        kept = {**_read(), name: plan.as_dict()}
        newest = dict(list(kept.items())[-_KEPT:])
        write_atomically(_file(), json.dumps(newest).encode())
    except (OSError, InnerloopError):
        return


def _file() -> Any:
    return cache_folder() / "plans.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
