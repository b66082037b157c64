"""The one place that decides how a step is run, from facts alone. Nothing is measured, compiled or run here.

`Engine` runs tasks by the plans from here and measures the candidates; `MetaLearner` and `training.stepping.Stepper` compile what
`compiling` says. The facts are what each of them knows: in one's own loop there is no optimizer, so the defaults are those.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from torch.utils import _pytree as pytree

from innerloop.core import Task, batch_size, examples_of
from innerloop.engine.compiling import STANDARD, Limits
from innerloop.engine.plan import STRATEGIES, Plan
from innerloop.errors import ConfigError

# Below this many tasks vmap costs more than it saves, on every model measured so far.
_FEW_TASKS = 4
# Conv4 on 28x28 pictures, one thread: with 10 pictures a task vmap takes half the loop's time or less, with 80 as much or more.
_FEW_PICTURES = 32
# Values of the data of so many tasks are mapped together: pictures whose maps, sixty-four times as large, take 100 MB.
_VALUES_AT_ONCE = 2**19
# Compiled steps taken between two looks at Ctrl-C, and at most for so many seconds.
_AT_ONCE, _SECONDS_AT_ONCE = 64, 0.2
# Compiling takes this many seconds, and this many more for each operation of the step (one core, no cache); it has to save
# this many times as much. Of a batched step's time, a compiled one saves this share.
_BASE_SECONDS, _SECONDS_A_NODE, _WORTH, _SAVED = 10.0, 0.03, 1.5, 0.8
# Those with convolutions take longer, and save less: their kernels stay the same.
_SECONDS_A_NODE_OF_CONVOLUTIONS, _SAVED_CONVOLUTIONS = 0.08, 0.3
_SECONDS_MEANWHILE = 400.0  # that compiling may take while steps are taken
_FEW_STEPS = 20  # take less time than measuring does
# Fewer threads are taken unless more are clearly faster: a thread is another run's, or another process's.
_MORE_THREADS_PAY = 0.9

WHOLE_STEP, META_GRADIENT, META_GRADIENT_BY_TASK, NOTHING = "whole step", "meta-gradient", "meta-gradient by task", ""
IN_PHASES = "meta-gradient in phases"
# From so many inner steps on one compiled step in a loop is as fast as a graph of all of them, and compiled much sooner. With
# convolutions of each task's own it is faster from the first step on: before it all tasks share their weights.
_MANY_STEPS = 8
CHANGES = "its meta-gradient is not the same computation at every step"


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known where a decision is due.

    Attributes:
        strategy: as asked: "auto" or one of `plan.STRATEGIES`.
        chunk_size: likewise; None: all tasks at once, or what is fastest.
        following: the plan that all follows here, whatever was asked; None: none.
        needs_loop: functions of the model that vmap gets wrong or refuses.
        convolutional: tasks adapt convolution weights of their own.
        convolves: the model has convolutions, adapted or not.
        recompute: inner steps are computed again in the backward pass.
        shared: the tasks share data.
        compilable, shardable: as the meta-gradient says, see `core.MetaGradient`.
        phases: the gradient can be cut into inner steps and a loss, see `engine.phases`.
        inner_steps: of the learner.
        gathers: as the learner says, see `core.BaseLearner`.
        plain_optimizer: the optimizer's update can be part of a compiled step; False also where there is none.
        passes: steps of the optimizer on the tasks of one draw.
        processes: of the run.
        steps: outer steps to go.
        seconds: that they may take, compiling included.
    """

    strategy: str = "auto"
    chunk_size: int | None = None
    following: Plan | None = None
    needs_loop: tuple[str, ...] = ()
    convolutional: bool = False
    convolves: bool = False
    recompute: bool = False
    shared: bool = False
    compilable: bool = True
    shardable: bool = True
    phases: bool = False
    inner_steps: int = 0
    gathers: bool = False
    plain_optimizer: bool = False
    passes: int = 1
    processes: int = 1
    steps: int = 0
    seconds: float = math.inf


# ---- which strategy, how many tasks at once ------------------------------------------------------------------------
def rule(facts: Facts, tasks: Task) -> Plan:
    """The plan for a batch like this by its shapes alone, so the same everywhere.

    Raises:
        ConfigError: a strategy that there is not, or that this model cannot take.
    """
    if facts.strategy in ("vmapped", "per_task", "compiled"):
        if facts.needs_loop:
            raise ConfigError(
                f"strategy {facts.strategy!r} gives wrong or no gradients through {', '.join(facts.needs_loop)}; "
                "use strategy 'looped' or a model built from primitives (il.models.lstm, il.models.transformer)"
            )
        return beneath(Plan(facts.strategy, facts.chunk_size, why="asked"), facts)
    if facts.strategy == "looped":
        return Plan("looped", why="asked")
    if facts.strategy != "auto":
        raise ConfigError(f"strategy expected 'auto' or one of {', '.join(STRATEGIES)}, got {facts.strategy!r}")
    many_pictures = facts.convolutional and examples_of(tasks) > _FEW_PICTURES
    if facts.needs_loop or many_pictures or batch_size(tasks) < _FEW_TASKS:
        return Plan("looped")
    return Plan("vmapped", facts.chunk_size)


def mapping(facts: Facts, tasks: Task) -> Plan:
    """The rule's plan for what keeps no graph: many large tasks at once gain nothing, and their maps leave the caches."""
    plan = rule(facts, tasks)
    if plan.strategy == "looped" or plan.chunk_size is not None:
        return plan
    values = sum(v[0].numel() for v in pytree.tree_leaves(tasks))
    most = max(1, _VALUES_AT_ONCE // max(1, values))
    return plan if most >= batch_size(tasks) else dataclasses.replace(plan, chunk_size=most)


def candidates(facts: Facts, tasks: Task) -> list[Plan]:
    """The plans worth measuring, the rule's first."""
    first, num_tasks = rule(facts, tasks), batch_size(tasks)
    # One task of a small net is worth measuring all the same: what is measured may be compiled, which takes off the most.
    if facts.strategy != "auto" or facts.needs_loop or (num_tasks == 1 and facts.convolutional):
        return [first]
    sizes = [facts.chunk_size]
    if facts.convolutional and facts.chunk_size is None:
        sizes += [size for size in (4, 8) if size < num_tasks]
    batched = ["vmapped", "per_task"] if facts.convolutional else ["vmapped"]
    made = [Plan("looped"), *(Plan(strategy, size) for strategy in batched for size in sizes)]
    return [first, *(plan for plan in made if plan != first)]


def bounded(plans: list[Plan], most: int | None) -> list[Plan]:
    """The same plans, holding at most so many tasks at once."""
    if most is None:
        return plans
    sized = [plan if plan.strategy == "looped" else dataclasses.replace(plan, chunk_size=min(plan.chunk_size or most, most))
             for plan in plans]  # fmt: skip
    return list(dict.fromkeys(sized))


def beneath(plan: Plan, facts: Facts) -> Plan:
    """What is left for the engine of a plan. Compiled functions are made of the whole meta-gradient, around the engine: of
    all tasks vmapped, or of one task where convolutions would be grouped."""
    if plan.strategy != "compiled":
        return plan
    return dataclasses.replace(plan, strategy="looped" if facts.convolutional else "vmapped")


# ---- how many threads, how many steps ------------------------------------------------------------------------------
def measures(facts: Facts) -> bool:
    """Whether the steps to go are worth measuring for."""
    return facts.steps >= _FEW_STEPS


def threads(many: Plan, single: Plan) -> Plan:
    """One of two measured plans, of many threads and of one."""
    pays = many.milliseconds[many.label] < _MORE_THREADS_PAY * single.milliseconds[single.label]
    return many if pays else single


def within_time(facts: Facts, plan: Plan) -> Facts:
    """The same with no more steps to go than there is time for, by what was measured."""
    if not math.isfinite(facts.seconds) or not plan.milliseconds:
        return facts
    return dataclasses.replace(facts, steps=min(facts.steps, int(1e3 * facts.seconds / plan.milliseconds[plan.label])))


def steps_at_once(plan: Plan, whole: bool) -> int:
    """How many steps are taken at once; ``whole``: by a compiled whole step."""
    if not whole:
        return 1
    seconds = plan.milliseconds.get("compiled", 1.0) / 1e3
    return max(1, min(_AT_ONCE, int(_SECONDS_AT_ONCE / max(seconds, 1e-6))))


# ---- compiled or not, and what -------------------------------------------------------------------------------------
class Compiling(NamedTuple):
    """What of a step is compiled.

    Attributes:
        what: `WHOLE_STEP`: with the optimizer's update; `META_GRADIENT`: of all tasks; `META_GRADIENT_BY_TASK`: of one, and
            averaged; `IN_PHASES`: an inner step and the loss, each by itself; `NOTHING`.
        limits: what compiling may cost.
        why_not: what stands against it; "" where nothing does, or nobody asked and it would not pay.
    """

    what: str = NOTHING
    limits: Limits = STANDARD
    why_not: str = ""


def compiling(facts: Facts, plan: Plan | None = None) -> Compiling:
    """Whether a step is compiled, and what of it.

    Args:
        facts: what is known.
        plan: the measured plan that compiling has to beat where nobody asked for it; None: none, so then it is not.
    """
    asked = (facts.strategy if facts.following is None else facts.following.strategy) == "compiled"
    auto = facts.following is None and facts.strategy == "auto"
    if not asked and not (auto and plan is not None and plan.milliseconds):
        return Compiling()
    if facts.recompute:  # a compiler would see that a segment is computed twice, and keep it
        return Compiling(why_not="inner steps are computed again in the backward pass (recompute)")
    if facts.needs_loop:
        return Compiling(why_not=f"vmap gets {', '.join(facts.needs_loop)} wrong or refuses it")
    if facts.shared:  # a compiler would take it for constants
        return Compiling(why_not="the tasks share data")
    if facts.processes > 1:
        return Compiling(why_not=f"the run has {facts.processes} processes")
    if not facts.compilable:
        return Compiling(why_not=CHANGES)
    if asked:  # half of the time that is left
        limits = STANDARD._replace(seconds=min(STANDARD.seconds, facts.seconds / 2))
    else:
        assert plan is not None
        limits = worth(facts, plan)
        if limits.nodes <= 0:
            return Compiling()
    if facts.phases and (facts.convolutional or facts.inner_steps >= _MANY_STEPS):
        return Compiling(IN_PHASES, limits)
    # What a learner goes out to see before a step is no part of it, and several passes share it.
    if facts.plain_optimizer and facts.passes == 1 and not facts.gathers and not facts.convolutional:
        return Compiling(WHOLE_STEP, limits)
    # Dense networks are compiled for all tasks at once. Convolutions with weights of each task's own are fastest task by task.
    by_task = facts.convolutional and facts.shardable
    return Compiling(META_GRADIENT_BY_TASK if by_task else META_GRADIENT, limits)


def worth(facts: Facts, plan: Plan) -> Limits:
    """How long compiling may take, and how many operations a step may have, for it to pay."""
    saved = facts.steps * facts.passes * plan.milliseconds[plan.label] / 1e3 * _share(facts) / _WORTH
    nodes = int((saved - _BASE_SECONDS) / _a_node(facts))
    return Limits(min(_SECONDS_MEANWHILE, saved), min(STANDARD.nodes, nodes))


def _share(facts: Facts) -> float:
    """Of a step's time, what a compiled one is expected to save."""
    return _SAVED_CONVOLUTIONS if facts.convolves else _SAVED


def _a_node(facts: Facts) -> float:
    return _SECONDS_A_NODE_OF_CONVOLUTIONS if facts.convolves else _SECONDS_A_NODE


def meanwhile(facts: Facts, plan: Plan, nodes: int, step: int) -> Plan:
    """The plan while ``nodes`` operations are being compiled, with the step from which on the compiled one is taken.

    What is gained by going on as before is what such steps take when compiled; a later run of the same step, for which all is
    there at once, loses the rest. Both are served by this share of the time that compiling should take.
    """
    seconds = (_BASE_SECONDS + nodes * _a_node(facts)) * (1 - _share(facts))
    steps = seconds * 1e3 / plan.milliseconds[plan.label]
    # A power of two: small differences of what was measured make none here.
    return dataclasses.replace(plan, compile_at=step + 2 ** max(0, round(math.log2(max(steps, 1)))))


def compiled(facts: Facts, plan: Plan, seconds: float) -> Plan:
    """The plan once a compiled step has been measured: it stays unless that was asked for or takes no longer."""
    times = {**plan.milliseconds, "compiled": round(seconds * 1e3, 4)}
    if facts.strategy != "compiled" and times["compiled"] > plan.milliseconds[plan.label]:
        return dataclasses.replace(plan, milliseconds=times, compile_at=None)
    before = "" if plan.compile_at is None else plan.strategy
    return dataclasses.replace(plan, strategy="compiled", milliseconds=times, before=before)


def failed(plan: Plan, why: str) -> Plan:
    """The plan where no compiled step came."""
    return dataclasses.replace(plan, why=f"{plan.why}; not compiled: {why}", compile_at=None)
