"""How many steps a second: our worlds beside gymnasium's vector environments, on one core, in alternating rounds."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from innerloop import keys as random_keys
from innerloop.objectives.rollouts import roll_out, uniform_policy
from innerloop.registry import load
from innerloop.tasks import WORLDS
from innerloop.tasks.worlds.gymnasium_worlds import needed

_ROUNDS = 7
_WORLDS = 4_096  # of ours in a round
# Steps of an episode and episodes: random actions let a pole fall after some 20 steps, and what comes after does not count.
_EPISODES = {"cartpole": (15, 12), "pendulum_swing_up": (180, 1)}
_ENVS, _VECTOR_STEPS = 16, 400  # of gymnasium's
_PAIRS = (("cartpole", "CartPole-v1"), ("pendulum_swing_up", "Pendulum-v1"))


def measure() -> list[dict[str, Any]]:
    """A row for each: median steps a CPU second of seven alternating rounds, and ours over theirs.

    CPU seconds of this process and of those that it starts, so that a busy machine changes little; all on one core. What starting
    and ending processes takes is measured by itself and taken off.
    """
    gymnasium = needed()
    core = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(core)})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    try:
        for ours, theirs in _PAIRS:
            contenders: dict[str, Callable[[], float]] = {"ours": lambda name=ours: _ours(name)}
            kinds = ["sync", "async"]
            if gymnasium.spec(theirs).vector_entry_point is not None:
                kinds.append("vector_entry_point")
            for kind in kinds:
                contenders[f"gymnasium {kind}"] = lambda name=theirs, kind=kind: _theirs(name, kind)
            rates: dict[str, list[float]] = {name: [] for name in contenders}
            for number in range(_ROUNDS + 1):
                for name, run in contenders.items():
                    rate = run()
                    if number:  # the first round warms up
                        rates[name].append(rate)
            middle = {name: statistics.median(found) for name, found in rates.items()}
            rows += [{"metric": f"steps a second, {ours}, {name}", "value": round(v)} for name, v in middle.items()]
            rows += [
                {"metric": f"ours / {name}, {ours}", "value": round(middle["ours"] / v, 1)}
                for name, v in middle.items()
                if name != "ours"
            ]
    finally:
        os.sched_setaffinity(0, core)
        torch.set_num_threads(threads)
    return rows


def _ours(name: str) -> float:
    steps, episodes = _EPISODES[name]
    family = load("problem", WORLDS, name)(steps=steps)
    keys = random_keys.task_keys(0, "speed", 0, 0, _WORLDS)
    worlds = family.train.worlds(keys)
    began = _seconds()
    found = roll_out(worlds, uniform_policy(worlds.actions), (), keys, episodes)[0]
    took = _seconds() - began
    return int(found.playing.sum()) / took


def _theirs(name: str, kind: str) -> float:
    """Without a limit of their own on episodes; they begin again by themselves."""
    began = _seconds()
    _played(name, kind, 0)
    start = _seconds() - began
    began = _seconds()
    _played(name, kind, _VECTOR_STEPS)
    return _ENVS * _VECTOR_STEPS / max(_seconds() - began - start, 1e-9)


def _played(name: str, kind: str, steps: int) -> None:
    envs = needed().make_vec(name, num_envs=_ENVS, vectorization_mode=kind)
    try:
        envs.reset(seed=0)
        actions = [envs.action_space.sample() for _ in range(8)]  # drawing them is not timed against it
        for i in range(steps):
            envs.step(actions[i % 8])
    finally:
        envs.close()


def _seconds() -> float:
    """Of the processor, this process and those that it started and that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime
