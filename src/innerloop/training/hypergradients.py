"""Gradients of a validation loss by what a training run was set up with: rates, decay, weights of losses and of examples.

Three ways, which agree where all apply: backwards through every step (Maclaurin, Duvenaud and Adams 2015, arXiv:1502.03492),
forwards beside every step (Franceschi et al. 2017, arXiv:1703.01785), and by the implicit function theorem at the minimum that
training has come to (Lorraine, Vicol and Duvenaud 2020, arXiv:1911.02590).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop.core import inner_loop
from innerloop.engine.recompute import recomputing
from innerloop.errors import ConfigError, DivergedError, expect_whole, nearest
from innerloop.functional import inner_gradient
from innerloop.meta_gradients.conjugate_gradient import conjugate_gradient, dot
from innerloop.rules.tuned import BASE_RULES, Hyper, base_update, begin_base

_READS = {
    "sgd": ("lr", "weight_decay"),
    "momentum": ("lr", "momentum", "weight_decay"),
    "adam": ("lr", "beta1", "beta2", "weight_decay"),
}
_RATES = {"sgd": 0.1, "momentum": 0.1, "adam": 0.01}
_MOST_FORWARD = 100  # numbers in hyper, each of which is one more run beside the run
_AT_REST = 1e-3  # a gradient of this share of the first one is that of a minimum
_SOLVED = 1e-3  # likewise of what is left of the equations
_KEPT_WHOLE = 32  # steps whose whole graph is kept

Values = dict[str, Tensor]
Losses = tuple[Callable[[Values, Any, int], Tensor], Callable[[Values, Any], Tensor]]


def hypergradients(
    hyper: Any,
    train_loss: Callable[..., Tensor],
    valid_loss: Callable[..., Tensor],
    *,
    steps: int,
    params: Mapping[str, Tensor] | nn.Module | None = None,
    optimizer: Literal["sgd", "momentum", "adam"] = "sgd",
    lr: float | None = None,
    method: Literal["backprop", "forward", "implicit"] = "backprop",
    recompute: bool | None = None,
    solver_steps: int = 100,
    with_loss: bool = False,
    check: bool = True,
) -> Any:
    """The gradient of ``valid_loss`` after a training run by every tensor in ``hyper``, in hyper's own shape.

    The run takes ``steps`` steps of ``optimizer`` on ``train_loss`` from ``params``. Entries of ``hyper`` named "lr",
    "momentum", "beta1", "beta2" and "weight_decay" (decoupled) are the optimizer's, as far as it has them: a number, or a
    dictionary with one for each parameter. An entry "params" is where the run begins, if ``params`` is not given. All entries are
    given to the losses.

    Args:
        hyper: a dictionary of tensors, or any pytree of them; those of a floating dtype are differentiated by.
        train_loss: ``f(weights, hyper, step)`` or ``f(weights, hyper)``, a scalar. It must be pure: whatever is drawn in it
            follows from ``step``.
        valid_loss: ``f(weights)`` or ``f(weights, hyper)``, a scalar.
        steps: of the run, at least 1.
        params: a dictionary of tensors, which the losses are given as ``weights``; or a module, at which they are then given a
            function: ``weights(x)`` is the module's output, ``weights.params`` the dictionary.
        optimizer: "sgd", "momentum" or "adam" (whose eps of 1e-8 stands inside the root, see `rules.Adam`).
        lr: its rate where ``hyper`` has none; None: 0.1, for Adam 0.01.
        method: "backprop": exact; the weights of every step are kept. "forward": exact; memory does not grow with the steps, time
            does with the numbers in ``hyper``, of which there may be 100. "implicit": where the run has come to rest at a minimum
            of ``train_loss`` that depends on ``hyper`` and not on the way there; no step is kept.
        recompute: backprop keeps one state in some steps and computes the rest again; None: from 33 steps on.
        solver_steps: implicit: most steps of conjugate gradients.
        with_loss: give ``(valid loss, gradients)``.
        check: see first, by one step, whether something reads every entry of ``hyper``. Where short runs are taken in a loop, the
            first will do.

    Returns:
        Tensors in hyper's shape; zeros for what is not of a floating dtype.

    Raises:
        ConfigError: something in ``hyper`` that no loss and no optimizer reads; for "implicit" a run that is not at rest, or
            something that does not enter ``train_loss``.
        DivergedError: a loss or gradient that is not finite.

    Example:
        >>> import torch, innerloop as il
        >>> x, y = torch.randn(20, 3), torch.randn(20)
        >>> hyper = {"lr": torch.tensor(0.1), "weights": torch.ones(20)}
        >>> train = lambda w, h: (h["weights"] * (x @ w["w"] - y) ** 2).mean()
        >>> grads = il.hypergradients(hyper, train, lambda w: (w["w"] ** 2).sum(), steps=5, params={"w": torch.zeros(3)})
        >>> grads["weights"].shape
        torch.Size([20])
    """
    expect_whole("steps", steps)
    expect_whole("solver_steps", solver_steps)
    for name, value, known in (("optimizer", optimizer, BASE_RULES), ("method", method, tuple(_METHODS))):
        if value not in known:
            raise ConfigError(f"{name} expected one of {', '.join(known)}, got {value!r}: {nearest(str(value), known)}")
    leaves, spec = pytree.tree_flatten(hyper)
    if not all(isinstance(leaf, Tensor) for leaf in leaves):
        odd = next(leaf for leaf in leaves if not isinstance(leaf, Tensor))
        raise ConfigError(
            f"hyper expected tensors alone, got {type(odd).__name__}; make numbers tensors: torch.tensor({odd!r})"
        )
    run = _Run(train_loss, valid_loss, steps, params, hyper, optimizer, lr)
    places = [i for i, leaf in enumerate(leaves) if leaf.is_floating_point()]
    if not places:
        raise ConfigError("hyper expected at least one tensor of a floating dtype, got none")

    def whole(floats: Sequence[Tensor]) -> Any:
        every = [leaf.detach() for leaf in leaves]
        for i, value in zip(places, floats, strict=True):
            every[i] = value
        return pytree.tree_unflatten(every, spec)

    floats = [leaves[i].detach() for i in places]
    if check:
        _expect_read(run, whole, floats, hyper)
    keep = steps > _KEPT_WHOLE if recompute is None else recompute
    loss, found = _METHODS[method](run, whole, floats, keep, solver_steps, hyper)
    if not all(bool(torch.isfinite(v).all()) for v in (loss, *found)):
        raise DivergedError(
            f"the run of {steps} steps gave a loss or gradient that is not finite; lower the rate, or take fewer steps"
        )
    grads = [torch.zeros_like(leaf) for leaf in leaves]
    for i, g in zip(places, found, strict=True):
        grads[i] = g.detach()
    result = pytree.tree_unflatten(grads, spec)
    return (loss.detach(), result) if with_loss else result


class _At:
    """A module at given weights."""

    def __init__(self, module: nn.Module, params: Values) -> None:
        self.module, self.params = module, params

    def __call__(self, *x: Any) -> Any:
        return torch.func.functional_call(self.module, self.params, x)


class _Run:
    """A training run, as functions of what it was set up with."""

    def __init__(
        self,
        train_loss: Callable[..., Tensor],
        valid_loss: Callable[..., Tensor],
        steps: int,
        params: Mapping[str, Tensor] | nn.Module | None,
        hyper: Any,
        optimizer: str,
        lr: float | None,
    ) -> None:
        self.steps, self.optimizer, self.lr = steps, optimizer, _RATES[optimizer] if lr is None else lr
        self.module = params if isinstance(params, nn.Module) else None
        named = isinstance(hyper, Mapping)
        given = dict(params.named_parameters()) if isinstance(params, nn.Module) else params
        if given is None and not (named and isinstance(hyper.get("params"), Mapping)):
            raise ConfigError(
                "expected the weights where training begins, got none; give params=..., a module or a dictionary of tensors, or "
                'hyper an entry "params"'
            )
        self.params = None if given is None else {name: p.detach() for name, p in given.items()}
        self.read = [name for name in _READS[optimizer] if named and name in hyper]
        self._train, self._valid = train_loss, valid_loss
        self._with_step = _takes(train_loss, 3)
        self._with_hyper = _takes(valid_loss, 2)

    def begin(self, hyper: Any) -> Values:
        return dict(hyper["params"]) if self.params is None else self.params

    def train(self, params: Values, hyper: Any, step: int) -> Tensor:
        return _scalar("train_loss", self._train(self._weights(params), hyper, *([step] if self._with_step else [])))

    def valid(self, params: Values, hyper: Any) -> Tensor:
        return _scalar("valid_loss", self._valid(self._weights(params), *([hyper] if self._with_hyper else [])))

    def _weights(self, params: Values) -> Any:
        return params if self.module is None else _At(self.module, params)

    def step(self, state: Any, hyper: Any, i: int) -> Any:
        """One step of the optimizer."""
        params, kept = state
        grads, _ = inner_gradient(lambda p: (self.train(p, hyper, i), ()), params, first_order=False)
        return base_update(self.optimizer, grads, kept, params, self._settings(params, hyper))

    def _settings(self, params: Values, hyper: Any) -> dict[str, Hyper]:
        own = {name: hyper[name] for name in self.read}
        if "lr" not in own:
            own["lr"] = self.lr

        def of(name: str) -> Hyper:
            return Hyper(**{k: v[name] if isinstance(v, Mapping) else v for k, v in own.items()})

        try:
            return {name: of(name) for name in params}
        except KeyError as error:
            raise ConfigError(
                f"hyper has a dictionary of rates without the parameter {error}; name every one"
            ) from None

    def end(self, hyper: Any, steps: int | None = None) -> Values:
        """The weights after the run."""
        begun = self.begin(hyper)
        state = begun, begin_base(self.optimizer, begun)
        return inner_loop(self.step, state, hyper, self.steps if steps is None else steps)[0]


def _takes(function: Callable[..., Any], number: int) -> bool:
    """Whether a function takes so many arguments by their place."""
    try:
        kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return False
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return True
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(kind in by_place for kind in kinds) >= number


def _scalar(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(f"{name} expected a scalar tensor, got {got}; take its mean or sum")
    return value.reshape(())


def _names(hyper: Any) -> list[str]:
    """Of the floating tensors in ``hyper``, in their order, how a user calls them."""
    found, _ = pytree.tree_flatten_with_path(hyper)

    def called(path: Sequence[Any]) -> str:
        parts = [getattr(k, "key", getattr(k, "idx", getattr(k, "name", k))) for k in path]
        return ".".join(map(str, parts)) or "hyper"

    return [called(path) for path, leaf in found if leaf.is_floating_point()]


def _expect_read(run: _Run, whole: Callable[..., Any], floats: Sequence[Tensor], hyper: Any) -> None:
    """That a step or the validation loss depends on each: what neither reads is a slip of the pen."""
    with torch.enable_grad():
        here = [v.clone().requires_grad_() for v in floats]
        loss = run.valid(run.end(whole(here), 1), whole(here))
        if not loss.requires_grad:
            raise ConfigError("expected a validation loss that depends on the weights, got one that depends on nothing")
        found = torch.autograd.grad(loss, here, allow_unused=True)
    for name, g in zip(_names(hyper), found, strict=True):
        if g is None:
            read = ", ".join(_READS[run.optimizer])
            raise ConfigError(
                f"nothing reads {name!r} of hyper: expected it in train_loss or valid_loss, or one of what {run.optimizer} has: "
                f"{read}; use it or leave it out"
            )


Found = tuple[Tensor, Sequence[Tensor]]


def _backprop(
    run: _Run, whole: Callable[..., Any], floats: Sequence[Tensor], keep: bool, solver_steps: int, hyper: Any
) -> Found:
    del solver_steps, hyper
    with torch.enable_grad(), recomputing(keep):
        here = [v.clone().requires_grad_() for v in floats]
        given = whole(here)
        loss = run.valid(run.end(given), given)
        return loss, torch.autograd.grad(loss, here, allow_unused=True, materialize_grads=True)


def _forward(
    run: _Run, whole: Callable[..., Any], floats: Sequence[Tensor], keep: bool, solver_steps: int, hyper: Any
) -> Found:
    """One run with a direction for each number beside it."""
    del keep, solver_steps, hyper
    sizes = [v.numel() for v in floats]
    if sum(sizes) > _MOST_FORWARD:
        raise ConfigError(
            f'method "forward" expected at most {_MOST_FORWARD} numbers in hyper, got {sum(sizes)}; use method="backprop"'
        )

    def loss(flat: Tensor) -> tuple[Tensor, Tensor]:
        parts = [part.view_as(v).to(v.dtype) for part, v in zip(flat.split(sizes), floats, strict=True)]
        given = whole(parts)
        value = run.valid(run.end(given), given)
        return value, value

    flat = torch.cat([v.reshape(-1) for v in floats])
    slopes, value = torch.func.jacfwd(loss, has_aux=True)(flat)
    return value, [part.view_as(v).to(v.dtype) for part, v in zip(slopes.split(sizes), floats, strict=True)]


def _implicit(
    run: _Run, whole: Callable[..., Any], floats: Sequence[Tensor], keep: bool, solver_steps: int, hyper: Any
) -> Found:
    """``dV/dh - (d2L/dh dw) (d2L/dw2)^-1 dV/dw`` at the weights that the run ends with."""
    del keep
    with torch.no_grad():
        plain = whole(floats)
        begun = run.begin(plain)
        ended = run.end(plain)
    first, last = (_slope(run, at, plain) for at in (begun, ended))
    share = float((dot(last, last) / dot(first, first).clamp(min=1e-300)).sqrt())
    if not share <= _AT_REST:
        raise ConfigError(
            f'method "implicit" expected a run that has come to rest, got a gradient of {share:.2g} times the first one; take '
            'more steps, or method="backprop"'
        )
    with torch.enable_grad():
        here = [v.clone().requires_grad_() for v in floats]
        params = {name: p.detach().requires_grad_() for name, p in ended.items()}
        given = whole(here)
        value = run.valid(params, given)
        names = list(params)
        direct = torch.autograd.grad(value, [*here, *params.values()], allow_unused=True)
        by_weights = zip(params.items(), direct[len(here) :], strict=True)
        right = {name: torch.zeros_like(p) if g is None else g for (name, p), g in by_weights}
        loss = run.train(params, given, run.steps)
        slopes = torch.autograd.grad(loss, list(params.values()), create_graph=True, materialize_grads=True)

        def product(v: Values) -> Values:
            found = torch.autograd.grad(
                slopes,
                list(params.values()),
                list(v.values()),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            return dict(zip(names, found, strict=True))

        solution, left = conjugate_gradient(product, right, solver_steps)
        short = float((left / dot(right, right).clamp(min=1e-300)).sqrt())
        if not short <= _SOLVED:
            raise ConfigError(
                f"the equations of the implicit gradient expected {solver_steps} steps to solve them, got {short:.2g} left of 1; "
                'raise solver_steps, add weight decay to train_loss, or use method="backprop"'
            )
        mixed = torch.autograd.grad(slopes, here, list(solution.values()), allow_unused=True)
    for name, by_train, by_valid in zip(_names(hyper), mixed, direct[: len(here)], strict=True):
        if by_train is None and by_valid is None:
            raise ConfigError(
                f'method "implicit" expected {name!r} in train_loss, whose minimum does not depend on it otherwise; leave it '
                'out, or use method="backprop"'
            )
    none = torch.zeros(())
    pairs = zip(here, mixed, direct[: len(here)], strict=True)
    return value, [torch.zeros_like(v) + (none if d is None else d) - (none if m is None else m) for v, m, d in pairs]


def _slope(run: _Run, params: Values, hyper: Any) -> Values:
    grads, _ = inner_gradient(lambda p: (run.train(p, hyper, run.steps), ()), params, first_order=True)
    return grads


_METHODS: dict[str, Callable[..., Found]] = {"backprop": _backprop, "forward": _forward, "implicit": _implicit}
