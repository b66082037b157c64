"""Speed and memory beside the other libraries: `python -m benchmarks.speed`. Names only, so that help comes at once.

A benchmark is a module with ``run(settings) -> Iterator[Row]``; a contender is one way to take the same outer step
(`contenders.contender.Contender`). Both are looked up here and in `contenders` by name.
"""

from __future__ import annotations

from innerloop.registry import Entry

BENCHMARKS: dict[str, Entry] = {
    "sine": Entry("benchmarks.speed.sine:run", "second-order outer step on sine curves, small dense net"),
    "conv4": Entry("benchmarks.speed.conv4:run", "second-order outer step of Conv4, 5-way 1-shot on 28x28 pictures"),
    "protonet": Entry("benchmarks.speed.protonet:run", "a 60-way training step of prototypical networks"),
    "training_runs": Entry(
        "benchmarks.speed.training_runs:run", "learning the rates of training runs: through them, and by PES"
    ),
    "scaling": Entry(
        "benchmarks.speed.scaling:run", "cost per task over tasks, inner steps and parameters, with a plot"
    ),
    "memory": Entry("benchmarks.speed.memory:run", "peak memory of an outer step, each in a process of its own"),
    "startup": Entry("benchmarks.speed.startup:run", "innerloop --help and import innerloop, in fresh processes"),
    "check": Entry("benchmarks.speed.check:run", "a few ratios, stored for python -m benchmarks.speed --check"),
}

# What `python -m benchmarks.speed` without names runs: "check" is run by name only: it moves what --check compares with.
DEFAULT = tuple(name for name in BENCHMARKS if name != "check")
