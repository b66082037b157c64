"""Skills learned one after another: sines, and ways to goals. What a robot that must not forget has to do, as regressions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import Examples
from innerloop.errors import expect_whole
from innerloop.tasks.streams.stream import HeldStream, Stream

_AMPLITUDE, _PHASE, _GOAL, _SHOWN, _JUDGED = range(1, 6)
_PartOf = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]  # (the skill's key, the side's, how many) -> (x, y)
_REACH = 0.1  # the longest step towards a goal


def _named(x: Float[Tensor, "examples features"], skill: int, skills: int) -> Float[Tensor, "examples columns"]:
    """Inputs beside the skill's number in one-hot form, as OML's: whoever acts knows what is wanted."""
    which = torch.zeros(len(x), skills)
    which[:, skill] = 1
    return torch.cat([x, which.to(x)], 1)


def _streams(name: str, word: str, skills: int, seed: int, options: dict[str, int], part: _PartOf) -> Stream:
    for what in ("skills", "examples", "tested"):
        expect_whole(what, options[what])
    expect_whole("seed", seed, 0)

    def stream(split: str, valid: Stream | None) -> Stream:
        key = random_keys.task_keys(seed, split, 0, 0, 1)[0]
        sides: list[list[Examples]] = [[], []]
        for skill in range(skills):
            own = random_keys.fold(key, skill)
            for side, salt, count in zip(
                sides, (_SHOWN, _JUDGED), (options["examples"], options["tested"]), strict=True
            ):
                x, y = part(own, random_keys.fold(own, salt), count)
                side.append(Examples(_named(x, skill, skills), y))
        names = tuple(f"{word} {skill + 1}" for skill in range(skills))
        title = name if split == "test" else f"{name} ({split})"
        return HeldStream(title, names, sides[0], sides[1], kind="regression", valid=valid, options=options)

    return stream("test", stream("valid", None))


def sine_stream(*, skills: int = 10, examples: int = 400, tested: int = 200, seed: int = 0) -> Stream:
    """Sine curves, one after another: y = a sin(x - b), a in [0.1, 5], b in [0, pi], x in [-5, 5] (Javed and White 2019).

    Args:
        skills: how many curves.
        examples, tested: points that each shows and is judged on.
        seed: of curves and points.

    Returns:
        A `Stream` of regressions: x (examples, 1 + skills), the point and which curve it is of; y (examples, 1).

    Raises:
        ConfigError: a number out of range.
    """

    def part(own: Tensor, key: Tensor, count: int) -> tuple[Tensor, Tensor]:
        amplitude = 0.1 + 4.9 * random_keys.uniform(own, (), _AMPLITUDE)
        phase = math.pi * random_keys.uniform(own, (), _PHASE)
        x = 10 * random_keys.uniform(key, (count, 1)) - 5
        return x / 5, amplitude * torch.sin(x - phase)  # the input in [-1, 1], as the one-hot part is

    return _streams("sine_stream", "sine", skills, seed, _kept(skills, examples, tested, seed), part)


def navigation_stream(*, skills: int = 10, examples: int = 400, tested: int = 200, seed: int = 0) -> Stream:
    """Ways to goals in the square [-1, 1] x [-1, 1], one goal after another; an expert shows the next step from each place.

    The expert goes straight to the goal, at most 0.1 a step.

    Args:
        skills: how many goals.
        examples, tested: places that each shows and is judged on.
        seed: of goals and places.

    Returns:
        A `Stream` of regressions: x (examples, 2 + skills), the place and which goal is wanted; y (examples, 2), ten times the
        step, so that a full one has length 1.

    Raises:
        ConfigError: a number out of range.
    """

    def part(own: Tensor, key: Tensor, count: int) -> tuple[Tensor, Tensor]:
        goal = 2 * random_keys.uniform(own, (2,), _GOAL) - 1
        place = 2 * random_keys.uniform(key, (count, 2)) - 1
        way = goal - place
        far = way.norm(dim=1, keepdim=True)
        return place, way / far.clamp(min=_REACH)

    return _streams("navigation_stream", "goal", skills, seed, _kept(skills, examples, tested, seed), part)


def _kept(skills: int, examples: int, tested: int, seed: int) -> dict[str, int]:
    return {"skills": skills, "examples": examples, "tested": tested, "seed": seed}
