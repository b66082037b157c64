"""Contenders and a clock that do what a test says."""

from __future__ import annotations

import os
import time

import numpy as np

from benchmarks.speed.contenders.contender import Contender

RIGHT = {"w": np.array([3.0, 4.0])}


class FakeClock:
    """A clock that moves only when a contender works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Fake(Contender):
    """Takes ``costs`` seconds a step: one number, or one for each call of `run` after the warm-up (then the last)."""

    warmup = 0

    def __init__(self, name, clock, costs, log=None, gradient=None, missing=None, fails=None):
        self.name, self.clock, self.log = name, clock, [] if log is None else log
        self.costs, self.calls = costs, 0
        self.gradient, self.missing, self.fails = gradient or RIGHT, missing, fails

    def available(self):
        return self.missing

    def version(self):
        return "1.0"

    def prepare(self, problem):
        if self.fails == "prepare":
            raise RuntimeError("cannot do this\nat all")

    def meta_gradient(self, batch=0):
        gradient = self.gradient[batch] if isinstance(self.gradient, list) else self.gradient
        return {name: value.copy() for name, value in gradient.items()}

    def step(self):
        raise AssertionError("run is overridden")

    def run(self, steps):
        if self.fails == "run" and steps:
            raise ValueError("gave up")
        if steps == 0:
            return
        costs = self.costs if isinstance(self.costs, list) else [self.costs]
        self.clock.now += steps * costs[min(self.calls, len(costs) - 1)]
        self.calls += 1
        self.log.append((self.name, steps))


class Elsewhere(Contender):
    """Made in another process, where its name says what it does when it runs."""

    warmup = 1

    def __init__(self, name):
        self.name = name

    def version(self):
        return "1.0"

    def prepare(self, problem):
        self.problem = problem

    def meta_gradient(self, batch=0):
        return RIGHT

    def step(self):
        assert self.problem.kind == "gradient"
        if self.name == "crashes":
            os.abort()
        if self.name == "leaves":
            os._exit(3)
        if self.name == "hangs":
            time.sleep(600)
        if self.name == "raises":
            raise ValueError("gave up\nat once")
        if self.name == "touches":
            self.held = np.ones(2**22)  # 32 MiB, handed back and asked for again at each step


def elsewhere(names):
    return [Elsewhere(name) for name in names]
