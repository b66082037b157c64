"""Speed and memory beside the other libraries: `innerloop bench`. Names only, so that the command line answers at once.

A benchmark is a module with ``run(settings) -> Iterator[Row]``; a contender is one way to take the same outer step
(`contenders.contender.Contender`). Both are looked up here and in `contenders` by name.
"""

from __future__ import annotations

from innerloop.registry import Entry

BENCHMARKS: dict[str, Entry] = {
    "sine": Entry("innerloop.bench.sine:run", "second-order outer step on sine curves, small dense net"),
    "conv4": Entry("innerloop.bench.conv4:run", "second-order outer step of Conv4, 5-way 1-shot on 28x28 pictures"),
    "protonet": Entry("innerloop.bench.protonet:run", "a 60-way training step of prototypical networks"),
    "scaling": Entry(
        "innerloop.bench.scaling:run", "cost per task over tasks, inner steps and parameters, with a plot"
    ),
    "memory": Entry("innerloop.bench.memory:run", "peak memory of an outer step, each in a process of its own"),
    "startup": Entry("innerloop.bench.startup:run", "innerloop --help and import innerloop, in fresh processes"),
    "check": Entry("innerloop.bench.check:run", "the two smallest ratios, stored for innerloop bench --check"),
}

# What `innerloop bench` without names runs: "check" is written by name only, since it moves what --check compares with.
DEFAULT = tuple(name for name in BENCHMARKS if name != "check")
