"""Problems: families of tasks, by name. ``innerloop.tasks.NAME(**options)`` returns a `TaskFamily`.

One problem is one file and one line here; nothing is imported before it is asked for. ``innerloop.tasks.shifted(tasks, kind,
amount)`` moves their tasks away from those of training.
"""

from __future__ import annotations

from typing import Any

from innerloop.registry import Entry, load

TASKS: dict[str, Entry] = {
    "sinusoid": Entry("innerloop.tasks.sine:sinusoid", "regression on sine curves of random amplitude and phase"),
    "omniglot": Entry(
        "innerloop.tasks.omniglot_characters:omniglot",
        "handwritten characters of 50 alphabets (needs `innerloop data fetch omniglot`)",
    ),
    "glyphs": Entry(
        "innerloop.tasks.glyph_characters:glyphs",
        "printed characters of many scripts, drawn from fonts; built in",
    ),
    "quadratics": Entry(
        "innerloop.tasks.quadratic:quadratics",
        "least squares with closed-form answers, to test methods against",
    ),
}


def __getattr__(name: str) -> Any:
    if name in TASKS:
        return load("problem", TASKS, name)
    if name == "shifted":
        from innerloop.tasks.shift import shifted

        return shifted
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *TASKS, "shifted"])
