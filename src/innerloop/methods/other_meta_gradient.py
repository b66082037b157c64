"""The same method with another estimator of its meta-gradient."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from innerloop.errors import ConfigError, nearest
from innerloop.meta_gradients import META_GRADIENTS
from innerloop.meta_gradients.compiled import CompiledGradients
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.registry import load


def with_meta_gradient(learner: MetaLearner, name: str, **options: Any) -> MetaLearner:
    """A copy of a learner that estimates its outer gradient in another way; the inner loop and the weights stay the same.

    Files and run directories remember it, so `il.load`, `fit(resume=True)` and the command line make it again.

    Args:
        learner: any MetaLearner whose own estimator is of the gradient of its outer loss (not Reptile or a baseline); it is not
            changed.
        name: "backprop", "first_order", "truncated" (``steps``), "implicit" (``cg_steps``, ``damping``; for `il.imaml`), "es"
            (``sigma``, ``num_pairs``) or "pes" (``sigma``, ``num_pairs``, ``truncation``).
        options: of the estimator, by keyword; see docs/meta-gradients.md.

    Returns:
        A new MetaLearner, with a carry of its own and no gradients.

    Raises:
        ConfigError: an unknown name or option, a value out of range, or a learner that it cannot be paired with.

    Example:
        >>> import innerloop as il
        >>> learner = il.maml(il.models.mlp(1, 1), inner_lr=0.01, inner_steps=20)
        >>> il.with_meta_gradient(learner, "truncated", steps=3).meta_gradient_spec
        {'name': 'truncated', 'options': {'steps': 3}}
    """
    make = load("meta-gradient", META_GRADIENTS, name)
    known = {p.name: p.default for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY}
    for given in options:
        if given not in known:
            hint = nearest(given, known) if known else "it has none"
            raise ConfigError(f"the meta-gradient {name} has no option {given!r}: {hint}")
    if not learner.meta_gradient.of_outer_loss:
        raise ConfigError(
            f"{learner.name} does not descend the gradient of an outer loss, so {name} cannot estimate it; use maml, say"
        )
    made = copy.deepcopy(learner)
    made.zero_grad(set_to_none=True)
    settings = {**known, **options}
    meta_gradient = make(made.learner, made.engine, **settings)
    meta_gradient.check(made.learner)
    made.meta_gradient, made.meta_gradient_spec = meta_gradient, {"name": name, "options": settings}
    made.engine.identity += f" {name} {sorted(settings.items())}"  # plans and compiled steps are of what is computed
    made.compiled = CompiledGradients()
    made._seen.clear()  # another estimator may need other derivatives of the model
    made.carry = meta_gradient.init(made.meta())
    return made
