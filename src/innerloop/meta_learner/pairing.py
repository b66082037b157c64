"""What a MetaLearner is made of: a learner and a meta-gradient, by a method's factory or by somebody's own parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from innerloop.core import BaseLearner, MetaGradient, UpdateRule
from innerloop.engine import Engine
from innerloop.errors import ConfigError
from innerloop.functional import PureModel

Pairing = Callable[[PureModel, Engine], tuple[BaseLearner, MetaGradient]]


def own_pairing(
    learner: Callable[[PureModel, Any], BaseLearner],
    meta_gradient: Callable[[Any, Engine], MetaGradient],
    rule: UpdateRule | None,
) -> Pairing:
    """The pairing of somebody's own parts; see `MetaLearner.of`.

    Raises:
        ConfigError: a rule that is none, here; a factory that makes something else, when it is called.
    """
    if rule is not None and not isinstance(rule, UpdateRule):
        raise ConfigError(f"rule expected an il.UpdateRule, such as il.rules.SGD(0.01), got {type(rule).__name__}")

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        made = learner(pure, rule)
        _expect_made(made, BaseLearner, "learner(pure_model, rule)")
        estimator = meta_gradient(made, engine)
        _expect_made(estimator, MetaGradient, "meta_gradient(learner, engine)")
        return made, estimator

    return pair


def _expect_made(made: object, kind: type, factory: str) -> None:
    if not isinstance(made, kind):
        raise ConfigError(f"{factory} expected to return an il.{kind.__name__}, got {type(made).__name__}")
