"""One sentence a flag, where a docstring describes several settings together ("shots, queries: ...")."""

from __future__ import annotations

import re

# Shared sentence -> name -> its own. A sentence that matches none is shown with every one of its flags.
_APART: tuple[tuple[str, dict[str, str]], ...] = (
    (
        r"classes of a task; support and query drawings of each class",
        {
            "ways": "classes of a task",
            "shots": "support drawings of each class",
            "queries": "query drawings of each class",
        },
    ),
    (
        r"(\w+) of the support and of the query set",
        {"shots": r"\1 of the support set", "queries": r"\1 of the query set"},
    ),
    (
        r"those of training tasks, where they differ",
        {name: f"{name[6:]} of training tasks, where they differ" for name in ("train_shots", "train_queries")}
        | {"train_ways": "ways of training tasks, where they differ"},
    ),
    (
        r"names to adapt, or to leave out; None: all",
        {"adapt": "names to adapt; None: all", "freeze": "names not to adapt; None: none"},
    ),
    (
        r"\(low, high\) of uniform distributions; radians",
        {
            "amplitude": "(low, high) of the uniform amplitude",
            "phase": "(low, high) of the uniform phase, in radians",
            "frequency": "(low, high) of the uniform frequency",
        },
    ),
    (r"mean and standard deviation of", {"center": "mean of", "spread": "standard deviation of"}),
)


def own(name: str, sentence: str) -> str:
    """The part of a sentence about several settings that is about ``name``."""
    for pattern, each in _APART:
        if name in each:
            sentence = re.sub(pattern, each[name], sentence)
    return sentence


def readable(text: str) -> str:
    """A docstring's sentence as help: no markup, and ``None`` as what it means on a command line."""
    return re.sub(r"\bNone: ", "left out: ", text.replace("``", ""))
