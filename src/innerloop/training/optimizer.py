"""The outer optimizer: one of torch's by name or class, or what a class or function of one's own makes.

That last form is the one door for other outer updates: ``step()`` may do anything with the parameters and their ``.grad``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from innerloop.errors import ConfigError, nearest
from innerloop.meta_learner.meta_learner import MetaLearner

_BY_NAME: dict[str, type[torch.optim.Optimizer]] = {
    name.lower(): kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
}
CUSTOM = "custom "  # before the name of a class or function of one's own, in a run's files


def known_optimizer(given: Any) -> str | Callable[..., Any]:
    """A class of torch.optim as its name in lower case; a class or function of one's own as it is.

    Raises:
        ConfigError: an unknown name; the words that a run's files have for one's own; or one that cannot be used.
    """
    if isinstance(given, str):
        if given.startswith(CUSTOM):
            raise ConfigError(
                f"outer_optimizer expected {given.removeprefix(CUSTOM)} itself, which no file holds, got its name; "
                "give it again: il.fit(learner, tasks, out=RUN, resume=True, outer_optimizer=...)"
            )
        if given.lower() not in _BY_NAME:
            usable = [name for name, kind in _BY_NAME.items() if not _unusable(kind)]
            raise ConfigError(f"unknown outer_optimizer {given!r}: {nearest(given, usable)}")
        given = _BY_NAME[given.lower()]
    if given is torch.optim.Optimizer or not callable(given):
        raise ConfigError(
            "outer_optimizer expected a name of a class in torch.optim, a class, or a function groups -> Optimizer, "
            f"got {given!r}; give one of them"
        )
    if isinstance(given, type) and issubclass(given, torch.optim.Optimizer):
        _expect_usable(given)
    named = [name for name, kind in _BY_NAME.items() if kind is given]
    return named[0] if named else given


def make_optimizer(
    optimizer: Any,
    learner: MetaLearner,
    lr: float,
    rule_lr: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """The outer optimizer; one object for the whole run, never shared with the inner loop.

    Each group keeps the top of its schedule as ``peak_lr``.

    Args:
        optimizer: as `known_optimizer` takes it. A class or function of one's own is called with the list of groups, each with
            its "params" and "lr", and with ``options``; a class that takes ``lr`` is given that too.
        learner: whose parameters it moves, in one or two groups: the model's, and the method's own.
        lr: rate of the model's parameters.
        rule_lr: rate of the method's own; None: ``lr``.
        options: further arguments by name.

    Raises:
        ConfigError: as `known_optimizer`; an unknown option; or what cannot be made for these parameters.
    """
    model, own = _trained(learner)
    peak = lr if rule_lr is None else rule_lr
    groups = [{"params": model, "lr": lr, "peak_lr": lr}, {"params": own, "lr": peak, "peak_lr": peak}]
    groups = [group for group in groups if group["params"]]
    found, options = known_optimizer(optimizer), dict(options or {})
    make = _BY_NAME[found] if isinstance(found, str) else found
    name = found if isinstance(found, str) else name_of(found)
    arguments = inspect.signature(make).parameters
    _expect_arguments(name, arguments, options)
    if isinstance(make, type) and "lr" in arguments:
        options["lr"] = lr
    if found == "adam" and not {"foreach", "differentiable"} & options.keys():
        options.setdefault("fused", True)
    if isinstance(found, str):
        try:
            made = make(groups, **options)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"outer_optimizer expected one that fits this learner and outer_optimizer_options, got {name}, which says: "
                f"{' '.join(str(error).split())}; take another, or mend its options"
            ) from error
    else:
        made = make(groups, **options)
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError(
            f"outer_optimizer expected {name} to give a torch.optim.Optimizer, got {type(made).__name__}; return one"
        )
    _expect_usable(type(made))
    for group in made.param_groups:
        group.setdefault("peak_lr", group.setdefault("lr", lr))
    return made


def _trained(learner: MetaLearner) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The parameters that are trained: the model's, and the method's own."""
    rule = {id(p) for p in learner.rule.values()}
    trained = [p for p in learner.parameters() if p.requires_grad]
    return [p for p in trained if id(p) not in rule], [p for p in trained if id(p) in rule]


def name_of(own: Callable[..., Any]) -> str:
    """Where a class or function of one's own is to be found."""
    return f"{own.__module__}.{getattr(own, '__qualname__', type(own).__qualname__)}"


def _unusable(kind: type[torch.optim.Optimizer]) -> str:
    """What a meta-gradient alone cannot do for such an optimizer; empty where it is enough."""
    if issubclass(kind, torch.optim.SparseAdam):
        return "which takes sparse gradients only"
    closure = inspect.signature(kind.step).parameters.get("closure")
    needed = closure is not None and closure.default is inspect.Parameter.empty
    return "whose step needs a closure" if needed else ""


def _expect_usable(kind: type[torch.optim.Optimizer]) -> None:
    if _unusable(kind):
        raise ConfigError(
            f"outer_optimizer expected one that steps on a dense gradient, got {kind.__name__}, {_unusable(kind)}; use 'adam'"
        )


def _expect_arguments(name: str, arguments: Mapping[str, inspect.Parameter], options: Mapping[str, Any]) -> None:
    if "lr" in options:
        raise ConfigError("outer_optimizer_options expected no 'lr', which is outer_lr, got one; say outer_lr")
    if any(p.kind is p.VAR_KEYWORD for p in arguments.values()):
        return
    known = [key for key in list(arguments)[1:] if key != "lr"]
    for key in options:
        if key not in known:
            raise ConfigError(f"outer_optimizer_options: {name} has no argument {key!r}: {nearest(key, known)}")


def clipped_together(
    learner: MetaLearner, clip_norm: float | None, rule_clip_norm: float | None
) -> list[tuple[list[torch.nn.Parameter], float]]:
    """Parameters and the largest norm that their gradients may have together.

    Args:
        learner: whose parameters.
        clip_norm: of all; where ``rule_clip_norm`` is given, of the model's. None: they are not clipped.
        rule_clip_norm: of the method's own; None: these are clipped with the model's.
    """
    if clip_norm is None and rule_clip_norm is None:
        return []
    model, own = _trained(learner)
    parts = [([*model, *own], clip_norm)] if rule_clip_norm is None else [(model, clip_norm), (own, rule_clip_norm)]
    return [(together, largest) for together, largest in parts if together and largest is not None]


def clip(learner: MetaLearner, clip_norm: float | None, rule_clip_norm: float | None = None) -> None:
    """Clip the meta-gradient's norm, as `clipped_together` says; `MetaLearner.backward` has seen to it that it is finite."""
    for together, largest in clipped_together(learner, clip_norm, rule_clip_norm):
        torch.nn.utils.clip_grad_norm_(together, largest)
