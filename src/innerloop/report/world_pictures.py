"""Pictures of what a policy does in a world: paths in the plane, and moving pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from innerloop.errors import ConfigError
from innerloop.objectives.rollouts import Rollouts
from innerloop.objectives.world import World
from innerloop.report.style import RIGHT, WRONG, dress, new_figure
from innerloop.tasks.worlds.cartpole import Cartpole
from innerloop.tasks.worlds.navigation import Plane
from innerloop.tasks.worlds.pendulum_swing_up import SwingUp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE, _MARGIN = 320, 24  # pixels of a moving picture
_INK, _LIGHT, _GOAL, _OWN = (40, 40, 40), (210, 210, 210), (200, 60, 40), (30, 100, 180)
_SIDE, _SHOWN = 0.7, 0.9  # of the plane that is drawn, from its middle: in a moving picture, and of paths
_MILLISECONDS, _LAST = 60, 900  # that a picture is shown; the last one of an episode


class _Canvas:
    """A square picture whose coordinates go from -side to side, up being up."""

    def __init__(self, side: float, title: str) -> None:
        self.side = side
        self.image = Image.new("RGB", (_SIZE, _SIZE), (255, 255, 255))
        self.draw = ImageDraw.Draw(self.image)
        self.draw.text((6, 4), title, fill=_INK)

    def at(self, x: float, y: float) -> tuple[float, float]:
        inner = _SIZE - 2 * _MARGIN
        return _MARGIN + (x / self.side + 1) / 2 * inner, _MARGIN + (1 - (y / self.side + 1) / 2) * inner

    def line(self, points: Sequence[tuple[float, float]], colour: tuple[int, int, int], width: int = 2) -> None:
        if len(points) > 1:
            self.draw.line([self.at(*p) for p in points], fill=colour, width=width)

    def dot(self, x: float, y: float, pixels: float, colour: tuple[int, int, int]) -> None:
        a, b = self.at(x, y)
        self.draw.ellipse((a - pixels, b - pixels, a + pixels, b + pixels), fill=colour)


def _plane(world: Any, seen: np.ndarray, step: int, title: str) -> Image.Image:
    canvas = _Canvas(_SIDE, title)
    canvas.line([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5)], _LIGHT, 1)
    x, y = (float(v) for v in world.goal)
    canvas.line([(x - 0.03, y), (x + 0.03, y)], _GOAL)
    canvas.line([(x, y - 0.03), (x, y + 0.03)], _GOAL)
    canvas.line([(float(a), float(b)) for a, b in seen[: step + 1]], _OWN)
    canvas.dot(float(seen[step, 0]), float(seen[step, 1]), 5, _OWN)
    return canvas.image


def _cartpole(world: Any, seen: np.ndarray, step: int, title: str) -> Image.Image:
    canvas = _Canvas(2.4, title)
    x, tilt = float(seen[step, 0]), float(seen[step, 2])
    long = 2 * float(world.length)
    canvas.line([(-2.4, 0), (2.4, 0)], _LIGHT, 1)
    canvas.line([(x - 0.25, 0), (x + 0.25, 0)], _INK, 12)
    canvas.line([(x, 0.05), (x + long * math.sin(tilt), 0.05 + long * math.cos(tilt))], _OWN, 5)
    return canvas.image


def _pendulum(world: Any, seen: np.ndarray, step: int, title: str) -> Image.Image:
    canvas = _Canvas(1.5, title)
    long = float(world.length)
    end = (long * float(seen[step, 1]), long * float(seen[step, 0]))
    canvas.line([(0.0, 0.0), end], _OWN, 6)
    canvas.dot(0, 0, 4, _INK)
    canvas.dot(*end, 8, _GOAL)
    return canvas.image


_DRAWN: dict[type, Callable[[Any, np.ndarray, int, str], Image.Image]] = {
    Plane: _plane,
    Cartpole: _cartpole,
    SwingUp: _pendulum,
}


def frames(world: World, played: Rollouts, titles: Sequence[str]) -> list[tuple[Image.Image, int]]:
    """(picture, milliseconds) of each step of each episode, those that were played.

    Args:
        world: without a leading axis.
        played: episodes in it, one a trial.
        titles: one for each.

    Raises:
        ConfigError: a world that cannot be drawn.
    """
    draw = _DRAWN.get(type(world))
    if draw is None:
        raise ConfigError(
            f"expected a world that can be drawn (navigation, cartpole, pendulum_swing_up, or gymnasium's by render), got "
            f"{type(world).__name__}; agent.score tells its return"
        )
    found: list[tuple[Image.Image, int]] = []
    each = played.by_episode()
    for seen, playing, rewards, title in zip(each.observations, each.playing, each.rewards, titles, strict=True):
        number = int(playing.sum())
        rows = seen.detach().cpu().numpy()
        for step in range(number):
            total = float(rewards[: step + 1].sum())
            picture = draw(world, rows, step, f"{title}   step {step + 1}   return {total:.1f}")
            found.append((picture, _LAST if step == number - 1 else _MILLISECONDS))
    return found


def write_gif(pictures: Sequence[tuple[Image.Image, int]], path: Path) -> None:
    """A moving picture that begins again."""
    first, *rest = (picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64) for picture, _ in pictures)
    first.save(path, save_all=True, append_images=rest, duration=[ms for _, ms in pictures], loop=0)


def is_plane(world: World) -> bool:
    """Whether `paths` can draw it."""
    return isinstance(world, Plane)


def paths(world: World, before: Rollouts, after: Rollouts) -> Figure:
    """The paths of a policy in the plane before and after it has adapted to a goal, side by side.

    Raises:
        ConfigError: another world than navigation.
    """
    if not isinstance(world, Plane):
        raise ConfigError(f"paths expected a world of navigation, got {type(world).__name__}")
    figure = new_figure(10.0, 5.0)
    for axes, played, title in zip(figure.subplots(1, 2), (before, after), ("before", "after"), strict=True):
        each = played.by_episode()
        mean = float(each.rewards.sum(-1).mean())
        dress(axes, "x", "y", f"{title} adapting: mean return {mean:.1f}")
        for seen, playing in zip(each.observations, each.playing, strict=True):
            rows = seen[playing].cpu().numpy()
            axes.plot(rows[:, 0], rows[:, 1], color=RIGHT, linewidth=0.8, alpha=0.6)
        axes.plot(*world.goal.cpu().tolist(), marker="*", markersize=15, color=WRONG, linestyle="none")
        axes.set_aspect("equal")
        axes.set_xlim(-_SHOWN, _SHOWN)
        axes.set_ylim(-_SHOWN, _SHOWN)
    return figure
