"""Configurations to choose from: drawn anew, those that did well on past tasks, and neighbours of the best so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from innerloop.hpo.past import PastTask
from innerloop.hpo.space import Config, Parameter, Space

_DRAWN = 400
_OF_PAST = 8  # best configurations of each past task
_MOST_OF_PAST = 300
_AROUND = 5  # best configurations so far whose neighbours are tried
_NEIGHBOURS = 20  # of each
_REACH = (0.03, 0.1, 0.3)  # of a range


def draw(parameter: Parameter, generator: np.random.Generator) -> Any:
    """A value, all equally likely (in the parameter's scale)."""
    return parameter.at(generator.random())


class Shapes:
    """Which conditional parameters go with which choices, as finished trials show it.

    Args:
        space: what is searched.
        configs: of finished trials.
    """

    def __init__(self, space: Space, configs: Sequence[Config]) -> None:
        self.space = space
        self.deciding: list[str] = [
            n for n in space.names if n not in space.optional and space.parameters[n].kind == "categorical"
        ]
        found: dict[tuple[str, ...], dict[frozenset[str], None]] = {}
        for config in configs if space.optional else ():
            found.setdefault(self._key(config), {})[space.optional & frozenset(config)] = None
        self._known = {key: list(shapes) for key, shapes in found.items()}

    def _key(self, config: Config) -> tuple[str, ...]:
        return tuple(repr(config.get(name)) for name in self.deciding)

    def completed(self, config: Config, generator: np.random.Generator, *, drawn: bool = False) -> dict[str, Any]:
        """The configuration with the conditional parameters that go with its choices: others taken out, missing ones drawn.

        Choices that no trial had together have those of the trials most like them. One that is newly ``drawn`` has none yet; any
        other keeps its own where a trial had them.
        """
        if not self._known:
            return dict(config)
        key = self._key(config)
        alike = self._known.get(key)
        if alike is None:
            common = {other: sum(a == b for a, b in zip(key, other, strict=True)) for other in self._known}
            alike = self._known[max(common, key=lambda other: common[other])]
        own = self.space.optional & frozenset(config)
        chosen = own if own in alike and not drawn else alike[int(generator.integers(len(alike)))]
        kept = {n: v for n, v in config.items() if n not in self.space.optional or n in chosen}
        more = {n: draw(self.space.parameters[n], generator) for n in sorted(chosen) if n not in config}
        return {**kept, **more}


def candidates(
    space: Space,
    finished: Sequence[Config],
    best: Sequence[Config],
    past: Sequence[PastTask],
    generator: np.random.Generator,
) -> list[dict[str, Any]]:
    """Different configurations of the space.

    Args:
        space: what the study searches.
        finished: its finished trials, which show what conditional parameters depend on.
        best: its best trials so far, the best first.
        past: tasks whose best configurations are candidates too, as far as the space has their parameters.
        generator: of all draws.
    """
    shapes = Shapes(space, finished)
    always = [n for n in space.names if n not in space.optional]
    found = []
    for _ in range(_DRAWN):
        config = {n: draw(space.parameters[n], generator) for n in always}
        found.append(shapes.completed(config, generator, drawn=True))
    found += [shapes.completed(config, generator) for config in remembered(space, past, generator)]
    found += around(space, shapes, best[:_AROUND], generator)
    return different(found)


def remembered(space: Space, past: Sequence[PastTask], generator: np.random.Generator) -> list[dict[str, Any]]:
    """The best configurations of each past task, as this space has them."""
    best = [one.configs[i] for one in past for i in np.argsort(one.values, kind="stable")[:_OF_PAST]]
    if len(best) > _MOST_OF_PAST:
        best = [best[i] for i in generator.permutation(len(best))[:_MOST_OF_PAST]]
    carried = (carried_over(config, space, generator) for config in best)
    return different(config for config in carried if config is not None)


def carried_over(config: Config, space: Space, generator: np.random.Generator) -> dict[str, Any] | None:
    """A past configuration in this space: values at the nearest that the study allows, what it lacks drawn; None: it has none.

    Conditional parameters that it lacks stay away.
    """
    found: dict[str, Any] = {}
    shared = False
    for name in space.names:
        value = space.parameters[name].nearest(config[name]) if name in config else None
        if name in config and (value is not None or space.parameters[name].has(config[name])):
            found[name], shared = value, True
        elif name not in space.optional:
            found[name] = draw(space.parameters[name], generator)
    return found if shared else None


def around(
    space: Space, shapes: Shapes, centres: Sequence[Config], generator: np.random.Generator
) -> list[dict[str, Any]]:
    """Neighbours of configurations: some of their values moved a little, or drawn anew."""
    found = []
    for centre in centres:
        names = [n for n in space.names if n in centre and not space.parameters[n].single]
        if not names:
            continue
        for _ in range(_NEIGHBOURS):
            reach = _REACH[int(generator.integers(len(_REACH)))]
            moved = dict(centre)
            chosen = generator.random(len(names)) < max(0.3, 1.0 / len(names))
            chosen[int(generator.integers(len(names)))] = True
            for name, change in zip(names, chosen, strict=True):
                if change:
                    moved[name] = _moved(space.parameters[name], centre[name], reach, generator)
            found.append(shapes.completed(moved, generator))
    return found


def _moved(parameter: Parameter, value: Any, reach: float, generator: np.random.Generator) -> Any:
    place = None if parameter.kind == "categorical" else parameter.unit(value)
    if place is None:
        return draw(parameter, generator)
    moved = parameter.at(place + reach * generator.normal())
    if moved == value and parameter.kind == "int":  # a step at least
        moved = parameter.nearest(value + (parameter.step or 1.0) * (1 if generator.random() < 0.5 else -1))
    return moved


def different(configs: Iterable[Config]) -> list[dict[str, Any]]:
    """Each configuration once, in the order given."""
    found: dict[Any, dict[str, Any]] = {}
    for config in configs:
        found.setdefault(identity(config), dict(config))
    return list(found.values())


def identity(config: Config) -> tuple[tuple[str, str], ...]:
    """What two equal configurations have in common."""
    return tuple(sorted((name, repr(value)) for name, value in config.items()))
