"""What the factories share: recording their arguments, checking them, and pairing a gradient learner with an estimator."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, ParamSpec, Protocol, overload

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.core import BaseLearner, MetaGradient, UpdateRule
from innerloop.engine import Engine
from innerloop.errors import ConfigError, expect_whole, nearest
from innerloop.functional import PureModel, check_model
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.outputs import Output, choosing
from innerloop.functional.pure import head_module, registered_names, select
from innerloop.learners import GradientLearner
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.shared_arguments import completed
from innerloop.methods.traits import Traits
from innerloop.objectives import losses
from innerloop.registry import arguments
from innerloop.rules import SGD, Adam

P = ParamSpec("P")
InnerOptimizer = Literal["sgd", "momentum", "adam"] | UpdateRule
LossArgument = str | losses.Loss | None

# torch's own losses may be named in a file; anybody else's function cannot be, and is asked for again on loading.
_TORCH_LOSSES: dict[str, losses.Loss] = {
    f"torch.{f.__name__}": f
    for f in (
        F.cross_entropy,
        F.mse_loss,
        F.l1_loss,
        F.smooth_l1_loss,
        F.huber_loss,
        F.binary_cross_entropy_with_logits,
    )
}


def loss_name(loss: LossArgument) -> str | None:
    """How a loss is written in a file."""
    if loss is None or isinstance(loss, str):
        return loss
    for known in (losses.OBJECTIVES, _TORCH_LOSSES):
        for name, function in known.items():
            if function is loss:
                return name
    return f"custom:{getattr(loss, '__qualname__', type(loss).__name__)}"


def named_loss(name: LossArgument) -> LossArgument:
    """The loss that a file names; a custom one becomes a function that asks for it."""
    if not isinstance(name, str):
        return None if name is None else losses.as_function(name)
    if name in _TORCH_LOSSES:
        return _TORCH_LOSSES[name]
    if name.startswith("custom:"):

        def missing(prediction: Any, y: Any) -> Any:
            raise ConfigError(
                f"this learner was trained with the loss function {name[7:]!r}; give it again: il.load(path, loss=...)"
            )

        return missing
    if name not in losses.OBJECTIVES:
        raise ConfigError(f"unknown loss {name!r}: {nearest(name, [*losses.OBJECTIVES, *_TORCH_LOSSES])}")
    return name


def named_output(output: Output) -> Output:
    """The output that a file names; a function becomes one that asks for it."""
    if not isinstance(output, str) or not output.startswith("custom:"):
        return output

    def missing(returned: Any) -> Any:
        raise ConfigError(
            f"this learner's output was picked by the function {output[7:]!r}; give it again: il.load(path, output=...)"
        )

    return missing


class Factory(Protocol[P]):
    """A method: its factory's arguments and ``output``, and what it says of itself."""

    settings: Callable[[str], dict[str, dict[str, Any]]]
    from_targets: Mapping[str, Callable[[Tensor, Mapping[str, Any]], Any]]
    traits: Traits

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> MetaLearner: ...
    @overload
    def __call__(self, *args: Any, output: Output, **kwargs: Any) -> MetaLearner: ...


def _described(made: Any, factory: Callable[..., Any]) -> None:
    """Show ``output=`` among a method's arguments, which all of them take, and a sentence on each in its docstring."""
    signature = inspect.signature(factory)
    shared = inspect.Parameter("output", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Output)
    made.__signature__ = signature.replace(parameters=[*signature.parameters.values(), shared])
    made.__annotations__ = {**factory.__annotations__, "output": Output}
    made.__doc__ = completed(factory.__doc__ or "", made.__signature__.parameters)


def method(
    *,
    classification: Mapping[str, Any] | None = None,
    regression: Mapping[str, Any] | None = None,
    classification_tasks: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    regression_tasks: Mapping[str, Any] | None = None,
    brings_networks: bool = False,
    from_targets: Mapping[str, Callable[[Tensor, Mapping[str, Any]], Any]] | None = None,
    newer: Collection[str] = (),
    words: Mapping[str, Sequence[str]] | None = None,
    declares: Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, MetaLearner]], Factory[P]]:
    """Make a function a method: its arguments are checked and recorded, and it carries recommended settings.

    Args:
        classification, regression: arguments of the method that suit such problems better than its defaults.
        classification_tasks, regression_tasks: arguments of the problem, such as more training ways.
        model: arguments of the model, such as no last layer; ``name`` for another one than the problem's.
        brings_networks: the method has networks of its own, so that a model without parameters will do.
        from_targets: arguments that are made from floating targets of the problem's training tasks where nobody gave them:
            ``{name: f(targets, arguments)}``, the targets in one row.
        newer: arguments that older files do not have, and none has where they are at their defaults.
        words: arguments that are one of these words, whatever they are in other methods.
        declares: where it differs from the defaults of `Traits`.
    """
    traits = Traits(**(declares or {}), needs_parameters=not brings_networks)
    recommended = {
        "classification": {
            "algorithm": dict(classification or {}),
            "tasks": dict(classification_tasks or {}),
            "model": dict(model or {}),
        },
        "regression": {
            "algorithm": dict(regression or {}),
            "tasks": dict(regression_tasks or {}),
            "model": dict(model or {}),
        },
    }

    def decorate(factory: Callable[P, MetaLearner]) -> Factory[P]:
        usual = {name: p.default for name, p in inspect.signature(factory).parameters.items()}

        @functools.wraps(factory)
        def make(*args: P.args, **kwargs: P.kwargs) -> MetaLearner:
            kwargs = {k: v.item() if isinstance(v, np.generic) else v for k, v in kwargs.items()}  # type: ignore[assignment]
            output: Any = kwargs.pop("output", None)
            options = arguments(factory, f"{factory.__name__}(model, option=value, ...)", args, kwargs)
            check_model(options.pop("model"), needs_parameters=not brings_networks)
            given = {n: v for n, v in options.items() if v is not None or usual[n] is not None}
            for name, choices in (words or {}).items():
                expect_choice(name, given.pop(name, None), choices)
            check_options(given)
            if callable(options.get("loss")):
                options["loss"] = losses.as_function(options["loss"])
            if "loss" in options:
                kwargs["loss"] = named_loss(options["loss"])  # type: ignore[arg-type]
            with choosing(named_output(output)):
                learner = factory(*args, **kwargs)
            kept = {k: written(k, v) for k, v in options.items() if k not in newer or v != usual[k]}
            if output is not None:  # files from before it have none
                kept["output"] = written("output", output)
            learner.made_by(factory.__name__, kept)
            return learner

        _described(make, factory)
        made: Any = make
        made.settings = lambda kind: {k: dict(v) for k, v in recommended[kind].items()}
        made.from_targets, made.traits = dict(from_targets or {}), traits
        return made

    return decorate


def written(option: str, value: Any) -> Any:
    """An option as a file holds it; a function or rule of the user's own as ``custom:`` and its name, to be asked for again."""
    if option == "loss":
        return loss_name(value)
    if option == "output" and callable(value):
        return f"custom:{getattr(value, '__qualname__', type(value).__name__)}"
    if isinstance(value, UpdateRule):
        return f"custom:{type(value).__qualname__}"
    return list(value) if isinstance(value, tuple) else value


def check_options(options: Mapping[str, Any]) -> None:
    """The checks that hold for every method's arguments."""
    for name, value in options.items():
        if name == "inner_lr" and not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
            raise ConfigError(f"inner_lr expected a finite number of at least 0, got {value!r}")
        low = {"inner_steps": 0, "eval_steps": 0, "inner_batch": 1, "eval_batch": 1}.get(name)
        if low is not None and value is not None:
            expect_whole(name, value, low)
        if name == "inner_optimizer" and not isinstance(value, UpdateRule):
            expect_choice(name, value, ("sgd", "momentum", "adam"))
        if name == "batch_norm":
            expect_choice(name, value, ("batch", "per_step", "running", "frozen", "none"))
        if name in ("adapt", "freeze", "head") and isinstance(value, str) and value not in ("all", "head"):
            raise ConfigError(f"{name} expected a list of name patterns, got the string {value!r}; write [{value!r}]")
        if name == "loss" and not (value is None or isinstance(value, str) or callable(value)):
            raise ConfigError(f"loss expected a function loss(prediction, y) or a name, got {type(value).__name__}")


def expect_label_loss(loss: LossArgument) -> None:
    """Raise ConfigError for a loss that is known not to be one of logits (queries, ways) and integer labels."""
    if loss in ("mse", losses.mse, F.mse_loss) or losses.is_binary(loss):
        name = loss if isinstance(loss, str) else getattr(loss, "__name__", repr(loss))
        raise ConfigError(
            f"loss expected one for logits (queries, ways) and integer labels, such as 'cross_entropy', got {name!r}; "
            "leave it out"
        )


def expect_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ConfigError when an argument is none of these words."""
    if value not in choices:
        raise ConfigError(f"{name} expected one of {', '.join(choices)}, got {value!r}: {nearest(str(value), choices)}")


def checked_outputs(outputs: int | None, features: int, min_sd: float = 0.0) -> int:
    """How many outputs there are; ConfigError for fewer than one, or for a least standard deviation that cannot be."""
    if not (math.isfinite(min_sd) and 0 <= min_sd < 1):
        raise ConfigError(
            f"min_sd expected a number from 0 to below 1, got {min_sd}; scale the targets if they vary less"
        )
    found = features if outputs is None else outputs
    if found < 1:
        raise ConfigError(f"outputs expected at least 1, got {found}; give the numbers in a target, or the classes")
    return found


def inner_rule(name: InnerOptimizer, lr: float, beta1: float = 0.9) -> UpdateRule:
    """The inner optimizer by name: plain SGD, SGD with momentum 0.9, or Adam; a rule of the user's own is taken as it is."""
    if isinstance(name, UpdateRule):
        return name
    if name == "adam":
        return Adam(lr, beta1=beta1)
    return SGD(lr, momentum=0.9 if name == "momentum" else 0.0)


def head_patterns(model: nn.Module) -> list[str]:
    """Patterns for the parameters of the model's last layer."""
    head = head_module(model)
    names = registered_names(model)
    every = {name for name, _ in model.named_parameters()}
    own = [names[name] for name in names if name.rpartition(".")[0] == head and names[name] in every]
    found = list(dict.fromkeys(own)) if head else list(every)
    if len(found) == len(every):
        raise ConfigError("the model is one layer: it has no body beside its head; use maml or a deeper model")
    return found


def gradient_method(
    model: nn.Module,
    *,
    rule: UpdateRule,
    inner_steps: int,
    eval_steps: int | None,
    loss: LossArgument,
    adapt: Sequence[str] | None,
    freeze: Sequence[str] | None,
    batch_norm: BatchNormPolicy,
    estimate: Callable[[GradientLearner, Engine], MetaGradient],
    outer: Outer,
    inductive: bool = False,
    learner: type[GradientLearner] = GradientLearner,
    per_step_norms: bool = False,
    **more: Any,
) -> MetaLearner:
    """A MetaLearner that adapts by gradients: the pairing of ``learner`` x ``rule`` x ``estimate``."""

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        per_step = tuple(pure.norm_parameters()) if per_step_norms else ()
        trainable = [n for n, p in pure.module.named_parameters() if p.requires_grad and n not in per_step]
        made = learner(
            model=pure,
            rule=rule,
            adapted=select(trainable, adapt, freeze, pure.names),
            inner_steps=inner_steps,
            eval_steps=inner_steps if eval_steps is None else eval_steps,
            loss=loss,
            per_step=per_step,
            **more,
        )
        return made, estimate(made, engine)

    return MetaLearner(
        "",
        {},
        model,
        pair,
        outer=outer,
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
        norm_rows=inner_steps + 1,
    )


def backprop_method(
    name: str,
    model: nn.Module,
    learner: Callable[[PureModel], BaseLearner],
    *,
    outer: Outer,
    loss: LossArgument,
    batch_norm: BatchNormPolicy,
    inductive: bool,
) -> MetaLearner:
    """A MetaLearner that is trained by backprop through all that it does, with no update rule: ``learner`` x `Backprop`."""

    def pair(pure: PureModel, engine: Engine) -> tuple[BaseLearner, MetaGradient]:
        made = learner(pure)
        return made, Backprop(made, engine)

    return MetaLearner(name, {}, model, pair, outer=outer, loss=loss, batch_norm=batch_norm, inductive=inductive)
