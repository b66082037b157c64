"""Learning from one long stream without forgetting: methods that see each example once, and what is left of each part.

A new method is one file in methods, a subclass of `OnlineLearner`, and one line in STREAM_METHODS.
"""

from __future__ import annotations

from typing import Any

from innerloop.registry import Entry, load

STREAM_METHODS: dict[str, Entry] = {
    "la_maml": Entry(
        "innerloop.lifelong.methods.la_maml:la_maml",
        "Look ahead along the stream, with a learned rate for every parameter and replay (Gupta 2020).",
    ),
    "online": Entry(
        "innerloop.lifelong.methods.replay:online",
        "Plain gradient steps as examples come: the baseline that forgets.",
    ),
    "replay": Entry(
        "innerloop.lifelong.methods.replay:replay",
        "Gradient steps on new examples and on some kept from before (Chaudhry 2019).",
    ),
    "ewc": Entry(
        "innerloop.lifelong.methods.ewc:ewc",
        "Steps held near what earlier parts needed, by their Fisher information (Kirkpatrick 2017).",
    ),
    "class_means": Entry(
        "innerloop.lifelong.methods.class_means:class_means",
        "The nearest mean of fixed features: nothing is trained, nothing forgotten.",
    ),
}

_NAMES = {
    "OnlineLearner": "innerloop.lifelong.learner:OnlineLearner",
    "StreamReport": "innerloop.lifelong.stream_report:StreamReport",
    "learn_stream": "innerloop.lifelong.learn:learn_stream",
}


def __getattr__(name: str) -> Any:
    if name in STREAM_METHODS:
        return load("stream method", STREAM_METHODS, name)
    if name in _NAMES:
        return load("name", {name: Entry(_NAMES[name], "")}, name)
    raise AttributeError(f"module 'innerloop.lifelong' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *STREAM_METHODS, *_NAMES])
