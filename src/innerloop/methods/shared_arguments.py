"""What arguments mean that many methods take, said once: a factory's docstring tells only where its own differ."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping

_SENTENCES = {
    "model": "any nn.Module; copied, not changed.",
    "eval_steps": "inner steps on a new task; None: ``inner_steps``.",
    "loss": "``loss(prediction, y) -> scalar`` or a name of `il.losses.OBJECTIVES`; None: the task's own, else cross-entropy for "
    "integer and mean squared error for floating targets.",
    "inner_optimizer": '"sgd" (MAML\'s own), "momentum" (0.9) or "adam"; or an `il.UpdateRule`, whose rates are its '
    "own.",
    "adapt": "shell-style patterns of the names of parameters to adapt; None: all.",
    "freeze": "shell-style patterns of the names of parameters not to adapt; None: none.",
    "input_shape": "of one example, where it cannot be read off the model.",
    "output": "which part of what the model returns is its output, where that is no tensor: a name, an index or a function.",
}
# By the default of batch_norm: what adapts the model's weights takes statistics of the examples at hand, others running ones.
_OF_STATISTICS = {
    "batch": {
        "batch_norm": 'policy of BatchNorm layers: "batch" (statistics of the examples at hand, as MAML\'s authors), "per_step", '
        '"running", "frozen" or "none".',
        "inductive": "in evaluation, predict queries one at a time beside the support set.",
    },
    "running": {
        "batch_norm": 'policy of BatchNorm layers; "running": in meta-training the statistics of the task\'s support and query '
        "examples together, in evaluation their running mean, so it is not transductive.",
        "inductive": 'with ``batch_norm="batch"``: predict queries one at a time beside the support set.',
    },
}


def completed(docstring: str, parameters: Mapping[str, inspect.Parameter]) -> str:
    """The docstring with a sentence on each shared argument that it says nothing of, in the order of the signature.

    Without a section ``Args:`` it stays as it is.
    """
    before, args, rest = inspect.cleandoc(docstring).partition("Args:\n")
    if not args:
        return docstring
    own, end, after = rest.partition("\n\n")
    entries = re.split(r"\n(?=    \w)", own)
    told = {name: entry for entry in entries for name in entry.partition(":")[0].strip().split(", ")}
    statistics = parameters["batch_norm"].default if "batch_norm" in parameters else ""
    shared = {**_SENTENCES, **_OF_STATISTICS.get(statistics, {})}
    lines = [told.get(name) or _entry(name, shared[name]) for name in parameters if name in told or name in shared]
    return before + args + "\n".join(dict.fromkeys(lines)) + end + after


def _entry(name: str, sentence: str) -> str:
    return textwrap.fill(
        f"{name}: {sentence}", 120, initial_indent="    ", subsequent_indent=" " * 8, break_on_hyphens=False
    )
