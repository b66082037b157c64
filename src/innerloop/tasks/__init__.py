"""Problems: families of tasks, by name. ``innerloop.tasks.NAME(**options)`` returns a `TaskFamily`.

One problem is one file, in the folder of its field, and one line here; nothing is imported before it is asked for. Data
of your own: ``innerloop.tasks.from_path(path)``, ``innerloop.tasks.from_arrays(x, y)`` and ``innerloop.tasks.ratings(path)``.
``innerloop.tasks.shifted(tasks, kind, amount)`` moves tasks away from those of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.errors import ConfigError
from innerloop.registry import Entry, bound, call, load

TASKS: dict[str, Entry] = {
    "sinusoid": Entry(
        "innerloop.tasks.curves.sinusoid:sinusoid", "regression on sine curves of random amplitude and phase"
    ),
    "omniglot": Entry(
        "innerloop.tasks.pictures.omniglot:omniglot",
        "handwritten characters of 50 alphabets (needs `innerloop data fetch omniglot`)",
    ),
    "glyphs": Entry(
        "innerloop.tasks.pictures.glyphs:glyphs",
        "printed characters of many scripts, drawn from fonts; built in",
    ),
    "characters": Entry(
        "innerloop.tasks.pictures.characters:characters",
        "characters drawn or printed, with any pen (needs `innerloop data fetch omniglot`)",
    ),
    "gaussian_process": Entry(
        "innerloop.tasks.curves.gaussian_process:gaussian_process",
        "regression on curves drawn from a Gaussian process, with exact answers",
    ),
    "synthetic_curves": Entry(
        "innerloop.tasks.curves.synthetic:synthetic_curves",
        "regression on made-up curves of many kinds, a new one for each task",
    ),
    "synthetic_tables": Entry(
        "innerloop.tasks.tables.synthetic:synthetic_tables",
        "classification of rows of made-up tables, a new one for each task",
    ),
    "nas201": Entry(
        "innerloop.tasks.searches.nas201:nas201",
        "the error of a network from its architecture (needs NAS-Bench-201's table)",
    ),
    "hpo_tables": Entry(
        "innerloop.tasks.searches.hpo_tables:hpo_tables",
        "regression of what configurations reach on a data set (needs the tables under INNERLOOP_DATA/hpo)",
    ),
    "road": Entry(
        "innerloop.tasks.changing.road:road",
        "how a car moves on; grip, mass, latency and slope change in mid-drive",
    ),
    "pendulum": Entry(
        "innerloop.tasks.changing.pendulum:pendulum",
        "how a driven pendulum moves on; length, mass and friction change in mid-run",
    ),
    "drifting_sines": Entry(
        "innerloop.tasks.changing.drifting_sines:drifting_sines",
        "points on a sine curve whose amplitude and phase drift",
    ),
    "fsmol": Entry(
        "innerloop.tasks.molecules.fsmol:fsmol",
        "whether a molecule is active, an assay a task (needs FS-Mol's files under INNERLOOP_DATA/fsmol)",
    ),
    "tox21": Entry(
        "innerloop.tasks.molecules.tox21:tox21",
        "whether a molecule is toxic by an assay (needs Tox21's files under INNERLOOP_DATA/molecules)",
    ),
    "sider": Entry(
        "innerloop.tasks.molecules.sider:sider",
        "whether a drug has side effects of a kind (needs SIDER's files under INNERLOOP_DATA/molecules)",
    ),
    "quadratics": Entry(
        "innerloop.tasks.curves.quadratics:quadratics",
        "least squares with closed-form answers, to test methods against",
    ),
}

# Streams: examples in an order, to be learned one after another; labels are numbers of classes, the same in all training tasks.
STREAMS: dict[str, Entry] = {
    "omniglot_stream": Entry(
        "innerloop.tasks.streams.class_streams:omniglot_stream",
        "handwritten characters one after another, to be remembered (needs `innerloop data fetch omniglot`)",
    ),
    "glyphs_stream": Entry(
        "innerloop.tasks.streams.class_streams:glyphs_stream",
        "printed characters one after another, to be remembered; built in",
    ),
}

# One long stream each, in parts, for `il.learn_stream`: nothing in them is a task with a support set.
LONG_STREAMS: dict[str, Entry] = {
    "mnist_rotations": Entry(
        "innerloop.tasks.streams.mnist_streams:mnist_rotations",
        "one long stream: digits turned further from part to part (needs MNIST's files)",
    ),
    "mnist_permutations": Entry(
        "innerloop.tasks.streams.mnist_streams:mnist_permutations",
        "one long stream: digits with their pixels in another order in each part (needs MNIST's files)",
    ),
    "sine_stream": Entry(
        "innerloop.tasks.streams.skills:sine_stream",
        "one long stream: sine curves, one after another",
    ),
    "navigation_stream": Entry(
        "innerloop.tasks.streams.skills:navigation_stream",
        "one long stream: ways to goals in a square, one goal after another",
    ),
}

# Training runs, for learned optimizers: nothing in them is a support set, so no other method takes them.
TRAINING_RUNS: dict[str, Entry] = {
    "training_jobs": Entry(
        "innerloop.tasks.training_runs.jobs:training_jobs",
        "your training runs: a network, data, steps (the default data needs MNIST's training files)",
    ),
    "quadratic_jobs": Entry(
        "innerloop.tasks.training_runs.quadratics:quadratic_jobs",
        "minimise |W theta - y|^2, a new W and y for each run (Andrychowicz 2016)",
    ),
}

# Examples without labels, for score models: no other method takes them, but those that adapt by gradients.
WITHOUT_LABELS: dict[str, Entry] = {
    "drawings": Entry(
        "innerloop.tasks.pictures.drawings:drawings",
        "pictures of one kind each, of a folder or of Omniglot (needs `innerloop data fetch omniglot`)",
    ),
    "mixtures": Entry(
        "innerloop.tasks.densities.mixtures:mixtures", "points of Gaussian mixtures whose density and score are known"
    ),
}
# Worlds to act in, for policies: nothing in them is a support set. The same under `il.worlds`.
WORLDS: dict[str, Entry] = {
    "bandits": Entry(
        "innerloop.tasks.worlds.bandits:bandits", "a policy's pulls of arms that pay with unknown chances"
    ),
    "half_cheetah": Entry(
        "innerloop.tasks.worlds.half_cheetah:half_cheetah", "a MuJoCo robot runs forwards or backwards (extra mujoco)"
    ),
    "navigation": Entry("innerloop.tasks.worlds.navigation:navigation", "a policy's way to a goal in the plane"),
    "tabular_mdp": Entry(
        "innerloop.tasks.worlds.tabular_mdp:tabular_mdp", "a policy in a random decision process of a few states"
    ),
    "cartpole": Entry("innerloop.tasks.worlds.cartpole:cartpole", "a policy that balances a pole of unknown length"),
    "pendulum_swing_up": Entry(
        "innerloop.tasks.worlds.pendulum_swing_up:pendulum_swing_up", "a policy that swings up a pendulum"
    ),
    "rock_paper_scissors": Entry(
        "innerloop.tasks.worlds.rock_paper_scissors:rock_paper_scissors",
        "a policy's game against an opponent with habits",
    ),
}

# Problems without a name of their own: the user's data, and problems moved away from training.
OWN: dict[str, Entry] = {
    "from_path": Entry("innerloop.tasks.own_data:from_path", "pictures by class or tables, from a folder or file"),
    "own_stream": Entry(
        "innerloop.tasks.streams.own_stream:own_stream",
        "one long stream of your own: a table's rows in order, or pictures by class",
    ),
    "stream_from_arrays": Entry(
        "innerloop.tasks.streams.own_stream:stream_from_arrays",
        "one long stream from arrays or tensors, a pair for each part",
    ),
    "from_arrays": Entry("innerloop.tasks.own_arrays:from_arrays", "arrays, tensors or a data set in memory"),
    "ratings": Entry(
        "innerloop.tasks.tables.own_ratings:ratings", "users who rate items, from a table of ratings and one of items"
    ),
    "shifted": Entry("innerloop.tasks.shift:shifted", "a problem's tasks, moved away from those of training"),
}

NAMED = {
    **TASKS,
    **STREAMS,
    **LONG_STREAMS,
    **TRAINING_RUNS,
    **WITHOUT_LABELS,
    **WORLDS,
}  # what a word can stand for, in Python, in a file and on the command line


def stream_factory(name: str) -> Any:
    """What makes the long stream of this name, or of this path, whose argument ``path`` it is then."""
    return load("stream", LONG_STREAMS, name) if name in LONG_STREAMS else load("problem", OWN, "own_stream")


def stream_named(name: str, options: Mapping[str, Any]) -> Any:
    """A long stream by name or path; see `stream_factory`."""
    make = stream_factory(name)
    return make(**options) if name in LONG_STREAMS else make(name, **options)


def make(name: str, options: Mapping[str, Any], *, typed: bool = False) -> Any:
    """A TaskFamily by name: ours, an installed package's, or ``package.module:function`` that a user has typed.

    Somebody else's goes by the name that it was called by, with that call's options: so a run makes it again.
    """
    factory = load("problem", NAMED, name, typed=typed)
    if name in NAMED:
        return factory(**options)
    from innerloop.core import TaskFamily

    family = call("problem", name, factory, **options)
    if not isinstance(family, TaskFamily):
        raise ConfigError(f"the problem {name!r} expected to return an il.TaskFamily, got {type(family).__name__}")
    return family._replace(name=name, options=bound(factory, options))


def __getattr__(name: str) -> Any:
    if name in NAMED:
        return load("problem", NAMED, name)
    if name in OWN:
        return load("problem", OWN, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *NAMED, *OWN])
